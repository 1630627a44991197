//! Pods that nobody else cleans up: those of nodes that are gone, and finished ones beyond a
//! number.
//!
//! Source: kubernetes pkg/controller/podgc, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use informer::{Action, Object, PatchType, ResourcePath, Verb};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use objects::ObjectKey;
use objects::time::format_time;
use parking_lot::Mutex;
use serde_json::json;

use crate::controller::{Context, Controller, Plan, Step};
use crate::pods;
use crate::world::{Changed, NODE, World};

/// How long a node has to be gone before its pods are: it may only be re-registering.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Deletes the pods of nodes that are gone; its keys are nodes.
#[derive(Debug, Default)]
pub(crate) struct OrphanedPods {
    /// Since when nodes that pods name are gone.
    gone_since: Mutex<BTreeMap<String, Timestamp>>,
}

impl Controller for OrphanedPods {
    fn name(&self) -> &'static str {
        "orphanedpods"
    }

    fn component(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Node(versions) => vec![versions.key()],
            Changed::Pod(versions) => {
                let node = ObjectKey::new("", pods::node_name(versions.current()));
                let is_orphaned = !node.name.is_empty() && world.nodes.get(&node).is_none();
                if is_orphaned { vec![node] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let pods = world.pods.by_index(NODE, &key.name);
        let mut gone_since = self.gone_since.lock();
        if world.nodes.get(key).is_some() || pods.is_empty() {
            gone_since.remove(&key.name);
            return Plan::nothing();
        }
        let since = *gone_since.entry(key.name.clone()).or_insert(context.now);
        orphaned(&pods, since, context.now)
    }
}

fn orphaned(pods: &[Arc<Pod>], since: Timestamp, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let gone_for: Duration = now.duration_since(since).try_into().unwrap_or(Duration::ZERO);
    if let Some(rest) = QUARANTINE.checked_sub(gone_for).filter(|rest| !rest.is_zero()) {
        plan.again_after(rest);
        return plan;
    }
    for pod in pods {
        let mut status = json!({"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": format_time(now),
        }]});
        if !pods::is_finished(pod) {
            status["phase"] = json!("Failed");
        }
        let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let mark = Action::patch::<Pod>(pod.key(), PatchType::Strategic, Some("status"), body);
        plan.steps.push(mark.into());
        plan.steps.push(delete_now(pod));
    }
    plan
}

/// Deletes the oldest finished pods beyond a number; it has one key.
#[derive(Debug)]
pub(crate) struct FinishedPods {
    /// How many may stay.
    pub(crate) max: usize,
}

impl Controller for FinishedPods {
    fn name(&self) -> &'static str {
        "finishedpods"
    }

    fn component(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Pod(versions) if versions.new.as_deref().is_some_and(pods::is_finished) => {
                // Counting is only worth it where there can be too many.
                if world.pods.len() > self.max {
                    vec![ObjectKey::new("", "all")]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, _key: &ObjectKey, _context: &Context) -> Plan {
        finished(world.pods.list(), self.max)
    }

    fn workers(&self) -> usize {
        1
    }
}

fn finished(mut pods: Vec<Arc<Pod>>, max: usize) -> Plan {
    pods.retain(|pod| pods::is_finished(pod) && !pod.is_terminating());
    let surplus = pods.len().saturating_sub(max);
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    pods.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.key().cmp(&b.key())));
    let steps = pods.iter().take(surplus).map(delete_now).collect();
    Plan { steps, ..Plan::default() }
}

fn delete_now(pod: &Arc<Pod>) -> Step {
    let verb = Verb::Delete {
        uid: Some(pod.uid().to_string()),
        revision: None,
        grace_secs: Some(0),
        propagation: None,
    };
    Action { resource: ResourcePath::of::<Pod>(), key: pod.key(), verb }.into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + secs).unwrap()
    }

    fn pod(name: &str, phase: &str, created: i64) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(name.into());
        pod.metadata.creation_timestamp = Some(Time(at(created)));
        pod.status = Some(PodStatus { phase: Some(phase.into()), ..PodStatus::default() });
        Arc::new(pod)
    }

    #[test]
    fn pods_of_a_gone_node_fail_and_go_after_the_quarantine() {
        let pods = [pod("p", "Running", 0)];
        let early = orphaned(&pods, at(0), at(15));
        assert_eq!((early.steps.len(), early.again_after), (0, Some(Duration::from_secs(25))));
        let late = orphaned(&pods, at(0), at(40));
        let Verb::Patch { body, .. } = &late.steps[0].action.verb else { panic!("not a patch") };
        assert_eq!(body["status"]["phase"], "Failed");
        let Verb::Delete { grace_secs, .. } = late.steps[1].action.verb else {
            panic!("no delete")
        };
        assert_eq!(grace_secs, Some(0));
    }

    #[test]
    fn the_oldest_finished_pods_go() {
        let pods = vec![
            pod("new", "Succeeded", 9),
            pod("old", "Failed", 1),
            pod("older", "Succeeded", 0),
            pod("running", "Running", 0),
        ];
        let gone: Vec<_> =
            finished(pods, 1).steps.iter().map(|step| step.action.key.name.clone()).collect();
        assert_eq!(gone, ["older", "old"]);
    }
}
