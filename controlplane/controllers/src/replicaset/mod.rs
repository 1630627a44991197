//! ReplicaSets and ReplicationControllers: keeps as many pods as asked for.

mod plan;
mod rank;
mod replicated;

use std::marker::PhantomData;

use informer::Object;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::owner::controller_key;
use crate::world::{Changed, World, owned_or_orphaned};

use replicated::{Replicated, selecting};

pub(crate) use rank::deletion_order;

/// The controller of one of the two kinds.
#[derive(Debug)]
pub(crate) struct Replicas<K>(PhantomData<fn() -> K>);

/// The controller of ReplicaSets.
pub(crate) const REPLICA_SETS: Replicas<ReplicaSet> = Replicas(PhantomData);
/// The controller of ReplicationControllers.
pub(crate) const REPLICATION_CONTROLLERS: Replicas<ReplicationController> = Replicas(PhantomData);

impl<K: Replicated> Controller for Replicas<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn component(&self) -> &'static str {
        K::COMPONENT
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        if let Some(versions) = K::changed(changed) {
            return vec![versions.key()];
        }
        let Changed::Pod(versions) = changed else { return Vec::new() };
        let mut keys: Vec<_> = versions.both().filter_map(controller_key::<K>).collect();
        // An orphan may be adopted by any that select it.
        if let Some(pod) = versions.new.as_deref().filter(|pod| pod.controller().is_none()) {
            keys.extend(selecting::<K>(world, pod).iter().map(|set| set.key()));
        }
        keys
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(set) = K::view(world).get(key) else { return Plan::nothing() };
        let candidates = owned_or_orphaned(&world.pods, &key.namespace, set.uid());
        // Pods of sets with the same controller (one Deployment's) count as doubled up on a node.
        let siblings = set.controller().map_or_else(Vec::new, |controller| {
            let sets = world.replica_sets.by_index(informer::OWNER_UID, &controller.uid);
            let pods = sets
                .iter()
                .flat_map(|sibling| world.pods.by_index(informer::OWNER_UID, sibling.uid()));
            pods.collect()
        });
        plan::plan(&*set, &candidates, &siblings, context)
    }
}
