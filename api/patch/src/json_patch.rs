//! JSON patch, RFC 6902, with the leniences of the library that upstream uses: a path may lack its
//! first slash, negative indexes count from the end, `test` for null passes where nothing is.

use serde_json::Value;

use crate::decode;
use crate::error::{PatchError, json_kind};

/// More operations than this are refused, as upstream does.
const OPERATIONS_MAX: usize = 10_000;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    op: String,
    path: Vec<String>,
    from: Vec<String>,
    value: Value,
}

/// Reads a patch. Also gives the issues with duplicate fields in it.
pub fn parse(bytes: &[u8]) -> Result<(Vec<Operation>, Vec<String>), PatchError> {
    let decoding = |text: String| PatchError::BadRequest(format!("error decoding patch: {text}"));
    let (value, issues) = decode::untyped(bytes).map_err(|error| decoding(error.to_string()))?;
    let Value::Array(items) = value else {
        return Err(decoding(format!(
            "json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            json_kind(&value)
        )));
    };
    if items.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            items.len()
        )));
    }
    let operations = items
        .into_iter()
        .map(|mut item| {
            if !item.is_object() {
                return Err(decoding(format!(
                    "json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp",
                    json_kind(&item)
                )));
            }
            Ok(Operation {
                op: item["op"].as_str().unwrap_or_default().to_string(),
                path: pointer(item["path"].as_str().unwrap_or_default()),
                from: pointer(item["from"].as_str().unwrap_or_default()),
                value: item["value"].take(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((operations, issues))
}

fn pointer(text: &str) -> Vec<String> {
    text.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// Applies a patch. All operations are done, or the error is returned and the result is to be
/// dropped.
pub fn apply(mut target: Value, operations: &[Operation]) -> Result<Value, PatchError> {
    for (index, operation) in operations.iter().enumerate() {
        step(&mut target, operation).map_err(|why| {
            PatchError::Rejected(format!("operation {index} ({}): {why}", operation.op))
        })?;
    }
    Ok(target)
}

fn step(target: &mut Value, operation: &Operation) -> Result<(), String> {
    let Operation { op, path, from, value } = operation;
    match op.as_str() {
        "add" => add(target, path, value.clone()),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            let place = find(target, path).ok_or("missing path")?;
            *place = value.clone();
            Ok(())
        }
        "move" => {
            let moved = remove(target, from)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = find(target, from).ok_or("missing from")?.clone();
            add(target, path, copied)
        }
        "test" => {
            let found = find(target, path);
            let same = match found {
                Some(found) => *found == *value,
                None => value.is_null(),
            };
            if same { Ok(()) } else { Err("testing value failed".to_string()) }
        }
        _ => Err("unexpected kind".to_string()),
    }
}

/// The index a path part names in a list.
fn index(part: &str, length: usize) -> Result<usize, String> {
    let number: i64 = part.parse().map_err(|_| format!("{part:?} is not an index"))?;
    let from_end = i64::try_from(length).unwrap_or(i64::MAX).saturating_add(number);
    usize::try_from(if number < 0 { from_end } else { number })
        .map_err(|_| format!("index {part} out of range"))
}

fn find<'a>(target: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(target, |here, part| match here {
        Value::Object(entries) => entries.get_mut(part),
        Value::Array(items) => {
            let place = index(part, items.len()).ok()?;
            items.get_mut(place)
        }
        _ => None,
    })
}

fn add(target: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    match find(target, parents).ok_or("missing parent")? {
        Value::Object(entries) => {
            entries.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(items) => {
            // A negative index counts from the end of the list as it will be.
            let place = if last == "-" { items.len() } else { index(last, items.len() + 1)? };
            if place > items.len() {
                return Err(format!("index {last} out of range"));
            }
            items.insert(place, value);
            Ok(())
        }
        _ => Err("the parent is neither map nor list".to_string()),
    }
}

fn remove(target: &mut Value, path: &[String]) -> Result<Value, String> {
    let (last, parents) = path.split_last().ok_or("the root cannot be removed")?;
    match find(target, parents).ok_or("missing parent")? {
        Value::Object(entries) => entries.remove(last).ok_or_else(|| "missing key".to_string()),
        Value::Array(items) => {
            let place = index(last, items.len())?;
            if place >= items.len() {
                return Err(format!("index {last} out of range"));
            }
            Ok(items.remove(place))
        }
        _ => Err("the parent is neither map nor list".to_string()),
    }
}

#[cfg(test)]
mod tests;
