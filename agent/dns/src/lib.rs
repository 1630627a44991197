//! DNS of the cluster, answered by every node for its own pods.
//!
//! `query` (PURE) reads what a name asks for, `records` is the index that `answer` (PURE) looks it
//! up in, kept by `run` from the API's views. `server` moves bytes, `forward` asks others about
//! names that are not the cluster's. Nothing of the cluster's own is cached anywhere: the index is
//! the truth as the API has it now.

mod answer;
mod dump;
mod forward;
mod hold;
mod message;
mod query;
mod records;
mod resolv_conf;
mod run;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use run::{Dns, Views};

/// How the cluster's DNS is served on this node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Where to listen, over UDP and TCP: the cluster DNS address, port 53.
    pub addresses: Vec<SocketAddr>,
    /// Whom to ask about other names; empty for the name servers of `resolv_conf`.
    pub upstreams: Vec<SocketAddr>,
    /// Whom to ask about names in certain domains, before all others.
    pub stub_domains: Vec<(String, Vec<SocketAddr>)>,
    /// The node's `resolv.conf`, read again when it changes.
    pub resolv_conf: PathBuf,
    /// Folder in which it is recorded who holds the sockets while no agent runs; `None` for nobody.
    pub hold_dir: Option<PathBuf>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A domain of the configuration is no domain name.
    #[error("{domain:?} is not a domain name")]
    Domain {
        /// The domain.
        domain: String,
        /// Why.
        #[source]
        source: Box<hickory_proto::ProtoError>,
    },
    /// The address is not this node's, or is in use.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
