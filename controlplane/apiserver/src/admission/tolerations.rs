//! Pods tolerate a lost node for five minutes unless they say otherwise.

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
