//! Pods tolerate a lost node for five minutes unless they say otherwise; a new node is not ready.

use objects::ObjectExt;
use serde_json::{Value, json};

const SECS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds the tolerations.
pub(super) fn mutate(pod: &mut Value) {
    let mut list: Vec<Value> = pod.list_at(&["spec", "tolerations"]).to_vec();
    let before = list.len();
    for taint in TAINTS {
        let tolerated = list.iter().any(|toleration| {
            let key = toleration.str_at(&["key"]);
            let effect = toleration.str_at(&["effect"]);
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            list.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SECS,
            }));
        }
    }
    if list.len() > before {
        pod.set_at(&["spec", "tolerations"], Value::Array(list));
    }
}

/// A node takes no pods before it has said that it is ready.
///
/// Source of behaviour: kubernetes `plugin/pkg/admission/nodetaint`, v1.36.
pub(super) fn taint_new_node(node: &mut Value) {
    let mut taints: Vec<Value> = node.list_at(&["spec", "taints"]).to_vec();
    let taint = json!({"key": TAINTS[0], "effect": "NoSchedule"});
    let same =
        |one: &Value| one.str_at(&["key"]) == TAINTS[0] && one.str_at(&["effect"]) == "NoSchedule";
    if !taints.iter().any(same) {
        taints.push(taint);
        node.set_at(&["spec", "taints"], Value::Array(taints));
    }
}
