//! Strategic merge patch: a merge patch that knows which lists merge by key, with directives.
//!
//! Source of behaviour and texts: kubernetes apimachinery `util/strategicpatch`, v1.36.

mod lists;

use serde_json::{Map, Value};

use crate::decode;
use crate::error::{PatchError, go_print, json_kind};
use crate::schema::{Any, Schema, Strategy};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Reads a patch, which must be an object. Also gives the issues with duplicate fields in it.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let (value, issues) =
        decode::untyped(bytes).map_err(|error| PatchError::BadRequest(error.to_string()))?;
    match value {
        Value::Object(_) => Ok((value, issues)),
        Value::Null => Ok((Value::Object(Map::new()), issues)),
        other => Err(PatchError::BadRequest(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(&other)
        ))),
    }
}

/// Applies a patch to an object of a built-in type. The result is to be decoded anew.
pub fn apply(target: Value, patch: &Value, schema: &Schema) -> Result<Value, PatchError> {
    let (Value::Object(target), Value::Object(patch)) = (target, patch) else {
        return Err(internal("expected a map"));
    };
    merge_map(target, patch.clone(), schema).map(Value::Object)
}

fn internal(text: impl Into<String>) -> PatchError {
    PatchError::Internal(text.into())
}

fn no_merge_key(item: &Map<String, Value>, key: &str) -> PatchError {
    let printed = go_print(&Value::Object(item.clone()));
    internal(format!("map: {printed} does not contain declared merge key: {key}"))
}

fn bad_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    let printed = go_print(&Value::Object(map.clone()));
    internal(format!("unknown patch type: {} in map: {printed}", go_print(directive)))
}

/// What the schema says of a field; a map's values have no strategy.
fn look_up<'a>(schema: &'a Schema, key: &str) -> (&'a Schema, Strategy) {
    const ANY: &Schema = &Schema::Any(Any::Custom);
    let field = schema.as_struct().and_then(|structure| structure.field(key));
    match field {
        Some(field) => (&field.schema, field.strategy.clone()),
        None => (schema.child(key).unwrap_or(ANY), Strategy::default()),
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: &Schema,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE).cloned() {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(bad_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM_LIST) {
            lists::delete_from(&mut original, list, &change)?;
        } else {
            merge_field(&mut original, key, change, schema)?;
        }
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: String,
    change: Value,
    schema: &Schema,
) -> Result<(), PatchError> {
    if change.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let (field, strategy) = look_up(schema, &key);
    let merged = match (original.remove(&key), change) {
        (Some(Value::Object(_)), Value::Object(change)) if strategy.replace => {
            Value::Object(change)
        }
        (Some(Value::Object(before)), Value::Object(change)) => {
            Value::Object(merge_map(before, change, field)?)
        }
        (Some(Value::Array(before)), Value::Array(change)) if strategy.merge => {
            Value::Array(lists::merge(before, change, field, strategy.merge_key.as_deref())?)
        }
        (Some(Value::Array(_)), change @ Value::Array(_)) => change,
        (_, change) => match clean(change) {
            Some(value) => value,
            None => return Ok(()),
        },
    };
    original.insert(key, merged);
    Ok(())
}

/// A value that has no counterpart in the original: its nulls and directives are dropped; `None` if
/// it is itself a directive.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(entries) if entries.contains_key(DIRECTIVE) => None,
        Value::Object(entries) => {
            let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
            let cleaned = kept.filter_map(|(key, value)| Some((key, clean(value)?)));
            Some(Value::Object(cleaned.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(clean).collect())),
        other => Some(other),
    }
}

/// `$retainKeys`: only the listed keys stay, and the patch may set no others.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let malformed = || internal("invalid patch format of retainKeys");
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let retained = retained.as_array().ok_or_else(malformed)?;
    let kept = |key: &str| retained.iter().any(|name| name == key);
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(ELEMENT_ORDER);
        if !value.is_null() && !directive && !kept(key) {
            return Err(malformed());
        }
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// `$setElementOrder/LIST`: merges the list at once and orders it as told. Both keys leave the
/// patch.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: &Schema,
) -> Result<(), PatchError> {
    let directives: Vec<String> =
        patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive).unwrap_or_default();
        let Value::Array(order) = order else {
            return Err(internal("invalid patch format of setElementOrder list"));
        };
        let key = &directive[ELEMENT_ORDER.len()..];
        let (field, strategy) = look_up(schema, key);
        let merge_key = strategy.merge_key.as_deref();
        let list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(internal(format!(
                "expected a []interface {{}}, but received a {}",
                json_kind(&other)
            ))),
        };
        let (before, change) = (list(original.remove(key))?, list(patch.remove(key))?);
        lists::check_order(change.as_deref().unwrap_or_default(), &order, merge_key)?;
        let server_order = before.clone().unwrap_or_default();
        let merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => change.into_iter().filter_map(clean).collect(),
            (Some(before), Some(change)) if strategy.merge => {
                lists::merge(before, change, field, merge_key)?
            }
            (Some(_), Some(change)) => change,
        };
        let ordered = lists::order(merged, &order, &server_order, merge_key)?;
        original.insert(key.to_string(), Value::Array(ordered));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
