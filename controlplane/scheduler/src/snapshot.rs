//! The state of the cluster that a decision is made from. PURE: updated by calls, read by plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Taint};
use objects::ObjectKey;
use objects::facts;

use crate::amounts::Amounts;
use crate::pod::{HostPort, Namespaces, PodInfo};

/// A node and the pods on it (assumed ones included).
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The object; `None` for a node that pods name but that does not exist (yet).
    pub node: Option<Arc<Node>>,
    /// Name.
    pub name: String,
    /// What pods can have.
    pub allocatable: Amounts,
    /// What pods have asked for.
    pub requested: Amounts,
    /// CPU (thousandths) that pods count for in scores.
    pub score_cpu_millis: i64,
    /// Memory that pods count for in scores.
    pub score_memory_bytes: i64,
    /// The pods, by key.
    pub pods: BTreeMap<ObjectKey, Arc<PodInfo>>,
    /// Sizes of the images it has, by name.
    pub images: BTreeMap<String, i64>,
    /// Pods that wait for their victims to go from here, by key.
    pub nominated: BTreeMap<ObjectKey, Arc<PodInfo>>,
}

impl NodeInfo {
    fn new(name: &str) -> Self {
        Self {
            node: None,
            name: name.to_string(),
            allocatable: Amounts::default(),
            requested: Amounts::default(),
            score_cpu_millis: 0,
            score_memory_bytes: 0,
            pods: BTreeMap::new(),
            images: BTreeMap::new(),
            nominated: BTreeMap::new(),
        }
    }

    fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let value = serde_json::to_value(allocatable).expect("API types serialise to JSON");
        self.allocatable = Amounts::of(&facts::amounts(value.as_object()));
        self.images = status
            .and_then(|status| status.images.as_ref())
            .into_iter()
            .flatten()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = Some(node);
    }

    /// Puts a pod on the node.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        self.requested.add(&pod.requests);
        self.score_cpu_millis += pod.score_cpu_millis;
        self.score_memory_bytes += pod.score_memory_bytes;
        self.pods.insert(pod.key.clone(), pod);
    }

    /// Takes a pod off the node.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.sub(&pod.requests);
        self.score_cpu_millis -= pod.score_cpu_millis;
        self.score_memory_bytes -= pod.score_memory_bytes;
        Some(pod)
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().and_then(|labels| labels.get(key)).map(String::as_str)
    }

    /// Labels of the node.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.node.as_ref().and_then(|node| node.metadata.labels.as_ref())
    }

    /// Taints of the node.
    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or(&[])
    }

    /// Whether the node takes no new pods.
    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    /// Host ports in use.
    pub fn ports(&self) -> impl Iterator<Item = &HostPort> {
        self.pods.values().flat_map(|pod| &pod.ports)
    }
}

/// Everything a decision depends on.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    /// Where each pod is.
    placed: BTreeMap<ObjectKey, String>,
    /// Where each nominated pod waits.
    nominated: BTreeMap<ObjectKey, String>,
    /// Labels of the namespaces.
    pub namespaces: Namespaces,
    /// Volumes, by name.
    pub volumes: BTreeMap<String, Arc<PersistentVolume>>,
    /// Claims, by key.
    pub claims: BTreeMap<ObjectKey, Arc<PersistentVolumeClaim>>,
}

impl Snapshot {
    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| node.node.is_some())
    }

    /// One node, if it exists.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|node| node.node.is_some())
    }

    /// Takes in a node's newest version.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.nodes.entry(name.clone()).or_insert_with(|| NodeInfo::new(&name)).set_node(node);
    }

    /// Takes in that a node is gone. Pods that are still on it keep their place in the books.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            info.allocatable = Amounts::default();
        }
        self.drop_empty(name);
    }

    /// Puts a pod on a node (or moves it there).
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.key);
        self.placed.insert(pod.key.clone(), node.to_string());
        self.nodes.entry(node.to_string()).or_insert_with(|| NodeInfo::new(node)).add_pod(pod);
    }

    /// Takes a pod off its node and out of the nominations.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        self.withdraw(key);
        let node = self.placed.remove(key)?;
        let pod = self.nodes.get_mut(&node).and_then(|info| info.remove_pod(key));
        self.drop_empty(&node);
        pod
    }

    /// The node that a pod is on.
    pub fn place_of(&self, key: &ObjectKey) -> Option<&str> {
        self.placed.get(key).map(String::as_str)
    }

    /// The pod as it was placed.
    pub fn placed_pod(&self, key: &ObjectKey) -> Option<&Arc<PodInfo>> {
        self.nodes.get(self.placed.get(key)?)?.pods.get(key)
    }

    /// Keeps room on a node for a pod whose victims are going.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.withdraw(&pod.key);
        if let Some(info) = self.nodes.get_mut(node) {
            self.nominated.insert(pod.key.clone(), node.to_string());
            info.nominated.insert(pod.key.clone(), pod);
        }
    }

    /// Ends a nomination.
    pub fn withdraw(&mut self, key: &ObjectKey) {
        if let Some(node) = self.nominated.remove(key)
            && let Some(info) = self.nodes.get_mut(&node)
        {
            info.nominated.remove(key);
        }
    }

    fn drop_empty(&mut self, name: &str) {
        let is_empty = |info: &NodeInfo| {
            info.node.is_none() && info.pods.is_empty() && info.nominated.is_empty()
        };
        if self.nodes.get(name).is_some_and(is_empty) {
            self.nodes.remove(name);
        }
    }
}
