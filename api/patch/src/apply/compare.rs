//! What changed between two objects, as sets of paths.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fieldset::FieldSet;
use super::typed::{Form, entry, field_element, form, is_empty, item_element};
use crate::schema::{List, Schema};

/// The paths at which two objects differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
}

impl Comparison {
    /// Without what is at or below the paths of a set.
    pub(super) fn exclude(self, fields: &FieldSet) -> Self {
        Self {
            added: self.added.recursive_difference(fields),
            removed: self.removed.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
        }
    }

    /// Takes over the comparison of what is at and below an element.
    fn attach(&mut self, element: &str, found: Found) {
        let Found { change, below } = found;
        self.added.add(element.into(), change == Some(Change::Added), below.added);
        self.removed.add(element.into(), change == Some(Change::Removed), below.removed);
        self.modified.add(element.into(), change == Some(Change::Modified), below.modified);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Modified,
}

/// What happened to one value itself, and below it.
#[derive(Default)]
struct Found {
    change: Option<Change>,
    below: Comparison,
}

/// Compares two whole objects.
pub(super) fn compare(old: &Value, new: &Value, schema: &Schema) -> Comparison {
    values(Some(old), Some(new), schema).below
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        (Some(old), Some(new)) if old != new => Some(Change::Modified),
        _ => None,
    }
}

fn values(old: Option<&Value>, new: Option<&Value>, schema: &Schema) -> Found {
    // An absent or null side takes the form of the other.
    let shown = new.filter(|value| !value.is_null()).or(old).or(new);
    let Some(shown) = shown else {
        return Found::default();
    };
    let empty = old.is_none_or(is_empty) && new.is_none_or(is_empty);
    let found = match form(schema, shown) {
        Form::Leaf => None,
        Form::Entries(_) | Form::Items(_) if empty => None,
        Form::Entries(schema) => Some(maps(old, new, schema)),
        Form::Items(list) => Some(lists(old, new, list)),
    };
    let Some(below) = found else {
        return Found { change: leaf(old, new), below: Comparison::default() };
    };
    let change = match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        // A map that was a scalar, and is empty: nothing below it tells of the change.
        (Some(old), Some(new)) if below == Comparison::default() && is_other_form(old, new) => {
            Some(Change::Modified)
        }
        _ => None,
    };
    Found { change, below }
}

/// Whether one is a map or a list and the other is not that.
fn is_other_form(old: &Value, new: &Value) -> bool {
    !old.is_null()
        && !new.is_null()
        && (old.is_object() != new.is_object() || old.is_array() != new.is_array())
}

fn maps(old: Option<&Value>, new: Option<&Value>, schema: &Schema) -> Comparison {
    let mut out = Comparison::default();
    let old = old.and_then(Value::as_object);
    let new = new.and_then(Value::as_object);
    let mut visit = |key: &str, before: Option<&Value>, after: Option<&Value>| {
        if before == after {
            return;
        }
        if let Some((child, _)) = entry(schema, key) {
            out.attach(&field_element(key), values(before, after, child));
        }
    };
    for (key, before) in old.into_iter().flatten() {
        visit(key, Some(before), new.and_then(|new| new.get(key)));
    }
    for (key, after) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(key)) {
            visit(key, None, Some(after));
        }
    }
    out
}

fn lists(old: Option<&Value>, new: Option<&Value>, list: &List) -> Comparison {
    let mut out = Comparison::default();
    let mut items: BTreeMap<Box<str>, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(element) = item_element(list, item) {
            items.entry(element).or_default().0.push(item);
        }
    }
    for item in new.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(element) = item_element(list, item) {
            items.entry(element).or_default().1.push(item);
        }
    }
    for (element, (before, after)) in items {
        let mut attach = |found| out.attach(&element, found);
        let marker = |change| Found { change: Some(change), below: Comparison::default() };
        match (before.as_slice(), after.as_slice()) {
            (old, new) if old.len() <= 1 && new.len() <= 1 => {
                attach(values(old.first().copied(), new.first().copied(), &list.item));
            }
            // Items with the same key on both sides are compared as one value.
            (old, new) if old.len() >= 2 && new.len() >= 2 => {
                if old != new {
                    attach(marker(Change::Modified));
                }
            }
            (old, new) if old.len() >= 2 => {
                if let Some(item) = new.first() {
                    attach(values(None, Some(item), &list.item));
                }
                attach(marker(Change::Removed));
            }
            (old, _) => {
                if let Some(item) = old.first() {
                    attach(values(Some(item), None, &list.item));
                }
                attach(marker(Change::Added));
            }
        }
    }
    out
}
