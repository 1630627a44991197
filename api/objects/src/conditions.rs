//! `status.conditions` lists.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::time::format_time;

/// A condition to be set. `observed_generation` 0 leaves the field out, as for kinds whose
/// conditions lack it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition<'a> {
    /// `Ready`, `Available`, …
    pub kind: &'a str,
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// CamelCase reason, may be empty.
    pub reason: &'a str,
    /// Text for people, may be empty.
    pub message: &'a str,
    /// The generation this was seen at, 0 for none.
    pub observed_generation: i64,
}

/// The condition of a type in a conditions list.
pub fn get<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// The `status` of a condition, `""` if it is absent.
pub fn status<'a>(conditions: &'a [Value], kind: &str) -> &'a str {
    get(conditions, kind).and_then(|condition| condition["status"].as_str()).unwrap_or("")
}

/// Whether a condition is there and `True`.
pub fn is_true(conditions: &[Value], kind: &str) -> bool {
    status(conditions, kind) == "True"
}

/// Adds or changes a condition. `lastTransitionTime` moves only when `status` changes; fields that
/// the new condition does not have (such as `lastProbeTime`) are kept. Returns whether anything
/// changed.
pub fn set(conditions: &mut Vec<Value>, new: &Condition<'_>, now: Timestamp) -> bool {
    let position = conditions.iter().position(|condition| condition["type"] == new.kind);
    let old = position.and_then(|index| conditions[index].as_object());
    let mut changed: Map<String, Value> = old.cloned().unwrap_or_default();
    let moved = changed.get("status").and_then(Value::as_str) != Some(new.status);
    if moved || !changed.contains_key("lastTransitionTime") {
        changed.insert("lastTransitionTime".into(), json!(format_time(now)));
    }
    changed.insert("type".into(), json!(new.kind));
    changed.insert("status".into(), json!(new.status));
    for (field, text) in [("reason", new.reason), ("message", new.message)] {
        if text.is_empty() {
            changed.remove(field);
        } else {
            changed.insert(field.into(), json!(text));
        }
    }
    if new.observed_generation != 0 {
        changed.insert("observedGeneration".into(), json!(new.observed_generation));
    }
    if old == Some(&changed) {
        return false;
    }
    match position {
        Some(index) => conditions[index] = Value::Object(changed),
        None => conditions.push(Value::Object(changed)),
    }
    true
}

/// Removes a condition. Returns whether it was there.
pub fn remove(conditions: &mut Vec<Value>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition["type"] != kind);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &'static str, reason: &'static str) -> Condition<'static> {
        Condition { kind: "Ready", status, reason, message: "", observed_generation: 0 }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut list = Vec::new();
        assert!(set(&mut list, &ready("False", "Starting"), at(0)));
        assert!(!set(&mut list, &ready("False", "Starting"), at(5)));
        assert!(set(&mut list, &ready("False", "Waiting"), at(6)));
        assert_eq!(list[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert!(set(&mut list, &ready("True", ""), at(7)));
        assert_eq!(list[0]["lastTransitionTime"], "1970-01-01T00:00:07Z");
        assert_eq!(list[0].get("reason"), None);
        assert!(is_true(&list, "Ready"));
        assert!(remove(&mut list, "Ready") && !remove(&mut list, "Ready"));
    }

    #[test]
    fn foreign_fields_survive() {
        let mut list = vec![json!({"type": "Ready", "status": "True", "lastProbeTime": null})];
        set(&mut list, &ready("False", "Gone"), Timestamp::UNIX_EPOCH);
        assert!(list[0].as_object().unwrap().contains_key("lastProbeTime"));
    }
}
