//! What the server itself writes into `metadata`, and the checks on it.

use jiff::Timestamp;
use kinds::Kind;
use objects::{FieldErrors, FieldPath, ObjectExt, meta, names, time};
use rand::Rng;
use serde_json::{Value, json};

/// A fresh version 4 uid.
pub(crate) fn fresh_uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Fills the system's part of a new object's metadata. Returns whether the name was generated.
pub(crate) fn prepare_create(
    object: &mut Value,
    kind: &Kind,
    namespace: &str,
    uid: &str,
    now: Timestamp,
) -> bool {
    for gone in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        object.remove_at(&["metadata", gone]);
    }
    if kind.namespaced() {
        object.set_at(&["metadata", "namespace"], json!(namespace));
    }
    object.set_at(&["metadata", "uid"], json!(uid));
    object.set_at(&["metadata", "creationTimestamp"], json!(time::format_time(now)));
    generate_name(object)
}

/// Gives an object with a `generateName` and no name a random one. Returns whether it did.
pub(crate) fn generate_name(object: &mut Value) -> bool {
    let base = object.str_at(&["metadata", "generateName"]);
    if base.is_empty() || !object.name().is_empty() {
        return false;
    }
    let mut rng = rand::rng();
    let letters = names::GENERATED_ALPHABET;
    let suffix: String = (0..names::GENERATED_SUFFIX_LEN)
        .map(|_| char::from(letters[rng.random_range(0..letters.len())]))
        .collect();
    let name = names::generated_name(base, &suffix);
    object.set_at(&["metadata", "name"], json!(name));
    true
}

/// Copies what an update may not touch from the stored object.
pub(crate) fn prepare_update(new: &mut Value, old: &Value) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        keep(new, old, field);
    }
    keep(new, old, "generation");
    new.remove_at(&["metadata", "selfLink"]);
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.at(&["metadata", field]) {
        Some(value) => new.set_at(&["metadata", field], value.clone()),
        None => {
            new.remove_at(&["metadata", field]);
        }
    }
}

/// Reports what is wrong with a new object's metadata.
pub(crate) fn validate(object: &Value, kind: &Kind, errors: &mut FieldErrors) {
    let path = FieldPath::new("metadata");
    let empty = json!({});
    let metadata = object.get("metadata").unwrap_or(&empty);
    meta::validate(metadata, kind.namespaced(), kind.behaviour.name_check(), &path, errors);
    if kind.definition.is_none() {
        meta::validate_built_in_finalizers(metadata, &path, errors);
    }
}

/// Reports what is wrong with a change of metadata.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("metadata");
    let empty = json!({});
    let of = |object: &'_ Value| object.get("metadata").cloned().unwrap_or_else(|| empty.clone());
    meta::validate_update(&of(new), &of(old), &path, errors);
}

/// Whether two objects are the same but for the resource version (and times in managed fields,
/// which `patch` keeps when nothing else changes).
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    a.len() == b.len()
        && a.iter().all(|(key, value)| match (key.as_str(), b.get(key)) {
            (_, None) => false,
            ("metadata", Some(other)) => same_metadata(value, other),
            (_, Some(other)) => value == other,
        })
}

fn same_metadata(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let rest = |map: &serde_json::Map<String, Value>| {
        map.len() - usize::from(map.contains_key("resourceVersion"))
    };
    rest(a) == rest(b)
        && a.iter()
            .filter(|(key, _)| *key != "resourceVersion")
            .all(|(key, value)| b.get(key) == Some(value))
}
