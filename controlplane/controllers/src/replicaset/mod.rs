//! ReplicaSets: keeps as many pods as asked for.

mod plan;
mod rank;

use informer::Object;
use k8s_openapi::api::apps::v1::ReplicaSet;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::owner::{self, controller_key};
use crate::world::{Changed, World, owned_or_orphaned};

pub(crate) use rank::deletion_order;

/// The controller.
#[derive(Debug)]
pub(crate) struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn component(&self) -> &'static str {
        "replicaset-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::ReplicaSet(versions) => vec![versions.key()],
            Changed::Pod(versions) => {
                let mut keys: Vec<_> =
                    versions.both().filter_map(controller_key::<ReplicaSet>).collect();
                // An orphan may be adopted by any that select it.
                if let Some(pod) = versions.new.as_deref().filter(|pod| pod.controller().is_none())
                {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
                    let sets = world.replica_sets.list_in(namespace);
                    let fits = |set: &ReplicaSet| {
                        set.spec.as_ref().is_some_and(|spec| {
                            owner::selector(&spec.selector).matches(&owner::labels(&pod.metadata))
                        })
                    };
                    keys.extend(sets.iter().filter(|set| fits(set)).map(|set| set.key()));
                }
                keys
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(set) = world.replica_sets.get(key) else { return Plan::nothing() };
        let candidates = owned_or_orphaned(&world.pods, &key.namespace, set.uid());
        // Pods of sets with the same controller (one Deployment's) count as doubled up on a node.
        let siblings = set.controller().map_or_else(Vec::new, |controller| {
            let sets = world.replica_sets.by_index(informer::OWNER_UID, &controller.uid);
            let pods = sets
                .iter()
                .flat_map(|sibling| world.pods.by_index(informer::OWNER_UID, sibling.uid()));
            pods.collect()
        });
        plan::plan(&set, &candidates, &siblings, context)
    }
}
