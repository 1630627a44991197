//! What all parts of a kubelet share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use informer::{EventRecorder, EventType, Occurrence, View};
use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference, Pod, Secret};
use objects::ObjectKey;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Deps};
use crate::machine::Machine;
use crate::observe::Observer;
use crate::pod::{Listed, PodExt};
use crate::record::pod_dir;
use crate::spec::env::Sources;
use crate::spec::fields;
use crate::volumes::Tokens;
use crate::watched::Watched;

/// What all parts of a kubelet share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) deps: Deps,
    pub(crate) observer: Observer,
    pub(crate) events: EventRecorder,
    pub(crate) config_maps: Watched<ConfigMap>,
    pub(crate) secrets: Watched<Secret>,
    pub(crate) tokens: Tokens,
    pub(crate) machine: Machine,
    /// This node's object.
    pub(crate) node: View<Node>,
    pub(crate) shutdown: CancellationToken,
}

impl Context {
    /// The folder of a pod.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        pod_dir(&self.config.data_dir, uid)
    }

    /// What the downward API shows of a pod.
    pub(crate) fn shown(&self, pod: &Pod, addresses: &[IpAddr]) -> fields::Context {
        let own = pod.is_host_network();
        let allocatable = self.machine.allocatable(self.config.reserved);
        fields::Context {
            pod_ips: if own { self.config.node_ips.clone() } else { addresses.to_vec() },
            host_ips: self.config.node_ips.clone(),
            allocatable_cpu_millis: allocatable.cpu_millis,
            allocatable_memory_bytes: allocatable.memory_bytes,
            allocatable_storage_bytes: allocatable.storage_bytes,
        }
    }

    /// This node's object as last seen.
    pub(crate) fn node_object(&self) -> Option<Arc<Node>> {
        self.node.get(&ObjectKey::new("", &self.config.node_name))
    }

    /// Records an Event about a pod, or about one of its containers.
    pub(crate) fn event(
        &self,
        pod: &Pod,
        container: Option<&Listed<'_>>,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut regarding: ObjectReference = informer::reference(pod);
        regarding.field_path = container.map(|container| container.field_path.clone());
        let (reason, message) = (reason.to_owned(), message.into());
        self.events.record(Occurrence { regarding, kind, reason, message });
    }
}

/// The config maps and secrets of one namespace, as last seen.
pub(crate) struct NamespaceSources<'a> {
    pub(crate) context: &'a Context,
    pub(crate) namespace: &'a str,
}

impl Sources for NamespaceSources<'_> {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.context.config_maps.known(&ObjectKey::new(self.namespace, name))
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.context.secrets.known(&ObjectKey::new(self.namespace, name))
    }
}
