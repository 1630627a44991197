//! Deployments: one ReplicaSet per pod template, and the change from one to the next.

mod plan;
mod revision;
mod rolling;
mod status;

use informer::Object;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::owner::{self, controller_key};
use crate::pods;
use crate::world::{Changed, Versions, World, owned_or_orphaned};

/// The controller.
#[derive(Debug)]
pub(crate) struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn component(&self) -> &'static str {
        "deployment-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Deployment(versions) => vec![versions.key()],
            Changed::ReplicaSet(versions) => woken_by_set(world, versions),
            Changed::Pod(versions) => woken_by_pod(world, versions),
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(deployment) = world.deployments.get(key) else { return Plan::nothing() };
        let candidates = owned_or_orphaned(&world.replica_sets, &key.namespace, deployment.uid());
        let pods_of = |set: &ReplicaSet| world.pods.by_index(informer::OWNER_UID, set.uid());
        let set_called = |name: &str| world.replica_sets.get(&ObjectKey::new(&key.namespace, name));
        let seen = plan::Seen { pods_of: &pods_of, set_called: &set_called };
        plan::plan(&deployment, &candidates, &seen, context)
    }
}

fn woken_by_set(world: &World, versions: &Versions<ReplicaSet>) -> Vec<ObjectKey> {
    let mut keys: Vec<_> = versions.both().filter_map(controller_key::<Deployment>).collect();
    // An orphan may be adopted by any that select it.
    if let Some(set) = versions.new.as_deref().filter(|set| set.controller().is_none()) {
        let namespace = set.metadata.namespace.as_deref().unwrap_or("");
        let fits = |deployment: &Deployment| {
            deployment.spec.as_ref().is_some_and(|spec| {
                owner::selector(&spec.selector).matches(&owner::labels(&set.metadata))
            })
        };
        let deployments = world.deployments.list_in(namespace);
        keys.extend(deployments.iter().filter(|one| fits(one)).map(|one| one.key()));
    }
    keys
}

/// Recreate waits for the last old pod to go; nothing else looks at pods.
fn woken_by_pod(world: &World, versions: &Versions<Pod>) -> Vec<ObjectKey> {
    let has_ended = versions.new.as_deref().is_none_or(pods::is_finished);
    if !has_ended {
        return Vec::new();
    }
    let sets = versions.both().filter_map(controller_key::<ReplicaSet>);
    let sets = sets.filter_map(|key| world.replica_sets.get(&key));
    sets.filter_map(|set| controller_key::<Deployment>(&*set)).collect()
}
