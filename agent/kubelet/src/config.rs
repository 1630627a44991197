//! What a kubelet is told, and what it is given to work with.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use images::{Credentials, Images};
use informer::View;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use network::PodNetwork;
use runtime::Runtime;

use crate::eviction::EvictionThresholds;

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The node's address (`hostIP`); `None` for all of them.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The container's port.
    pub container_port: u16,
}

/// Makes ports of the node lead to pods. Must return at once.
pub trait HostPorts: Send + Sync + 'static {
    /// Sets the host ports of a pod, replacing those it had; none removes them.
    fn set(&self, pod_uid: &str, ports: Vec<HostPort>);
}

/// Host ports are not served.
#[derive(Debug, Clone, Copy)]
pub struct NoHostPorts;

impl HostPorts for NoHostPorts {
    fn set(&self, _pod_uid: &str, _ports: Vec<HostPort>) {}
}

/// The kubelet's HTTPS server.
#[derive(Clone)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes a free one (tests). The Node object names its port.
    pub listen: SocketAddr,
    /// Certificate, and the authority that clients' certificates must come from.
    pub tls: Arc<rustls::ServerConfig>,
    /// Clients with one of these common names may do everything.
    pub client_names: Vec<String>,
    /// Clients with one of these organizations may do everything.
    pub client_organizations: Vec<String>,
}

/// Resources kept for the node itself: allocatable is capacity less these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_millis: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
}

/// How a node runs its pods. `cli` is the only place with default values.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// The node's addresses, the primary family first.
    pub node_ips: Vec<IpAddr>,
    /// Labels of the Node object besides the standard ones.
    pub node_labels: BTreeMap<String, String>,
    /// What must outlive a reboot: volumes, records, logs, such as `/var/lib/skeg/kubelet`.
    pub data_dir: PathBuf,
    /// Folder with manifests of static pods; `None` for no static pods.
    pub static_pods_dir: Option<PathBuf>,
    /// Most pods on this node.
    pub pods_max: u32,
    /// Most processes of a pod; `None` for no limit.
    pub pod_pids_max: Option<i64>,
    /// Addresses of cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration, for pods that ask for it: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Folder of seccomp profiles named by `localhostProfile`.
    pub seccomp_dir: PathBuf,
    /// Kept for the node itself.
    pub reserved: Reserved,
    /// When the node is under pressure.
    pub eviction_hard: EvictionThresholds,
    /// Sysctls that pods may set although they are not known to be safe; `name` or `prefix.*`.
    pub unsafe_sysctls: Vec<String>,
    /// Container logs are rotated at this size.
    pub log_max_bytes: u64,
    /// Log files kept of each container.
    pub log_max_files: u32,
    /// Credentials for registries by host name, besides those of `imagePullSecrets`.
    pub registry_credentials: BTreeMap<String, Credentials>,
    /// The HTTPS server.
    pub server: ServerConfig,
    /// Serves host ports.
    pub host_ports: Arc<dyn HostPorts>,
    /// Version in `status.nodeInfo.kubeletVersion`, such as `v1.36.0`.
    pub version: String,
    /// How often the node's Lease is renewed (upstream: 10 s).
    pub lease_period: Duration,
    /// The node's status is written this often even if nothing changes (upstream: 5 min).
    pub status_period: Duration,
}

/// What a kubelet works with.
#[derive(Clone)]
pub struct Deps {
    /// The API, as `system:node:NAME`.
    pub client: Client,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Pod network.
    pub network: Arc<dyn PodNetwork>,
    /// All Services, for the environment variables that name them. Shared with the node's
    /// other components.
    pub services: View<Service>,
}
