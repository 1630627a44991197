//! Pod network: addresses, one routed veth per pod, routes; all by netlink.

//!
//! `plan`, `nodes` and `ipam` are PURE: they say what a pod's connection consists of, which routes
//! lead to other nodes, and which addresses are in use. `pods` and `run` carry that out over
//! `netlink`. Truth is in the kernel and in one record per pod on disk: a new agent reads those and
//! touches nothing that works.

mod cookie;
#[cfg(any(test, feature = "test-support"))]
pub mod fake;
mod ipam;
#[cfg(test)]
mod kernel;
mod netlink;
mod netns;
mod nodes;
mod plan;
mod pods;
mod records;
mod run;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use ipnet::IpNet;

pub use cookie::netns_cookie;
pub use netns::enter;
pub use plan::HOST_LINK_PREFIX;
pub use pods::Network;
pub use run::reflect_nodes;

/// The pod network of one node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Folder of the records, such as `/run/skeg/network`: what is in it lasts until reboot.
    pub state_dir: PathBuf,
    /// The node's own addresses; the links that have them lead to other nodes.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses that the node answers on besides, such as the cluster DNS; put on the loopback.
    pub own_addresses: Vec<IpAddr>,
    /// Ranges of Service addresses: what of them is no Service is unreachable at once.
    pub service_cidrs: Vec<IpNet>,
    /// MTU of pods; `None` takes the smallest of the uplinks'.
    pub mtu_bytes: Option<u32>,
    /// Lets the node forward packets (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
    pub set_sysctls: bool,
}

/// What went wrong in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// All addresses of the node's range are in use.
    #[error("no free address left in {cidr}: raise the node's pod range or delete pods")]
    Exhausted {
        /// The node's pod range.
        cidr: String,
    },
    /// The node has no range yet: its Node object has no pod CIDR.
    #[error("the node has not been given a pod range yet")]
    NoRange,
    /// A netlink request failed.
    #[error("{operation} {object}")]
    Netlink {
        /// The operation in words.
        operation: &'static str,
        /// The link, address or route.
        object: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A system call on a file failed.
    #[error("{operation} {path}")]
    Io {
        /// The operation in words.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// The pod network, as the kubelet sees it. Idempotent.
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the pod an address and connects its namespace. Returns its addresses, the primary
    /// family first. A pod that has them already keeps them.
    fn attach<'a>(
        &'a self,
        pod_uid: &'a str,
        netns: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>>;
    /// Disconnects the pod and frees its addresses. Succeeds if there is nothing.
    fn detach<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// The addresses of a pod that is attached.
    fn addresses(&self, pod_uid: &str) -> Option<Vec<IpAddr>>;
}
