//! What the maps hold, in the agent's own terms. Bytes are the business of `maps`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A transport protocol that Services are served for. SCTP Services are accepted by the API and not
/// translated: the kernel's SCTP has no socket hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// From the API's name; `None` for protocols that are not served.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Where clients of a frontend are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Processes of this node, in pods or not.
    Internal,
    /// Outside; their packets arrive on an uplink.
    External,
}

/// An address and port at which a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// For whom.
    pub scope: Scope,
}

/// The slots a frontend leads to: `slot_count` of `service_id`, from `first_slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frontend {
    /// The Service port.
    pub service_id: u32,
    /// First slot.
    pub first_slot: u32,
    /// Number of slots; 0 refuses.
    pub slot_count: u32,
    /// Session affinity; 0 for none.
    pub affinity_timeout_secs: u32,
    /// Only for the node's own network namespace.
    pub host_only: bool,
    /// All its backends are on this node.
    pub local: bool,
}

/// A position in a Service port's list of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The Service port.
    pub service_id: u32,
    /// Position.
    pub slot: u32,
}

/// An endpoint of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// The Service port it belongs to.
    pub service_id: u32,
    /// Protocol: how to reach what still holds on to it when it goes.
    pub protocol: Protocol,
    /// On this node.
    pub local: bool,
}

/// What a network is to the cluster: packets between these keep their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkKind {
    /// Pods of some node.
    Pods,
    /// A node's own address.
    Node,
}

/// Everything the maps hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapSet {
    /// Frontends.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Backend ids by slot.
    pub slots: BTreeMap<SlotKey, u32>,
    /// Backends by id.
    pub backends: BTreeMap<u32, Backend>,
    /// The cluster's networks.
    pub networks: BTreeMap<IpNet, NetworkKind>,
}

impl MapSet {
    /// The first thing that a packet could fall over: a slot in a frontend's range without a
    /// backend, or with one of another Service. `None` is what must always hold.
    pub fn fault(&self) -> Option<String> {
        for (key, frontend) in &self.frontends {
            for offset in 0..frontend.slot_count {
                let service_id = frontend.service_id;
                let slot = SlotKey { service_id, slot: frontend.first_slot + offset };
                let backend = self.slots.get(&slot).and_then(|id| self.backends.get(id));
                match backend {
                    None => return Some(format!("{key:?}: {slot:?} has no backend")),
                    Some(backend) if backend.service_id != service_id => {
                        return Some(format!("{key:?}: {slot:?} has {backend:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        None
    }
}
