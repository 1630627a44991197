//! Whole objects inside custom resources.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apiserver/schema/objectmeta`, v1.36.

use objects::{FieldErrors, FieldPath, meta, names};
use serde_json::{Value, json};

use super::Node;
use crate::read::Read;

/// Reports what is wrong with the type and metadata of embedded resources at any depth.
pub fn check_embedded(node: &Node, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            if node.embedded {
                check_one(value, path, errors);
            }
            for (key, value) in map {
                if let Some(child) = node.property(key) {
                    check_embedded(child, value, &path.child(key), errors);
                } else if let Some(child) = node.additional_schema() {
                    check_embedded(child, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(node) = node.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    check_embedded(node, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// Reports what is wrong with the type and metadata of one object.
pub(crate) fn check_one(object: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"] {
        if object.get(name).is_none() {
            errors.required(&path.child(name), "");
        }
    }
    match object.get("apiVersion") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {
            errors.invalid_str(&path.child("apiVersion"), "", "must not be empty");
        }
        Some(Value::String(text)) if text.matches('/').count() > 1 => {
            let why = format!("unexpected GroupVersion string: {text}");
            errors.invalid_str(&path.child("apiVersion"), text, &why);
        }
        Some(Value::String(_)) => {}
        Some(other) => errors.invalid(&path.child("apiVersion"), other, "must be a string"),
    }
    match object.get("kind") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {
            errors.invalid_str(&path.child("kind"), "", "must not be empty");
        }
        Some(Value::String(text)) => {
            let faults = names::dns1035_label(&text.to_lowercase());
            if !faults.is_empty() {
                let why = format!(
                    "may have mixed case, but should otherwise match: {}",
                    faults.join(",")
                );
                errors.invalid_str(&path.child("kind"), text, &why);
            }
        }
        Some(other) => errors.invalid(&path.child("kind"), other, "must be a string"),
    }
    let Some(metadata) = object.map("metadata") else { return };
    let mut metadata = Value::Object(metadata.clone());
    if metadata.text("name").is_empty() {
        // A name need not be there, but what checks the rest wants one.
        metadata["name"] = json!("fakename");
    }
    let namespaced = !metadata.text("namespace").is_empty();
    let path = path.child("metadata");
    meta::validate(&metadata, namespaced, names::name_is_path_segment, &path, errors);
}
