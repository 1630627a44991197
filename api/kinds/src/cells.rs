//! How cells of `kubectl get` are written.
//!
//! Source of behaviour: kubernetes `pkg/printers/internalversion`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::selector::Selector;
use objects::{ObjectExt, time};
use serde_json::{Map, Value, json};

use crate::kind::Cell;
use crate::read::{Read, part};

/// What stands for nothing.
pub(crate) const NONE: &str = "<none>";
/// What stands for a choice not made.
pub(crate) const UNSET: &str = "<unset>";
/// What stands for something unknown, such as the age of an object without a creation time.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// The object's name.
pub(crate) fn name(object: &Value) -> Cell {
    json!(object.name())
}

/// How old the object is.
pub(crate) fn age(object: &Value, now: Timestamp) -> Cell {
    json!(since(object.str_at(&["metadata", "creationTimestamp"]), now))
}

/// The creation time itself, for columns of type `date`.
pub(crate) fn created(object: &Value) -> Cell {
    json!(object.str_at(&["metadata", "creationTimestamp"]))
}

/// How long ago a time was, `<unknown>` if there is none.
pub(crate) fn since(timestamp: &str, now: Timestamp) -> String {
    time::age(timestamp, now)
}

/// A text, `<none>` if empty.
pub(crate) fn or_none(text: &str) -> Cell {
    json!(if text.is_empty() { NONE } else { text })
}

/// A number of a part of the object, 0 if absent.
pub(crate) fn number(object: &Value, path: &[&str]) -> Cell {
    json!(object.i64_at(path).unwrap_or(0))
}

/// A map of labels as `a=b,c=d`, `<none>` if empty.
pub(crate) fn labels(map: Option<&Map<String, Value>>) -> Cell {
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    or_none(&pairs.join(","))
}

/// A `LabelSelector` in words, as `kubectl` writes it.
pub(crate) fn selector(selector: Option<&Value>) -> Cell {
    match selector.map(|selector| Selector::from_label_selector(Some(selector))) {
        None => json!(NONE),
        Some(Ok(selector)) => or_none(&selector.to_string()),
        Some(Err(_)) => json!("<error>"),
    }
}

/// Names and images of the containers of a pod spec.
pub(crate) fn containers(spec: &Value) -> [Cell; 2] {
    let join = |key: &str| {
        let texts: Vec<&str> = spec.items("containers").iter().map(|c| c.text(key)).collect();
        json!(texts.join(","))
    };
    [join("name"), join("image")]
}

/// Name and age, the cells of the plainest kinds.
pub(crate) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), age(object, now)]
}

/// Name and creation time, the cells of kinds without columns of their own.
pub(crate) fn name_and_created(object: &Value, _now: Timestamp) -> Vec<Cell> {
    vec![name(object), created(object)]
}

/// Name, number of keys in `data` (and `binaryData`), age.
pub(crate) fn data_count(object: &Value) -> usize {
    ["data", "binaryData"]
        .iter()
        .map(|key| part(object, &[key]).as_object().map_or(0, Map::len))
        .sum()
}

/// The name, marked if an annotation makes the object its kind's default.
pub(crate) fn name_with_default(object: &Value, annotations: &[&str]) -> Cell {
    let set = part(object, &["metadata", "annotations"]);
    let default = annotations.iter().any(|key| set.text(key) == "true");
    json!(format!("{}{}", object.name(), if default { " (default)" } else { "" }))
}
