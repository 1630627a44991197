//! Services on a node: from Services and EndpointSlices to the contents of BPF maps.
//!
//! `facts` holds what matters of the API's objects, `plan` (PURE) says what the maps must hold,
//! `diff` (PURE) the ordered operations that lead there, `act` carries them out, `maps` alone knows
//! the kernel. Truth is in the pinned maps: a new agent reads them, keeps every id, and changes
//! only what differs; programs stay attached while no agent runs.

mod act;
mod diff;
mod dump;
mod error;
mod facts;
#[cfg(any(test, feature = "test-support"))]
pub mod fake;
mod host_ports;
mod ids;
#[cfg(test)]
mod kernel;
mod maps;
mod plan;
mod programs;
mod run;
mod sockets;
mod state;

use std::net::IpAddr;
use std::path::PathBuf;

pub use act::act;
pub use diff::{MapOp, diff};
pub use dump::dump;
pub use error::ServicesError;
pub use facts::{EndpointFacts, NodeFacts, PortFacts, ServiceFacts, SliceFacts, World};
pub use host_ports::{HostPort, HostPorts};
pub use ids::Ids;
pub use maps::{BpfMaps, Maps, Orphan};
pub use plan::plan;
pub use run::{Services, Views};
pub use state::{Backend, Frontend, FrontendKey, MapSet, NetworkKind, Protocol, Scope, SlotKey};

/// How Services are served on this node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Where maps and links are pinned; a BPF file system is mounted here if there is none.
    pub bpffs_dir: PathBuf,
    /// The node's own cgroup v2 folder; the programs act on every process below it.
    pub cgroup2_dir: PathBuf,
    /// Addresses on which node ports are served, besides those in the Node's status.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses left alone although Services may claim them: the cluster DNS, which this node
    /// answers itself.
    pub own_addresses: Vec<IpAddr>,
    /// Links on which clients from outside arrive.
    pub uplinks: Vec<String>,
    /// Pods' packets to the outside leave with the node's address.
    pub masquerade_pods: bool,
    /// Most Service ports, over all their addresses; sets the size of the tables.
    pub frontends_max: u32,
    /// Most endpoints, over all Service ports; sets the size of the tables.
    pub backends_max: u32,
}
