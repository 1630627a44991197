//! Lists that are sets or maps: no item and no key is there twice.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apiserver/schema/listtype`, v1.36.

use objects::{FieldErrors, FieldPath};
use serde_json::{Map, Value};

use super::{ListType, Node};

/// Reports repeated items and keys at any depth.
pub fn check_lists(node: &Node, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(child) = node.property(key) {
                    check_lists(child, value, &path.child(key), errors);
                } else if let Some(child) = node.additional_schema() {
                    check_lists(child, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            match &node.list {
                ListType::Atomic => {}
                ListType::Set => {
                    for index in repeated(items.iter().collect()) {
                        errors.duplicate(&path.index(index), &items[index]);
                    }
                }
                ListType::Map(keys) => check_map(keys, items, path, errors),
            }
            if let Some(node) = node.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    check_lists(node, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_map(keys: &[Box<str>], items: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    let odd = items.iter().position(|item| !item.is_null() && !item.is_object());
    if let Some(index) = odd {
        let why = "must be an object for an array of list-type map";
        errors.invalid(&path.index(index), &items[index], why);
        return;
    }
    let identities: Vec<Value> = items.iter().map(|item| identity(keys, item)).collect();
    for index in repeated(identities.iter().collect()) {
        errors.duplicate(&path.index(index), &identities[index]);
    }
}

fn identity(keys: &[Box<str>], item: &Value) -> Value {
    let given = |key: &str| Some((key.to_owned(), item.get(key)?.clone()));
    Value::Object(keys.iter().map(|key| &**key).filter_map(given).collect::<Map<_, _>>())
}

/// The places of items that are there for the second time; later times are not told.
fn repeated(items: Vec<&Value>) -> Vec<usize> {
    let mut seen: std::collections::BTreeMap<String, usize> = Default::default();
    let mut found = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(index);
        }
    }
    found
}
