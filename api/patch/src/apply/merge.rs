//! Merging an applied configuration into an object, and taking paths out of an object.

use serde_json::{Map, Value};

use super::fieldset::FieldSet;
use super::typed::{Form, entry, field_element, form, is_empty, item_element};
use crate::schema::{List, Schema};

/// The object with the configuration merged in; the configuration wins.
pub(super) fn merge(live: &Value, config: &Value, schema: &Schema) -> Value {
    let shown = if config.is_null() { live } else { config };
    let empty = is_empty(live) && is_empty(config);
    match form(schema, shown) {
        Form::Entries(schema) if !empty => {
            Value::Object(merge_maps(live.as_object(), config.as_object(), schema))
        }
        Form::Items(list) if !empty => {
            let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
            Value::Array(merge_lists(&items(live), &items(config), list))
        }
        _ => config.clone(),
    }
}

fn merge_maps(
    live: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
    schema: &Schema,
) -> Map<String, Value> {
    let mut out = live.cloned().unwrap_or_default();
    for (key, wanted) in config.into_iter().flatten() {
        let merged = match (out.get(key), entry(schema, key)) {
            (Some(here), Some((child, _))) => merge(here, wanted, child),
            _ => wanted.clone(),
        };
        out.insert(key.clone(), merged);
    }
    out
}

/// Items with their elements, later repeats left out.
fn index<'a>(items: &'a [Value], list: &List) -> Vec<(Box<str>, &'a Value)> {
    let mut out: Vec<(Box<str>, &Value)> = Vec::with_capacity(items.len());
    for item in items {
        if let Ok(element) = item_element(list, item)
            && !out.iter().any(|(seen, _)| *seen == element)
        {
            out.push((element, item));
        }
    }
    out
}

/// Live items stay where they are, applied ones come in the order of the configuration; shared
/// ones keep the configuration's order among each other.
fn merge_lists(live: &[Value], config: &[Value], list: &List) -> Vec<Value> {
    let theirs = index(live, list);
    let mine = index(config, list);
    let in_live = |element: &str| theirs.iter().find(|(other, _)| **other == *element);
    let in_config = |element: &str| mine.iter().any(|(other, _)| **other == *element);
    let merged = |element: &str, wanted: &Value| match in_live(element) {
        Some((_, here)) => merge(here, wanted, &list.item),
        None => wanted.clone(),
    };
    let mut shared =
        mine.iter().map(|(element, _)| element).filter(|element| in_live(element).is_some());
    let mut next_shared = shared.next();
    let mut done: Vec<&str> = Vec::new();
    let mut out = Vec::with_capacity(theirs.len() + mine.len());
    let (mut left, mut right) = (0, 0);
    while left < theirs.len() || right < mine.len() {
        if left < theirs.len() && right < mine.len() {
            let element = &theirs[left].0;
            if *element == mine[right].0 {
                done.push(element);
                out.push(merged(element, mine[right].1));
                (left, right) = (left + 1, right + 1);
                next_shared = shared.next();
                continue;
            }
            if in_config(element) && next_shared.is_some_and(|next| next != element) {
                // Shared, but its turn has not come.
                left += 1;
                continue;
            }
        }
        if left < theirs.len() {
            let (element, here) = &theirs[left];
            if !in_config(element) {
                out.push((*here).clone());
                left += 1;
                continue;
            }
            if done.contains(&&**element) {
                left += 1;
            }
        }
        if right < mine.len() {
            let (element, wanted) = &mine[right];
            done.push(element);
            out.push(merged(element, wanted));
            right += 1;
            if next_shared == Some(element) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// The value without the paths of a set. A map or list that loses everything becomes null.
pub(super) fn remove(value: &Value, paths: &FieldSet, schema: &Schema) -> Value {
    match (form(schema, value), value) {
        (Form::Entries(schema), Value::Object(entries)) => {
            let mut out = Map::new();
            for (key, value) in entries {
                let kept = match paths.get(&field_element(key)) {
                    None => value.clone(),
                    Some(node) if node.member => continue,
                    Some(node) => match entry(schema, key) {
                        Some((child, _)) => remove(value, &node.children, child),
                        None => value.clone(),
                    },
                };
                out.insert(key.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Form::Items(list), Value::Array(items)) => {
            let mut out = Vec::new();
            for item in items {
                let node = item_element(list, item).ok();
                match node.as_ref().and_then(|element| paths.get(element)) {
                    None => out.push(item.clone()),
                    Some(node) if node.member => {}
                    Some(node) => out.push(remove(item, &node.children, &list.item)),
                }
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        (Form::Leaf, value) if !value.is_array() && !value.is_object() => value.clone(),
        _ => Value::Null,
    }
}

/// The set with every declared field on the way to a member made a member too.
pub(super) fn ensure_fields(set: &FieldSet, schema: &Schema) -> FieldSet {
    let mut out = FieldSet::default();
    for (element, node) in set.nodes() {
        let (child, declared) = match element.strip_prefix("f:") {
            Some(name) => entry(schema, name).map_or((None, false), |(c, d)| (Some(c), d)),
            None => match schema {
                Schema::List(list) => (Some(&list.item), false),
                _ => (None, false),
            },
        };
        let below = match child {
            Some(child) => ensure_fields(&node.children, child),
            None => node.children.clone(),
        };
        let member = node.member || declared && !node.children.is_empty();
        out.add(element.into(), member, below);
    }
    out
}
