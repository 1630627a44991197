//! Pod network: addresses, one routed veth per pod, routes; all by netlink.

mod cookie;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

pub use cookie::netns_cookie;

/// What went wrong in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// All addresses of the node's range are in use.
    #[error("no free address left in {cidr}: raise the node's pod range or delete pods")]
    Exhausted {
        /// The node's pod range.
        cidr: String,
    },
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
