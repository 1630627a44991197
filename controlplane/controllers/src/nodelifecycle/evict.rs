//! Which pods a node's taints make leave, and when. PURE.
//!
//! Source: kubernetes pkg/controller/tainteviction, v1.36.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

/// How long until a pod has to leave: zero for now, `None` if it may stay.
pub(super) fn leaves_in(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or(&[]);
    let evicting = taints.iter().filter(|taint| taint.effect == "NoExecute");
    let mut soonest = None;
    for taint in evicting {
        let tolerating: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if tolerating.is_empty() {
            return Some(Duration::ZERO);
        }
        // The shortest of those that set a limit.
        let limit = tolerating.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let Some(limit) = limit else { continue };
        let limit = Duration::from_secs(u64::try_from(limit).unwrap_or(0));
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let past: Duration = now.duration_since(since).try_into().unwrap_or(Duration::ZERO);
        let rest = limit.saturating_sub(past);
        soonest = Some(soonest.map_or(rest, |known: Duration| known.min(rest)));
    }
    soonest
}

/// Whether a toleration covers a taint.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let covers =
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    covers
        && match text(&toleration.operator).as_str() {
            "Exists" => true,
            "" | "Equal" => text(&toleration.value) == text(&taint.value),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SINCE: i64 = 1_000_000;

    fn leaves(tolerations: Value, effect: &str, after_secs: i64) -> Option<u64> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}),
        )
        .unwrap();
        let since = Timestamp::from_second(SINCE).unwrap();
        let taint = json!([{"key": "k", "effect": effect, "timeAdded": since.to_string()}]);
        let taints: Vec<Taint> = serde_json::from_value(taint).unwrap();
        let now = Timestamp::from_second(SINCE + after_secs).unwrap();
        leaves_in(&pod, &taints, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn tolerations_decide() {
        let for_secs =
            |secs: i64| json!([{"key": "k", "operator": "Exists", "tolerationSeconds": secs}]);
        for (tolerations, effect, after, wanted) in [
            (json!([]), "NoExecute", 0, Some(0)),
            (json!([]), "NoSchedule", 0, None),
            (json!([{"operator": "Exists"}]), "NoExecute", 0, None),
            (json!([{"key": "other", "operator": "Exists"}]), "NoExecute", 0, Some(0)),
            (for_secs(300), "NoExecute", 100, Some(200)),
            (for_secs(300), "NoExecute", 301, Some(0)),
            (for_secs(-1), "NoExecute", 0, Some(0)),
        ] {
            assert_eq!(
                leaves(tolerations.clone(), effect, after),
                wanted,
                "{tolerations} {effect}"
            );
        }
    }
}
