//! What can keep a pod off a node. PURE.
//!
//! A filter looks at one pod and one node and says every reason against it; what it needs to know
//! of the whole cluster is worked out once per pod in [`Prepared`].

mod affinity;
mod inter_pod;
mod ports;
mod resources;
pub(crate) mod spread;
mod taints;
mod volumes;

use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

pub use affinity::{matches_expressions, matches_node_selector, matches_required};
pub use taints::{tolerates, tolerates_all};

/// The filters, as far as events that can change their mind go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Node is cordoned.
    NodeUnschedulable,
    /// Pod names another node.
    NodeName,
    /// Taints.
    TaintToleration,
    /// Node selector and affinity.
    NodeAffinity,
    /// Host ports.
    NodePorts,
    /// CPU, memory, pods and other resources.
    NodeResources,
    /// Topology spread.
    PodTopologySpread,
    /// Pod affinity and anti-affinity.
    InterPodAffinity,
    /// Volumes and claims.
    Volumes,
}

/// A reason against a node, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Who says so.
    pub filter: Filter,
    /// In words, as in `FailedScheduling`.
    pub text: String,
    /// Whether the node would do if pods went from it.
    pub curable: bool,
}

impl Reason {
    fn curable(filter: Filter, text: impl Into<String>) -> Self {
        Self { filter, text: text.into(), curable: true }
    }

    fn final_(filter: Filter, text: impl Into<String>) -> Self {
        Self { filter, text: text.into(), curable: false }
    }
}

/// What filters need to know of the whole cluster, for one pod.
#[derive(Debug, Clone)]
pub struct Prepared {
    spread: spread::Counts,
    inter_pod: inter_pod::Counts,
    volumes: Result<Vec<volumes::Demand>, Reason>,
}

impl Prepared {
    /// Looks at the cluster once.
    pub fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        Self {
            spread: spread::Counts::new(snapshot, pod),
            inter_pod: inter_pod::Counts::new(snapshot, pod),
            volumes: volumes::demands(snapshot, pod),
        }
    }

    /// The reason that keeps the pod off every node, if there is one.
    pub fn nowhere(&self) -> Option<&Reason> {
        self.volumes.as_ref().err()
    }

    /// The same if a pod were added to (or removed from) a node.
    pub fn with(
        &mut self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        other: &PodInfo,
        change: Change<'_>,
    ) {
        self.spread.apply(pod, other, change);
        self.inter_pod.apply(snapshot, pod, other, change);
    }
}

/// A pod imagined on a node, or imagined away.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Added.
    Added(&'a NodeInfo),
    /// Removed.
    Removed(&'a NodeInfo),
}

impl Change<'_> {
    fn node(&self) -> &NodeInfo {
        match self {
            Self::Added(node) | Self::Removed(node) => node,
        }
    }

    fn sign(&self) -> i64 {
        match self {
            Self::Added(_) => 1,
            Self::Removed(_) => -1,
        }
    }
}

/// Every reason against putting the pod on the node; none means that it fits. As upstream, the
/// first filter that objects gives all of its reasons, and later filters are not asked.
pub fn reasons(prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let quick: [fn(&PodInfo, &NodeInfo) -> Vec<Reason>; 6] = [
        affinity::node_name,
        affinity::unschedulable,
        taints::filter,
        affinity::filter,
        ports::filter,
        resources::filter,
    ];
    for filter in quick {
        let reasons = filter(pod, node);
        if !reasons.is_empty() {
            return reasons;
        }
    }
    let volumes = prepared.volumes.as_deref().unwrap_or(&[]);
    let reasons = volumes::filter(volumes, node);
    if !reasons.is_empty() {
        return reasons;
    }
    let reasons = prepared.spread.filter(pod, node);
    if !reasons.is_empty() {
        return reasons;
    }
    prepared.inter_pod.filter(pod, node)
}
