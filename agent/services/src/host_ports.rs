//! Host ports: ports of the node that lead to one of its pods. The kubelet says which.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::state::Protocol;

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The node's address (`hostIP`); `None` for all of them.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The container's port.
    pub container_port: u16,
}

/// The host ports of this node's pods. Clones share them.
#[derive(Debug, Clone)]
pub struct HostPorts {
    by_pod: Arc<watch::Sender<BTreeMap<String, Vec<HostPort>>>>,
}

impl HostPorts {
    pub(crate) fn new() -> Self {
        Self { by_pod: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }

    /// Sets the host ports of a pod; none removes them. Takes effect within milliseconds.
    pub fn set(&self, pod_uid: &str, ports: Vec<HostPort>) {
        self.by_pod.send_if_modified(|by_pod| {
            if by_pod.get(pod_uid).map_or(&[][..], Vec::as_slice) == ports {
                return false;
            }
            if ports.is_empty() {
                by_pod.remove(pod_uid);
            } else {
                by_pod.insert(pod_uid.to_owned(), ports);
            }
            true
        });
    }

    /// Removes the host ports of a pod.
    pub fn remove(&self, pod_uid: &str) {
        self.set(pod_uid, Vec::new());
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, Vec<HostPort>>> {
        self.by_pod.subscribe()
    }
}
