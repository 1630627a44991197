//! PodDisruptionBudgets: keeps their status up to date, which evictions spend from.

mod plan;

use std::sync::Arc;

use informer::Object;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::owner::{self, controller_key};
use crate::world::{Changed, World};

/// The controller.
#[derive(Debug)]
pub(crate) struct DisruptionBudgets;

impl Controller for DisruptionBudgets {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn component(&self) -> &'static str {
        "controllermanager"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        let namespace = match changed {
            Changed::PodDisruptionBudget(versions) => return vec![versions.key()],
            Changed::Pod(versions) => {
                let selecting = |pod: &Pod| {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
                    let mut budgets = world.disruption_budgets.list_in(namespace);
                    budgets.retain(|budget| selects(budget, pod));
                    budgets
                };
                let budgets = versions.both().flat_map(selecting);
                return budgets.map(|budget| budget.key()).collect();
            }
            // How many pods there should be is what their controllers ask for.
            Changed::Deployment(versions) => versions.key().namespace,
            Changed::ReplicaSet(versions) => versions.key().namespace,
            Changed::ReplicationController(versions) => versions.key().namespace,
            Changed::StatefulSet(versions) => versions.key().namespace,
            _ => return Vec::new(),
        };
        let budgets = world.disruption_budgets.list_in(&namespace);
        budgets.iter().map(|budget| budget.key()).collect()
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(budget) = world.disruption_budgets.get(key) else { return Plan::nothing() };
        let mut pods = world.pods.list_in(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        plan::plan(&budget, &pods, expected(world, &pods), context.now)
    }
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector
        .is_some_and(|selector| owner::selector(selector).matches(&owner::labels(&pod.metadata)))
}

/// How many pods the controllers of some pods ask for, all together; or which pod has no controller
/// that asks for a number.
fn expected(world: &World, pods: &[Arc<Pod>]) -> Result<i32, String> {
    let mut scales = std::collections::BTreeMap::new();
    for pod in pods {
        let Some(controller) = pod.controller() else {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(format!("found no controller ref for pod {name:?}"));
        };
        match scale(world, pod) {
            Some((uid, replicas)) => scales.insert(uid, replicas),
            None => {
                let kind = &controller.kind;
                return Err(format!(
                    "{} does not implement the scale subresource",
                    kind.to_lowercase() + "s"
                ));
            }
        };
    }
    Ok(scales.values().sum())
}

/// The uid of what scales a pod, and the replicas it asks for.
fn scale(world: &World, pod: &Pod) -> Option<(String, i32)> {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
    use k8s_openapi::api::core::v1::ReplicationController;
    if let Some(key) = controller_key::<ReplicaSet>(pod) {
        let set = world.replica_sets.get(&key)?;
        let deployment =
            controller_key::<Deployment>(&*set).and_then(|key| world.deployments.get(&key));
        return match deployment {
            Some(deployment) => {
                let replicas = deployment.spec.as_ref()?.replicas.unwrap_or(1);
                Some((deployment.uid().to_owned(), replicas))
            }
            None => Some((set.uid().to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1))),
        };
    }
    if let Some(key) = controller_key::<StatefulSet>(pod) {
        let set = world.stateful_sets.get(&key)?;
        return Some((set.uid().to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1)));
    }
    let key = controller_key::<ReplicationController>(pod)?;
    let set = world.replication_controllers.get(&key)?;
    Some((set.uid().to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1)))
}
