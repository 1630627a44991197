//! Taints and tolerations. PURE.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Filter, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub(super) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let effects = ["NoSchedule", "NoExecute"];
    if tolerates_all(&pod.tolerations, node.taints(), &effects) {
        return Vec::new();
    }
    vec![Reason::final_(Filter::TaintToleration, "node(s) had untolerated taint(s)")]
}

/// Whether every taint with one of the effects is tolerated.
pub fn tolerates_all(tolerations: &[Toleration], taints: &[Taint], effects: &[&str]) -> bool {
    let counts = |taint: &&Taint| effects.contains(&taint.effect.as_str());
    taints.iter().filter(counts).all(|taint| tolerations.iter().any(|one| tolerates(one, taint)))
}

/// Whether a toleration covers a taint.
///
/// Source: kubernetes component-helpers scheduling/corev1 and api/core/v1/toleration.go, v1.36.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = text(&toleration.key);
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let number = |value: &Option<String>| value.as_deref().and_then(|v| v.parse::<i64>().ok());
    match text(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Lt" => number(&taint.value).zip(number(&toleration.value)).is_some_and(|(a, b)| a < b),
        "Gt" => number(&taint.value).zip(number(&toleration.value)).is_some_and(|(a, b)| a > b),
        _ => false,
    }
}
