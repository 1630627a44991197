//! The difference of two statuses as a strategic merge patch.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that a strategic merge would merge by address, so that old addresses would stay.
const ADDRESS_LISTS: [&str; 2] = ["podIPs", "hostIPs"];

/// The patch that makes the API's status the wanted one; `None` if they are equal. Conditions are
/// merged by type, so that those which others set meanwhile stay.
pub(crate) fn patch(uid: &str, before: &PodStatus, after: &PodStatus) -> Option<Value> {
    let value = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("a status is an object, not {other:?}"),
    };
    let (before, after) = (value(before), value(after));
    let mut changes = Map::new();
    for (name, new) in &after {
        if before.get(name) == Some(new) {
            continue;
        }
        let change = match name.as_str() {
            // In another order, or fewer of them, they are the same to a merge.
            "conditions" => match changed_conditions(before.get(name), new) {
                Value::Array(changed) if changed.is_empty() => continue,
                changed => changed,
            },
            name if ADDRESS_LISTS.contains(&name) => replaced(new),
            _ => new.clone(),
        };
        changes.insert(name.clone(), change);
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

/// The conditions that are new or changed; each whole, fields it has lost being null.
fn changed_conditions(before: Option<&Value>, after: &Value) -> Value {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let old = list(before);
    let changed = list(Some(after)).into_iter().filter(|condition| !old.contains(condition));
    let whole = changed.map(|mut condition| {
        let known = old.iter().find(|known| known["type"] == condition["type"]);
        let known = known.and_then(Value::as_object).into_iter().flatten();
        for (field, _) in known {
            if condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
        condition
    });
    Value::Array(whole.collect())
}

fn replaced(list: &Value) -> Value {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.push(json!({"$patch": "replace"}));
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let before = status(json!({"phase": "Pending", "message": "m",
            "conditions": [condition("Ready", "False"), condition("Foreign", "True")]}));
        let after = status(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [condition("Ready", "True"), condition("Foreign", "True")]}));
        let made = patch("u", &before, &after).unwrap();
        assert_eq!(
            made,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "message": null,
                "podIPs": [{"ip": "10.0.0.1"}, {"$patch": "replace"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }})
        );
        assert_eq!(patch("u", &after, &after), None);
        let mut turned = after.clone();
        turned.conditions.as_mut().unwrap().reverse();
        assert_eq!(patch("u", &after, &turned), None, "the order of conditions says nothing");
    }
}
