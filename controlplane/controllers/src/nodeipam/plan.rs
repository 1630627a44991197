//! Which node gets which range. PURE.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use informer::{Action, EventType, Object, Occurrence};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::controller::Plan;

/// A node's ranges.
pub(super) fn cidrs(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let mut all = spec.pod_cidrs.clone().unwrap_or_default();
    if all.is_empty() {
        all.extend(spec.pod_cidr.clone());
    }
    all
}

pub(super) fn plan(ranges: &[(IpNet, u8)], nodes: &[Arc<Node>]) -> Plan {
    let mut taken: BTreeSet<IpNet> =
        nodes.iter().flat_map(|node| cidrs(node)).filter_map(|text| text.parse().ok()).collect();
    let mut plan = Plan::nothing();
    let without = nodes.iter().filter(|node| cidrs(node).is_empty() && !node.is_terminating());
    for node in without {
        let free: Option<Vec<IpNet>> =
            ranges.iter().map(|(range, prefix)| first_free(*range, *prefix, &taken)).collect();
        let Some(free) = free.filter(|free| !free.is_empty()) else {
            if !ranges.is_empty() {
                let text = format!("Node {} status is now: CIDRNotAvailable", node.key().name);
                let kind = EventType::Normal;
                plan.events.push(Occurrence::of(&**node, kind, "CIDRNotAvailable", text));
            }
            continue;
        };
        taken.extend(&free);
        let all: Vec<String> = free.iter().map(ToString::to_string).collect();
        let body = json!({
            // Another controller may have been faster: then this must fail.
            "metadata": {"uid": node.uid(), "resourceVersion": node.metadata.resource_version},
            "spec": {"podCIDR": all[0], "podCIDRs": all},
        });
        plan.steps.push(Action::merge::<Node>(node.key(), body).into());
    }
    plan
}

/// The lowest share of a range that overlaps nothing taken.
fn first_free(range: IpNet, prefix: u8, taken: &BTreeSet<IpNet>) -> Option<IpNet> {
    let mut candidate = IpNet::new(range.trunc().addr(), prefix).ok()?;
    loop {
        if !range.contains(&candidate) {
            return None;
        }
        let overlaps = |other: &IpNet| other.contains(&candidate) || candidate.contains(other);
        if !taken.iter().any(overlaps) {
            return Some(candidate);
        }
        candidate = next(candidate)?;
    }
}

/// The share after this one.
fn next(net: IpNet) -> Option<IpNet> {
    let addr = match net.addr() {
        IpAddr::V4(addr) => {
            let size = 1_u32.checked_shl(u32::from(32 - net.prefix_len()))?;
            IpAddr::V4(Ipv4Addr::from(u32::from(addr).checked_add(size)?))
        }
        IpAddr::V6(addr) => {
            let size = 1_u128.checked_shl(u32::from(128 - net.prefix_len()))?;
            IpAddr::V6(Ipv6Addr::from(u128::from(addr).checked_add(size)?))
        }
    };
    IpNet::new(addr, net.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use informer::Verb;
    use k8s_openapi::api::core::v1::NodeSpec;

    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.spec = Some(NodeSpec { pod_cidr: cidr.map(Into::into), ..NodeSpec::default() });
        Arc::new(node)
    }

    fn given(ranges: &[(&str, u8)], nodes: &[Arc<Node>]) -> Vec<String> {
        let ranges: Vec<_> =
            ranges.iter().map(|(net, prefix)| (net.parse().unwrap(), *prefix)).collect();
        let one = |step: crate::controller::Step| match step.action.verb {
            Verb::Patch { body, .. } => format!("{} {}", step.action.key, body["spec"]["podCIDRs"]),
            other => panic!("unexpected {other:?}"),
        };
        plan(&ranges, nodes).steps.into_iter().map(one).collect()
    }

    #[test]
    fn nodes_without_a_range_get_the_lowest_free_one() {
        let nodes = [node("n1", Some("10.244.1.0/24")), node("n2", None), node("n3", None)];
        assert_eq!(
            given(&[("10.244.0.0/16", 24)], &nodes),
            [r#"n2 ["10.244.0.0/24"]"#, r#"n3 ["10.244.2.0/24"]"#]
        );
    }

    #[test]
    fn dual_stack_gives_one_of_each() {
        assert_eq!(
            given(&[("10.244.0.0/16", 24), ("fd00::/48", 64)], &[node("n1", None)]),
            [r#"n1 ["10.244.0.0/24","fd00::/64"]"#]
        );
    }

    #[test]
    fn odd_shares_in_use_are_not_overlapped() {
        let nodes = [node("n1", Some("10.244.0.128/25")), node("n2", None)];
        assert_eq!(given(&[("10.244.0.0/16", 24)], &nodes), [r#"n2 ["10.244.1.0/24"]"#]);
    }

    #[test]
    fn a_full_range_gives_nothing_and_says_so() {
        let nodes = [node("n1", Some("10.0.0.0/24")), node("n2", None)];
        let plan = plan(&[("10.0.0.0/24".parse().unwrap(), 24)], &nodes);
        assert!(plan.steps.is_empty());
        assert_eq!(plan.events[0].reason, "CIDRNotAvailable");
    }
}
