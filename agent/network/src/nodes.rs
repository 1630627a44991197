//! PURE: the routes between nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// Where packets to a network go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// To another node on the same link.
    Via(IpAddr),
    /// Nowhere: the sender is told at once. For the node's own ranges, of which every address in
    /// use has a route of its own, so that nothing leaves by the default route.
    Unreachable,
}

/// What matters of a Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// Its name.
    pub(crate) name: String,
    /// Its internal addresses.
    pub(crate) internal_ips: Vec<IpAddr>,
    /// The ranges of its pods.
    pub(crate) pod_cidrs: Vec<IpNet>,
}

impl NodeFacts {
    /// What matters of a Node object; what does not parse is left out.
    pub(crate) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let mut pod_cidrs: Vec<IpNet> = spec
            .and_then(|spec| spec.pod_cidrs.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|cidr| cidr.parse().ok())
            .collect();
        if pod_cidrs.is_empty() {
            let only = spec.and_then(|spec| spec.pod_cidr.as_ref());
            pod_cidrs.extend(only.and_then(|cidr| cidr.parse::<IpNet>().ok()));
        }
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            internal_ips: internal.filter_map(|address| address.address.parse().ok()).collect(),
            pod_cidrs,
        }
    }
}

/// The routes of the node `own_name`: to the pods of every other node by that node's address of the
/// same family, and none to what is unused of the node's own ranges and of the Services'.
pub(crate) fn routes(
    nodes: &[NodeFacts],
    own_name: &str,
    service_cidrs: &[IpNet],
) -> BTreeMap<IpNet, Hop> {
    let mut routes = BTreeMap::new();
    routes.extend(service_cidrs.iter().map(|cidr| (cidr.trunc(), Hop::Unreachable)));
    for node in nodes {
        for cidr in &node.pod_cidrs {
            let is_v6 = matches!(cidr, IpNet::V6(_));
            let same_family = node.internal_ips.iter().find(|ip| ip.is_ipv6() == is_v6);
            let hop = match same_family {
                _ if node.name == own_name => Hop::Unreachable,
                Some(ip) => Hop::Via(*ip),
                None => continue,
            };
            routes.insert(cidr.trunc(), hop);
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ips: &[&str], cidrs: &[&str]) -> NodeFacts {
        NodeFacts {
            name: name.to_owned(),
            internal_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn pods_of_other_nodes_are_reached_by_their_node_in_each_family() {
        let nodes = [
            node("n1", &["192.168.7.1", "fd07::1"], &["10.244.0.0/24", "fd00:0::/64"]),
            node("n2", &["192.168.7.2", "fd07::2"], &["10.244.1.0/24", "fd00:1::/64"]),
            node("not-ready-yet", &[], &["10.244.2.0/24"]),
            node("no-range-yet", &["192.168.7.4"], &[]),
        ];
        let routes = routes(&nodes, "n1", &["10.96.0.0/16".parse().unwrap()]);
        let text: Vec<String> = routes.iter().map(|(net, hop)| format!("{net} {hop:?}")).collect();
        assert_eq!(
            text,
            [
                "10.96.0.0/16 Unreachable",
                "10.244.0.0/24 Unreachable",
                "10.244.1.0/24 Via(192.168.7.2)",
                "fd00::/64 Unreachable",
                "fd00:1::/64 Via(fd07::2)",
            ]
        );
    }

    #[test]
    fn a_node_object_of_one_family_may_only_have_the_old_field() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "n2" }, "spec": { "podCIDR": "10.244.1.0/24" },
            "status": { "addresses": [
                { "type": "Hostname", "address": "n2" },
                { "type": "InternalIP", "address": "192.168.7.2" },
            ] },
        }))
        .unwrap();
        let facts = NodeFacts::of(&node);
        assert_eq!(facts, self::node("n2", &["192.168.7.2"], &["10.244.1.0/24"]));
    }
}
