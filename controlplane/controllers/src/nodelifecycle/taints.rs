//! The taints that a node's conditions ask for. PURE.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go, v1.36.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Condition, status, and the taint that follows.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Whether a taint of the node can make pods leave.
pub(super) fn evicts(node: &Node) -> bool {
    taints(node).iter().any(|taint| taint.effect == NO_EXECUTE)
}

pub(super) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or(&[])
}

/// The node's taints as they should be, if they differ: those that conditions ask for, and every
/// other that somebody has set.
pub(super) fn wanted(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let mut asked: Vec<(&str, &str)> = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        if condition(node, kind).is_some_and(|condition| condition.status == status) {
            asked.push((key, NO_SCHEDULE));
            if kind == "Ready" {
                asked.push((key, NO_EXECUTE));
            }
        }
    }
    // A node that has not said anything yet keeps the taint it was created with.
    if condition(node, "Ready").is_none() && taints(node).iter().any(|one| one.key == NOT_READY) {
        asked.push((NOT_READY, NO_SCHEDULE));
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        asked.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_ours = |taint: &Taint| {
        let by_condition = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
        match taint.effect.as_str() {
            NO_SCHEDULE => by_condition || taint.key == UNSCHEDULABLE,
            NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
            _ => false,
        }
    };
    let known = taints(node);
    let is_asked = |taint: &Taint| asked.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut wanted: Vec<Taint> =
        known.iter().filter(|taint| !is_ours(taint) || is_asked(taint)).cloned().collect();
    for (key, effect) in asked {
        let has_it = |taint: &Taint| taint.key == key && taint.effect == effect;
        if !wanted.iter().any(has_it) {
            wanted.push(Taint {
                key: key.to_string(),
                effect: effect.to_string(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    (wanted != known).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: &str, spec: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": spec, "status": {
            "conditions": [{"type": "Ready", "status": ready},
                {"type": "DiskPressure", "status": if ready == "True" { "True" } else { "False" }}]}}))
        .unwrap()
    }

    fn keys(node: &Node) -> Option<Vec<String>> {
        let wanted = wanted(node, Timestamp::UNIX_EPOCH)?;
        Some(wanted.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    #[test]
    fn conditions_become_taints() {
        let both = |key: &str| vec![format!("{key}:NoSchedule"), format!("{key}:NoExecute")];
        assert_eq!(keys(&node("False", json!({}))), Some(both(NOT_READY)));
        assert_eq!(keys(&node("Unknown", json!({}))), Some(both(UNREACHABLE)));
        let pressure = "node.kubernetes.io/disk-pressure:NoSchedule".to_string();
        assert_eq!(keys(&node("True", json!({}))), Some(vec![pressure.clone()]));
        let cordoned = "node.kubernetes.io/unschedulable:NoSchedule".to_string();
        assert_eq!(
            keys(&node("True", json!({"unschedulable": true}))),
            Some(vec![pressure, cordoned])
        );
    }

    #[test]
    fn outdated_taints_go_and_foreign_ones_stay() {
        let taints = json!([
            {"key": "mine", "effect": "NoExecute"},
            {"key": NOT_READY, "effect": "NoExecute"},
            {"key": UNREACHABLE, "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},
        ]);
        let wanted = vec![
            "mine:NoExecute".to_string(),
            "node.kubernetes.io/disk-pressure:NoSchedule".to_string(),
        ];
        assert_eq!(keys(&node("True", json!({"taints": taints}))), Some(wanted));
    }

    #[test]
    fn a_taint_keeps_its_time() {
        let since = "2024-01-01T00:00:00Z";
        let taints = json!([
            {"key": NOT_READY, "effect": "NoSchedule", "timeAdded": since},
            {"key": NOT_READY, "effect": "NoExecute", "timeAdded": since},
        ]);
        assert_eq!(keys(&node("False", json!({"taints": taints}))), None, "nothing to change");
    }
}
