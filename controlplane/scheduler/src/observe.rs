//! Keeps the snapshot and the queue up to date with what the views show.

use std::sync::Arc;

use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use informer::{Change, Object, Source, View, reflect};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use objects::ObjectKey;
use objects::selector::Selector;
use tokio_util::sync::CancellationToken;

use crate::filters::Filter;
use crate::preempt::Budget;

/// What the scheduler watches. In one process with the controllers these can be their views.
#[derive(Debug, Clone)]
pub struct Views {
    /// Pods.
    pub pods: View<Pod>,
    /// Nodes.
    pub nodes: View<Node>,
    /// Namespaces, for their labels.
    pub namespaces: View<Namespace>,
    /// Volumes.
    pub volumes: View<PersistentVolume>,
    /// Claims.
    pub claims: View<PersistentVolumeClaim>,
    /// Disruption budgets, for preemption.
    pub budgets: View<PodDisruptionBudget>,
}

impl Views {
    /// Starts views of its own.
    pub fn reflect(client: &Client, shutdown: &CancellationToken) -> Self {
        fn all<K: Object + k8s_openapi::Resource>(
            client: &Client,
            shutdown: &CancellationToken,
        ) -> View<K> {
            reflect(client.clone(), Source::of::<K>(), Vec::new(), shutdown.clone())
        }
        Self {
            pods: all(client, shutdown),
            nodes: all(client, shutdown),
            namespaces: all(client, shutdown),
            volumes: all(client, shutdown),
            claims: all(client, shutdown),
            budgets: all(client, shutdown),
        }
    }

    /// Waits until all are synced.
    pub async fn wait_synced(&self) {
        self.pods.wait_synced().await;
        self.nodes.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.volumes.wait_synced().await;
        self.claims.wait_synced().await;
        self.budgets.wait_synced().await;
    }

    /// Changes of all views but the budgets' (which wake nobody).
    pub(crate) fn changes(&self) -> SelectAll<BoxStream<'static, Seen>> {
        stream::select_all([
            changes(&self.pods, Seen::Pod),
            changes(&self.nodes, Seen::Node),
            changes(&self.namespaces, Seen::Namespace),
            changes(&self.volumes, Seen::Volume),
            changes(&self.claims, Seen::Claim),
        ])
    }

    /// The budgets, as preemption looks at them.
    pub(crate) fn disruption_budgets(&self) -> Vec<Budget> {
        let parse = |budget: &Arc<PodDisruptionBudget>| {
            let selector = budget.spec.as_ref()?.selector.as_ref()?;
            let value = serde_json::to_value(selector).expect("API types serialise to JSON");
            Some(Budget {
                namespace: budget.metadata.namespace.clone().unwrap_or_default(),
                selector: Selector::from_label_selector(Some(&value)).ok()?,
                allowed: budget.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0),
            })
        };
        self.budgets.list().iter().filter_map(parse).collect()
    }
}

/// Versions before and after.
pub(crate) type Versions<K> = (ObjectKey, Option<Arc<K>>, Option<Arc<K>>);

/// One thing seen.
#[derive(Debug)]
pub(crate) enum Seen {
    Pod(Versions<Pod>),
    Node(Versions<Node>),
    Namespace(Versions<Namespace>),
    Volume(Versions<PersistentVolume>),
    Claim(Versions<PersistentVolumeClaim>),
    /// Look at everything again.
    Resync,
}

fn changes<K: Object>(view: &View<K>, seen: fn(Versions<K>) -> Seen) -> BoxStream<'static, Seen> {
    stream::unfold(view.changes(), move |mut changes| async move {
        let next = match changes.next().await? {
            Change::Resync => Seen::Resync,
            Change::Object { key, old, new } => seen((key, old, new)),
        };
        Some((next, changes))
    })
    .boxed()
}

/// Every filter: a node that is new may please any of them.
pub(crate) const ALL: [Filter; 9] = [
    Filter::NodeUnschedulable,
    Filter::NodeName,
    Filter::TaintToleration,
    Filter::NodeAffinity,
    Filter::NodePorts,
    Filter::NodeResources,
    Filter::PodTopologySpread,
    Filter::InterPodAffinity,
    Filter::Volumes,
];

/// The filters that may judge otherwise after a node changed. PURE.
pub(crate) fn changed_minds(old: Option<&Node>, new: Option<&Node>) -> Vec<Filter> {
    let (old, new) = match (old, new) {
        (None, _) => return ALL.to_vec(),
        // A domain less may end a skew.
        (Some(_), None) => return vec![Filter::PodTopologySpread],
        (Some(old), Some(new)) => (old, new),
    };
    let mut filters = Vec::new();
    let allocatable = |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone());
    if allocatable(old) != allocatable(new) {
        filters.push(Filter::NodeResources);
    }
    if old.metadata.labels != new.metadata.labels {
        filters.extend([
            Filter::NodeAffinity,
            Filter::PodTopologySpread,
            Filter::InterPodAffinity,
            Filter::Volumes,
        ]);
    }
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    if taints(old) != taints(new) {
        filters.extend([Filter::TaintToleration, Filter::PodTopologySpread]);
    }
    let cordoned = |node: &Node| node.spec.as_ref().and_then(|spec| spec.unschedulable);
    if cordoned(old) != cordoned(new) {
        filters.push(Filter::NodeUnschedulable);
    }
    filters
}

/// The filters that may judge otherwise once a pod has left its node.
pub(crate) const AFTER_A_POD_LEFT: [Filter; 4] =
    [Filter::NodeResources, Filter::NodePorts, Filter::InterPodAffinity, Filter::PodTopologySpread];

/// The filters that may judge otherwise once a pod has come to a node or changed its labels.
pub(crate) const AFTER_A_POD_CAME: [Filter; 2] =
    [Filter::InterPodAffinity, Filter::PodTopologySpread];
