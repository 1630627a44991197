//! PURE: what the maps must hold.
//!
//! A Service port has one list of backends, ordered so that the backends of each policy are one
//! range of it: those for a `Local` policy only, those for both, those for `Cluster` only. A
//! frontend is a range of that list. (The two sets differ by more than the node: a terminating
//! local endpoint serves a Local policy while ready ones elsewhere serve Cluster, and hints narrow
//! only Cluster.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use objects::ObjectKey;

use crate::facts::{EndpointFacts, NodeFacts, PortFacts, ServiceFacts, World};
use crate::host_ports::HostPort;
use crate::ids::Ids;
use crate::state::{Backend, Frontend, FrontendKey, MapSet, Protocol, Scope, SlotKey};

/// The contents of the maps for `node`. Where two claim one frontend, host ports win, then the
/// first by namespace and name.
pub fn plan(world: &World, node: &NodeFacts, ids: &mut Ids) -> MapSet {
    let mut planned = MapSet { networks: node.networks.clone(), ..MapSet::default() };
    for host_port in world.host_ports.values().flatten() {
        plan_host_port(host_port, node, ids, &mut planned);
    }
    for (key, service) in &world.services {
        for family in [Family::V4, Family::V6] {
            for port in &service.ports {
                let frontends = frontends(service, port, family, node);
                if frontends.is_empty() {
                    continue;
                }
                let endpoints = endpoints(world, key, port, family);
                let chosen = choose(&endpoints, node);
                let affinity = service.affinity_timeout_secs;
                emit(&frontends, &chosen, port.protocol, affinity, ids, &mut planned);
            }
        }
    }
    planned
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        ip.is_ipv6() == (self == Self::V6)
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// A frontend to be made.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    key: FrontendKey,
    local: bool,
    host_only: bool,
}

/// Address and port of a backend, and whether it is on this node.
type Place = (IpAddr, u16, bool);

/// The backends of a Service port under either policy.
#[derive(Debug, Default)]
struct Chosen {
    local: BTreeSet<Place>,
    cluster: BTreeSet<Place>,
}

/// All frontends of a Service port in one family. The first one names the port in [`Ids`].
fn frontends(
    service: &ServiceFacts,
    port: &PortFacts,
    family: Family,
    node: &NodeFacts,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let mut want = |ip, port_number, scope, local, host_only| {
        let key = FrontendKey { ip, port: port_number, protocol: port.protocol, scope };
        if !node.own_addresses.contains(&ip) {
            wanted.push(Wanted { key, local, host_only });
        }
    };
    let has_family = service.cluster_ips.iter().any(|ip| family.has(ip));
    for ip in service.cluster_ips.iter().filter(|ip| family.has(ip)) {
        want(*ip, port.port, Scope::Internal, service.internal_local, false);
    }
    // Clients on this node reach external addresses by the Cluster policy, whatever the external
    // one is (KEP-2086, "external policy is for traffic from outside").
    for ip in service.external_ips.iter().filter(|ip| has_family && family.has(ip)) {
        want(*ip, port.port, Scope::Internal, false, false);
        want(*ip, port.port, Scope::External, service.external_local, false);
    }
    if let Some(node_port) = port.node_port.filter(|_| has_family) {
        for ip in node.addresses.iter().filter(|ip| family.has(ip)) {
            want(*ip, node_port, Scope::Internal, false, false);
            want(*ip, node_port, Scope::External, service.external_local, false);
        }
        want(family.loopback(), node_port, Scope::Internal, false, true);
    }
    wanted
}

/// The endpoints of a Service port, once each: slices may overlap while endpoints move between
/// them, and then any slice that knows better wins.
fn endpoints(
    world: &World,
    service: &ObjectKey,
    port: &PortFacts,
    family: Family,
) -> BTreeMap<(IpAddr, u16), EndpointFacts> {
    let mut merged: BTreeMap<(IpAddr, u16), EndpointFacts> = BTreeMap::new();
    let slices = world.slices.get(service).into_iter().flat_map(BTreeMap::values);
    for slice in slices {
        let numbers = slice
            .ports
            .iter()
            .filter(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
        for (_, _, number) in numbers {
            for endpoint in slice.endpoints.iter().filter(|endpoint| family.has(&endpoint.ip)) {
                let merged = merged.entry((endpoint.ip, *number));
                let known = merged.or_insert_with(|| endpoint.clone());
                if endpoint.ready && !known.ready {
                    *known = endpoint.clone();
                }
            }
        }
    }
    merged
}

/// Which endpoints serve which policy. Terminating ones serve only where no ready one does
/// (KEP-1669).
fn choose(endpoints: &BTreeMap<(IpAddr, u16), EndpointFacts>, node: &NodeFacts) -> Chosen {
    let is_local = |endpoint: &EndpointFacts| endpoint.node_name.as_ref() == Some(&node.name);
    let pick = |wanted: &dyn Fn(&EndpointFacts) -> bool| -> BTreeSet<Place> {
        let picked = endpoints.iter().filter(|(_, endpoint)| wanted(endpoint));
        picked.map(|((ip, port), endpoint)| (*ip, *port, is_local(endpoint))).collect()
    };
    let hinted = hint(endpoints.values(), node);
    let fallback = |endpoint: &EndpointFacts| endpoint.serving && endpoint.terminating;

    let mut cluster = pick(&|endpoint| endpoint.ready && hinted.includes(endpoint, node));
    if cluster.is_empty() {
        cluster = pick(&fallback);
    }
    let mut local = pick(&|endpoint| endpoint.ready && is_local(endpoint));
    if local.is_empty() {
        local = pick(&|endpoint| fallback(endpoint) && is_local(endpoint));
    }
    Chosen { local, cluster }
}

/// How hints narrow the choice of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hinted {
    ThisNode,
    ThisZone,
    No,
}

impl Hinted {
    fn includes(self, endpoint: &EndpointFacts, node: &NodeFacts) -> bool {
        match self {
            Self::ThisNode => endpoint.for_nodes.contains(&node.name),
            Self::ThisZone => {
                endpoint.for_zones.iter().any(|zone| node.zone.as_ref() == Some(zone))
            }
            Self::No => true,
        }
    }
}

/// Hints count only if every ready endpoint has one and at least one is meant for this place:
/// otherwise traffic would be lost while hints are being rewritten.
fn hint<'a>(endpoints: impl Iterator<Item = &'a EndpointFacts>, node: &NodeFacts) -> Hinted {
    let ready: Vec<_> = endpoints.filter(|endpoint| endpoint.ready).collect();
    let usable = |hinted: Hinted, has_hint: fn(&EndpointFacts) -> bool| {
        ready.iter().all(|endpoint| has_hint(endpoint))
            && ready.iter().any(|endpoint| hinted.includes(endpoint, node))
    };
    if usable(Hinted::ThisNode, |endpoint| !endpoint.for_nodes.is_empty()) {
        Hinted::ThisNode
    } else if usable(Hinted::ThisZone, |endpoint| !endpoint.for_zones.is_empty()) {
        Hinted::ThisZone
    } else {
        Hinted::No
    }
}

fn plan_host_port(port: &HostPort, node: &NodeFacts, ids: &mut Ids, planned: &mut MapSet) {
    for family in [Family::V4, Family::V6] {
        let Some(pod_ip) = port.pod_ips.iter().find(|ip| family.has(ip)) else {
            continue;
        };
        let mut addresses = match port.host_ip {
            Some(ip) if !ip.is_unspecified() => vec![ip],
            _ => node.addresses.clone(),
        };
        if port.host_ip.is_none_or(|ip| ip.is_unspecified()) {
            addresses.push(family.loopback());
        }
        let mut wanted = Vec::new();
        for ip in addresses.into_iter().filter(|ip| family.has(ip)) {
            let host_only = ip.is_loopback();
            let key =
                |scope| FrontendKey { ip, port: port.host_port, protocol: port.protocol, scope };
            wanted.push(Wanted { key: key(Scope::Internal), local: true, host_only });
            if !host_only {
                wanted.push(Wanted { key: key(Scope::External), local: true, host_only });
            }
        }
        let backend = BTreeSet::from([(*pod_ip, port.container_port, true)]);
        let chosen = Chosen { local: backend.clone(), cluster: backend };
        emit(&wanted, &chosen, port.protocol, 0, ids, planned);
    }
}

/// Adds a Service port: its list of backends and its frontends, as ranges of that list.
fn emit(
    wanted: &[Wanted],
    chosen: &Chosen,
    protocol: Protocol,
    affinity_timeout_secs: u32,
    ids: &mut Ids,
    planned: &mut MapSet,
) {
    let free = |wanted: &&Wanted| !planned.frontends.contains_key(&wanted.key);
    let wanted: Vec<Wanted> = wanted.iter().filter(free).copied().collect();
    let Some(first) = wanted.first() else {
        return;
    };
    let service_id = ids.service(first.key);
    let uses_local = wanted.iter().any(|wanted| wanted.local);
    let uses_cluster = wanted.iter().any(|wanted| !wanted.local);

    let mut places: Vec<&Place> =
        chosen.local.difference(&chosen.cluster).filter(|_| uses_local).collect();
    let cluster_from = number(places.len());
    places.extend(chosen.local.intersection(&chosen.cluster));
    let local_to = number(places.len());
    places.extend(chosen.cluster.difference(&chosen.local).filter(|_| uses_cluster));
    let cluster_to = number(places.len());

    for (slot, (ip, port, local)) in places.into_iter().enumerate() {
        let id = ids.backend(service_id, *ip, *port);
        let backend = Backend { ip: *ip, port: *port, service_id, protocol, local: *local };
        planned.backends.insert(id, backend);
        planned.slots.insert(SlotKey { service_id, slot: number(slot) }, id);
    }
    for Wanted { key, local, host_only } in wanted {
        let (from, to) = if local { (0, local_to) } else { (cluster_from, cluster_to) };
        let frontend = Frontend {
            service_id,
            first_slot: from,
            slot_count: to - from,
            affinity_timeout_secs,
            host_only,
            local,
        };
        planned.frontends.insert(key, frontend);
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("a Service has fewer endpoints than there are addresses")
}

#[cfg(test)]
mod tests;
