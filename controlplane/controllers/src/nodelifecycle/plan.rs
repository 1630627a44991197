//! What to do for one node. PURE.
//!
//! Source: kubernetes pkg/controller/nodelifecycle and tainteviction, v1.36.

use std::sync::Arc;
use std::time::Duration;

use informer::{Action, EventType, Object, Occurrence, PatchType, reference};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use objects::time::format_time;
use serde_json::{Value, json};

use super::{condition, evict, name, taints};
use crate::controller::{Announcement, Plan, Step};
use crate::pods;

/// Conditions that only the node's own agent knows.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What changes when a node gives a sign of life: its lease's renewal, its status' heartbeat.
pub(super) type Sign = (Option<Timestamp>, Option<Timestamp>);

pub(super) fn sign_of_life(node: &Node, lease: Option<&Lease>) -> Sign {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    let beat = condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref());
    (renewed.map(|time| time.0), beat.map(|time| time.0))
}

/// `heard` is when the node was last heard of, by this process' clock.
pub(super) fn plan(
    node: &Node,
    pods: &[Arc<Pod>],
    heard: Timestamp,
    grace: Duration,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::nothing();
    let silent_for: Duration = now.duration_since(heard).try_into().unwrap_or(Duration::ZERO);
    match grace.checked_sub(silent_for).filter(|rest| !rest.is_zero()) {
        Some(rest) => plan.again_after(rest),
        None => {
            // Its own plan: the taints follow from the conditions written here.
            if let Some(action) = declare_unknown(node, now) {
                let text = format!("Node {} status is now: NodeNotReady", name(node));
                let kind = EventType::Normal;
                plan.events.push(Occurrence::of(node, kind, "NodeNotReady", text));
                plan.steps.push(action.into());
                return plan;
            }
        }
    }
    if let Some(wanted) = taints::wanted(node, now) {
        let body = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": wanted},
        });
        plan.steps.push(Action::merge::<Node>(node.key(), body).into());
        return plan;
    }
    if condition(node, "Ready").is_some_and(|ready| ready.status == "Unknown") {
        plan.steps.extend(pods.iter().filter_map(|pod| mark_not_ready(pod, now)));
    }
    for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
        match evict::leaves_in(pod, taints::taints(node), now) {
            Some(wait) if wait.is_zero() => plan.steps.extend(make_leave(pod, now)),
            Some(wait) => plan.again_after(wait),
            None => {}
        }
    }
    plan
}

/// Says of a silent node that its state is not known.
fn declare_unknown(node: &Node, now: Timestamp) -> Option<Action> {
    let conditions: Vec<Value> = REPORTED
        .iter()
        .filter_map(|kind| {
            let known = condition(node, kind);
            if known.is_some_and(|known| known.status == "Unknown") {
                return None;
            }
            let (reason, message) = match known {
                Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            let beat = known.and_then(|known| known.last_heartbeat_time.as_ref());
            let beat = beat.or(node.metadata.creation_timestamp.as_ref()).map(|time| time.0);
            Some(json!({
                "type": kind,
                "status": "Unknown",
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": format_time(beat.unwrap_or(now)),
                "lastTransitionTime": format_time(now),
            }))
        })
        .collect();
    if conditions.is_empty() {
        return None;
    }
    let body = json!({
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "status": {"conditions": conditions},
    });
    Some(Action::patch::<Node>(node.key(), PatchType::Strategic, Some("status"), body))
}

/// Takes a pod of a silent node out of its Services.
fn mark_not_ready(pod: &Arc<Pod>, now: Timestamp) -> Option<Step> {
    if !pods::is_ready(pod) {
        return None;
    }
    let body = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "lastTransitionTime": format_time(now),
        }]},
    });
    let action = Action::patch::<Pod>(pod.key(), PatchType::Strategic, Some("status"), body);
    let announcement = Announcement {
        regarding: reference(&**pod),
        done: ("NodeNotReady", "Node is not ready".into()),
        failed: None,
    };
    Some(Step::announced(action, announcement))
}

fn make_leave(pod: &Arc<Pod>, now: Timestamp) -> [Step; 2] {
    let body = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": format_time(now),
        }]},
    });
    let mark = Action::patch::<Pod>(pod.key(), PatchType::Strategic, Some("status"), body);
    let announcement = Announcement {
        regarding: reference(&**pod),
        done: ("TaintManagerEviction", format!("Marking for deletion Pod {}", pod.key())),
        failed: None,
    };
    let delete = Action::delete::<Pod>(pod.key(), pod.uid());
    [mark.into(), Step::announced(delete, announcement)]
}

#[cfg(test)]
mod tests {
    use informer::Verb;

    use super::*;

    const NOW: i64 = 1_000_000;
    const GRACE: Duration = Duration::from_secs(40);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(NOW + secs).unwrap()
    }

    fn node(ready: &str, taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "resourceVersion": "5"},
            "spec": {"taints": taints},
            "status": {"conditions": REPORTED.map(|kind| {
                let status = if kind == "Ready" { ready } else { "False" };
                json!({"type": kind, "status": if ready == "Unknown" { "Unknown" } else { status }})
            })},
        }))
        .unwrap()
    }

    fn pod(tolerations: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "a", "uid": "u"},
                "spec": {"containers": [], "nodeName": "n1", "tolerations": tolerations},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap(),
        )
    }

    fn verbs(plan: &Plan) -> Vec<String> {
        let text = |step: &Step| match &step.action.verb {
            Verb::Patch { subresource, .. } => format!("patch {}", subresource.unwrap_or("spec")),
            _ => step.action.verb_name().to_string(),
        };
        plan.steps.iter().map(text).collect()
    }

    #[test]
    fn a_node_that_is_heard_of_is_looked_at_when_its_grace_ends() {
        let plan = plan(&node("True", json!([])), &[], at(-10), GRACE, at(0));
        assert_eq!((plan.steps.len(), plan.again_after), (0, Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_silent_node_becomes_unknown_then_tainted_then_loses_its_pods() {
        let silent = plan(&node("True", json!([])), &[], at(-41), GRACE, at(0));
        assert_eq!(verbs(&silent), ["patch status"]);
        assert_eq!(silent.events[0].message, "Node n1 status is now: NodeNotReady");

        let unknown = plan(&node("Unknown", json!([])), &[], at(-41), GRACE, at(0));
        assert_eq!(verbs(&unknown), ["patch spec"]);

        let taints = json!([
            {"key": taints::UNREACHABLE, "effect": "NoSchedule"},
            {"key": taints::UNREACHABLE, "effect": "NoExecute", "timeAdded": at(-100).to_string()},
        ]);
        let node = node("Unknown", taints);
        let patient = json!([{"key": taints::UNREACHABLE, "operator": "Exists",
            "tolerationSeconds": 300}]);
        let waiting = plan(&node, &[pod(patient.clone())], at(-41), GRACE, at(0));
        assert_eq!(verbs(&waiting), ["patch status"], "out of its Services at once");
        assert_eq!(waiting.again_after, Some(Duration::from_secs(200)));
        let leaving = plan(&node, &[pod(patient)], at(-41), GRACE, at(200));
        assert_eq!(verbs(&leaving), ["patch status", "patch status", "delete"]);
    }

    #[test]
    fn a_taint_set_by_hand_evicts_too() {
        let node = node("True", json!([{"key": "maintenance", "effect": "NoExecute"}]));
        let plan = plan(&node, &[pod(json!([]))], at(0), GRACE, at(0));
        assert_eq!(verbs(&plan), ["patch status", "delete"]);
        let announcement = plan.steps[1].announcement.as_ref().unwrap();
        assert_eq!(announcement.done.1, "Marking for deletion Pod a/p");
    }
}
