//! Lists in a strategic merge patch.

use serde_json::{Map, Value};

use super::{DIRECTIVE, bad_directive, internal, merge_map, no_merge_key};
use crate::error::{PatchError, go_print, json_kind};
use crate::schema::{Any, Schema};

/// Merges two lists whose field says so: scalars as a set, structs by their merge key.
pub(super) fn merge(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    list: &Schema,
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let all = || original.iter().chain(&patch);
    let Some(first) = all().next() else {
        return Ok(original);
    };
    if first.is_array() {
        return Err(internal("lists of lists are not supported"));
    }
    let kind = json_kind(first);
    if all().any(|item| json_kind(item) != kind) {
        let printed = go_print(&Value::Array(vec![original.into(), patch.into()]));
        return Err(internal(format!("list element types are not identical: {printed}")));
    }
    let is_struct = first.is_object();
    if !is_struct {
        let mut merged = original.clone();
        merged.extend(patch.iter().cloned());
        deduplicate(&mut merged);
        return order(merged, &patch, &original, None);
    }
    let key = merge_key.ok_or_else(|| internal("cannot merge lists without merge key"))?;
    let (items, replaced) = directives(&mut original, patch, key)?;
    if replaced {
        return Ok(items);
    }
    let server_order = original.clone();
    let merged = merge_structs(original, &items, list, key)?;
    order(merged, &items, &server_order, Some(key))
}

fn deduplicate(items: &mut Vec<Value>) {
    let mut seen: Vec<Value> = Vec::new();
    items.retain(|item| {
        let new = !seen.contains(item);
        if new {
            seen.push(item.clone());
        }
        new
    });
}

/// Carries out the `$patch` items of a list of structs. Gives the other items, and whether they
/// replace the list.
fn directives(
    original: &mut Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, bool), PatchError> {
    let mut items = Vec::new();
    let mut replaced = false;
    for item in patch {
        let map = item.as_object().expect("the list was checked to hold structs only");
        match map.get(DIRECTIVE) {
            None => items.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let value = map.get(key).ok_or_else(|| no_merge_key(map, key))?;
                    original.retain(|other| other.get(key) != Some(value));
                }
                Some("replace") => replaced = true,
                Some("merge") => {
                    return Err(internal("merging lists cannot yet be specified in the patch"));
                }
                _ => return Err(bad_directive(directive, map)),
            },
        }
    }
    Ok((items, replaced))
}

fn merge_structs(
    mut original: Vec<Value>,
    patch: &[Value],
    list: &Schema,
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    const ANY: &Schema = &Schema::Any(Any::Custom);
    let item_schema = match list {
        Schema::List(list) => &list.item,
        _ => ANY,
    };
    for change in patch {
        let map = change.as_object().expect("the list was checked to hold structs only");
        let value = map.get(key).ok_or_else(|| no_merge_key(map, key))?;
        match original.iter_mut().find(|item| item.get(key) == Some(value)) {
            Some(item) => {
                let before = match item.take() {
                    Value::Object(before) => before,
                    _ => Map::new(),
                };
                *item = Value::Object(merge_map(before, map.clone(), item_schema)?);
            }
            None => original.extend(super::clean(change.clone())),
        }
    }
    Ok(original)
}

/// Removes the given scalars from the list of a key.
pub(super) fn delete_from(
    original: &mut Map<String, Value>,
    key: &str,
    values: &Value,
) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return Err(internal("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(items)) = original.get_mut(key) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// What identifies an item.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    key.map_or(Some(item), |key| item.get(key))
}

fn place(order: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(item, key)?;
    order.iter().position(|other| identity(other, key) == Some(wanted))
}

/// Orders a merged list: items of the patch in the patch's order, the others in theirs, and the two
/// interleaved by the original order.
pub(super) fn order(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    if let (Some(key), Some(item)) = (key, merged.iter().find(|item| identity(item, key).is_none()))
    {
        return Err(no_merge_key(item.as_object().unwrap_or(&Map::new()), key));
    }
    let (mut patched, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(patch_order, item, key).is_some());
    patched.sort_by_key(|item| place(patch_order, item, key));
    others.sort_by_key(|item| place(server_order, item, key));
    let mut out = Vec::with_capacity(patched.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in patched {
        let here = place(server_order, &item, key);
        while let Some(other) = others.peek() {
            let before = place(server_order, other, key).zip(here).is_some_and(|(a, b)| a < b);
            if !before {
                break;
            }
            out.extend(others.next());
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

/// Whether the items of a patch's list stand in the order that its `$setElementOrder` gives.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !wanted.any(|other| identity(other, key) == identity(item, key)) {
            return Err(internal(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go_print(&Value::Array(patch.to_vec())),
                go_print(&Value::Array(order.to_vec())),
            )));
        }
    }
    Ok(())
}
