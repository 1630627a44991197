//! The two kinds that keep a number of pods: ReplicaSet, and ReplicationController, which is the
//! older form of the same thing.

use std::sync::Arc;

use informer::{Action, Object, View};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use objects::selector::Selector;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::owner;
use crate::world::{Changed, Versions, World};

/// What an object of such a kind asks for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) replicas: usize,
    pub(super) min_ready_secs: i32,
    pub(super) selector: Selector,
    pub(super) template: Option<&'a PodTemplateSpec>,
}

/// A kind that keeps a number of pods.
pub(super) trait Replicated:
    Object + k8s_openapi::Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug
{
    /// Name of the controller.
    const NAME: &'static str;
    /// The component that Events name.
    const COMPONENT: &'static str;
    /// Whether the status tells how many pods are being deleted.
    const REPORTS_TERMINATING: bool;

    /// The view of this kind.
    fn view(world: &World) -> &View<Self>;

    /// The change, if it is one of this kind.
    fn changed(changed: &Changed) -> Option<&Versions<Self>>;

    /// What is asked for; `None` only without a spec, which validation keeps out.
    fn wanted(&self) -> Option<Wanted<'_>>;

    /// The status, in the form that ReplicaSets have.
    fn status(&self) -> Option<ReplicaSetStatus>;

    /// The write of a new status.
    fn update_status(&self, status: ReplicaSetStatus) -> Action;
}

fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

impl Replicated for ReplicaSet {
    const NAME: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";
    const REPORTS_TERMINATING: bool = true;

    fn view(world: &World) -> &View<Self> {
        &world.replica_sets
    }

    fn changed(changed: &Changed) -> Option<&Versions<Self>> {
        if let Changed::ReplicaSet(versions) = changed { Some(versions) } else { None }
    }

    fn wanted(&self) -> Option<Wanted<'_>> {
        let spec = self.spec.as_ref()?;
        Some(Wanted {
            replicas: count(spec.replicas),
            min_ready_secs: spec.min_ready_seconds.unwrap_or(0),
            selector: owner::selector(&spec.selector),
            template: spec.template.as_ref(),
        })
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        self.status.clone()
    }

    fn update_status(&self, status: ReplicaSetStatus) -> Action {
        Action::update_status(&Self { status: Some(status), ..self.clone() })
    }
}

impl Replicated for ReplicationController {
    const NAME: &'static str = "replicationcontroller";
    const COMPONENT: &'static str = "replication-controller";
    const REPORTS_TERMINATING: bool = false;

    fn view(world: &World) -> &View<Self> {
        &world.replication_controllers
    }

    fn changed(changed: &Changed) -> Option<&Versions<Self>> {
        if let Changed::ReplicationController(versions) = changed { Some(versions) } else { None }
    }

    fn wanted(&self) -> Option<Wanted<'_>> {
        let spec = self.spec.as_ref()?;
        let match_labels = spec.selector.clone();
        Some(Wanted {
            replicas: count(spec.replicas),
            min_ready_secs: spec.min_ready_seconds.unwrap_or(0),
            selector: owner::selector(&LabelSelector { match_labels, match_expressions: None }),
            template: spec.template.as_ref(),
        })
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        let status = self.status.clone()?;
        let conditions = status.conditions.map(|all| all.into_iter().map(to_set).collect());
        Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions,
        })
    }

    fn update_status(&self, status: ReplicaSetStatus) -> Action {
        let conditions = status.conditions.map(|all| all.into_iter().map(from_set).collect());
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        };
        Action::update_status(&Self { status: Some(status), ..self.clone() })
    }
}

fn to_set(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    let ReplicationControllerCondition { last_transition_time, message, reason, status, type_ } =
        condition;
    ReplicaSetCondition { last_transition_time, message, reason, status, type_ }
}

fn from_set(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    let ReplicaSetCondition { last_transition_time, message, reason, status, type_ } = condition;
    ReplicationControllerCondition { last_transition_time, message, reason, status, type_ }
}

/// The objects of a kind in a namespace that select a pod.
pub(super) fn selecting<K: Replicated>(
    world: &World,
    pod: &k8s_openapi::api::core::v1::Pod,
) -> Vec<Arc<K>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let mut sets = K::view(world).list_in(namespace);
    let labels = owner::labels(&pod.metadata);
    sets.retain(|set| set.wanted().is_some_and(|wanted| wanted.selector.matches(&labels)));
    sets
}
