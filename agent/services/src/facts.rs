//! What matters of Services, EndpointSlices and the Node; everything else is dropped at once, so
//! that a large cluster costs little here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use objects::ObjectKey;

use crate::host_ports::HostPort;
use crate::state::{NetworkKind, Protocol};

/// `spec.sessionAffinityConfig.clientIP.timeoutSeconds` when absent (upstream's default, 3 hours).
const AFFINITY_TIMEOUT_SECS_DEFAULT: u32 = 10_800;

/// Labels with which a Service or its slices say that another proxy, or none, takes care of them.
const NOT_OURS: [&str; 2] =
    ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A Service that this proxy serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Cluster addresses, of one or both families.
    pub cluster_ips: Vec<IpAddr>,
    /// External and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// Ports with a served protocol.
    pub ports: Vec<PortFacts>,
    /// Session affinity by client; 0 for none.
    pub affinity_timeout_secs: u32,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// Its name, which ties it to the slices' ports; empty for an only port without one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on the nodes' addresses.
    pub node_port: Option<u16>,
}

/// An EndpointSlice of addresses (not of names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    /// The Service it belongs to.
    pub service: ObjectKey,
    /// Name, protocol and number of its ports.
    pub ports: Vec<(String, Protocol, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointFacts>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    /// Its address.
    pub ip: IpAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Would take connections, were it not terminating.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// The node it is on.
    pub node_name: Option<String>,
    /// Zones it is meant for; empty for no hint.
    pub for_zones: Vec<String>,
    /// Nodes it is meant for; empty for no hint.
    pub for_nodes: Vec<String>,
}

/// The node that is planned for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the Node object.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Addresses on which node ports are served, sorted.
    pub addresses: Vec<IpAddr>,
    /// Addresses that are not translated, whatever Services say.
    pub own_addresses: Vec<IpAddr>,
    /// The networks of all nodes.
    pub networks: BTreeMap<IpNet, NetworkKind>,
}

/// Everything that the plan depends on, but the node.
#[derive(Debug, Default)]
pub struct World {
    /// Services served.
    pub services: BTreeMap<ObjectKey, ServiceFacts>,
    /// Slices by Service and name.
    pub slices: BTreeMap<ObjectKey, BTreeMap<String, SliceFacts>>,
    /// Host ports of this node's pods, by pod uid.
    pub host_ports: BTreeMap<String, Vec<HostPort>>,
}

impl World {
    /// Takes in a Service, or that it went.
    pub fn set_service(&mut self, key: &ObjectKey, service: Option<&Service>) {
        match service.and_then(ServiceFacts::of) {
            Some(facts) => drop(self.services.insert(key.clone(), facts)),
            None => drop(self.services.remove(key)),
        }
    }

    /// Takes in a slice, or that it went. `old` is the last version seen.
    pub fn set_slice(
        &mut self,
        key: &ObjectKey,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
    ) {
        if let Some(service) = old.and_then(service_of)
            && let Some(slices) = self.slices.get_mut(&service)
        {
            slices.remove(&key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        if let Some(facts) = new.and_then(SliceFacts::of) {
            let slices = self.slices.entry(facts.service.clone()).or_default();
            slices.insert(key.name.clone(), facts);
        }
    }
}

impl ServiceFacts {
    /// What matters of a Service; `None` if it is not for us: headless, ExternalName, or claimed by
    /// another proxy.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if not_ours(&service.metadata) || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ips = cluster_ips(spec);
        if cluster_ips.is_empty() {
            return None;
        }
        let served = |policy: &Option<String>| policy.as_deref() == Some("Local");
        Some(Self {
            cluster_ips,
            external_ips: external_ips(service, spec),
            ports: spec.ports.iter().flatten().filter_map(PortFacts::of).collect(),
            affinity_timeout_secs: affinity_timeout_secs(spec),
            internal_local: served(&spec.internal_traffic_policy),
            external_local: served(&spec.external_traffic_policy),
        })
    }
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips.iter().filter_map(|ip| parse_ip(ip)).collect(),
        _ => spec.cluster_ip.iter().filter_map(|ip| parse_ip(ip)).collect(),
    }
}

fn external_ips(service: &Service, spec: &ServiceSpec) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> =
        spec.external_ips.iter().flatten().filter_map(|ip| parse_ip(ip)).collect();
    if spec.type_.as_deref() == Some("LoadBalancer") {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|balancer| balancer.ingress.as_ref());
        // A balancer in `Proxy` mode must see its traffic itself (KEP-1860).
        let direct =
            ingress.into_iter().flatten().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        ips.extend(direct.filter_map(|ingress| parse_ip(ingress.ip.as_deref()?)));
    }
    ips
}

fn affinity_timeout_secs(spec: &ServiceSpec) -> u32 {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let secs = config.and_then(|client_ip| client_ip.timeout_seconds);
    secs.and_then(|secs| u32::try_from(secs).ok()).unwrap_or(AFFINITY_TIMEOUT_SECS_DEFAULT)
}

impl PortFacts {
    fn of(port: &ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|p| *p != 0),
        })
    }
}

impl SliceFacts {
    /// What matters of a slice; `None` if it is not for us.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let wants_v6 = match slice.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            _ => return None,
        };
        if not_ours(&slice.metadata) {
            return None;
        }
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), protocol, number))
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(EndpointFacts::of);
        Some(Self {
            service: service_of(slice)?,
            ports: ports.collect(),
            endpoints: endpoints.filter(|endpoint| endpoint.ip.is_ipv6() == wants_v6).collect(),
        })
    }
}

impl EndpointFacts {
    fn of(endpoint: &Endpoint) -> Option<Self> {
        // All addresses of an endpoint are the same thing; the first is the one to use.
        let ip = parse_ip(endpoint.addresses.first()?)?;
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let hints = endpoint.hints.as_ref();
        let for_zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
        let for_nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
        Some(Self {
            ip,
            ready,
            serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
            node_name: endpoint.node_name.clone(),
            for_zones: for_zones.map(|zone| zone.name.clone()).collect(),
            for_nodes: for_nodes.map(|node| node.name.clone()).collect(),
        })
    }
}

impl NodeFacts {
    /// Joins what the configuration says with what the Node objects say.
    pub fn of<'a>(config: &crate::Config, nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let mut facts = Self {
            name: config.node_name.clone(),
            addresses: config.node_addresses.clone(),
            own_addresses: config.own_addresses.clone(),
            ..Self::default()
        };
        for node in nodes {
            let ips = node_ips(node);
            facts.networks.extend(ips.iter().map(|ip| (IpNet::from(*ip), NetworkKind::Node)));
            let cidrs = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_ref());
            let cidrs = cidrs.into_iter().flatten().filter_map(|cidr| cidr.parse::<IpNet>().ok());
            facts.networks.extend(cidrs.map(|cidr| (cidr.trunc(), NetworkKind::Pods)));
            if node.metadata.name.as_ref() == Some(&config.node_name) {
                facts.addresses.extend(ips);
                let labels = node.metadata.labels.as_ref();
                facts.zone = labels.and_then(|labels| labels.get(ZONE)).cloned();
            }
        }
        // Every namespace has a loopback: it has frontends of its own, never one for outside.
        facts.addresses.retain(|ip| !ip.is_loopback());
        facts.addresses.sort_unstable();
        facts.addresses.dedup();
        facts
    }
}

fn node_ips(node: &Node) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let seen = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let seen = seen.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
    seen.filter_map(|address| parse_ip(&address.address)).collect()
}

fn not_ours(meta: &ObjectMeta) -> bool {
    let labels = meta.labels.as_ref();
    labels.is_some_and(|labels| NOT_OURS.iter().any(|label| labels.contains_key(*label)))
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref()?, name))
}

/// Reads an address the way old objects may hold it: with zeros in front of decimal numbers
/// (`010.96.0.1` is 10.96.0.1), which newer parsers refuse.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let digits = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *octet = digits.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests;
