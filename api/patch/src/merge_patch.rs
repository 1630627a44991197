//! JSON merge patch, RFC 7386.

use serde_json::{Map, Value};

use crate::decode;
use crate::error::{PatchError, json_kind};

/// Reads a patch, which must be an object. Also gives the issues with duplicate fields in it.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let decoding = |text: String| PatchError::BadRequest(format!("error decoding patch: {text}"));
    let (value, issues) = decode::untyped(bytes).map_err(|error| decoding(error.to_string()))?;
    match value {
        Value::Object(_) => Ok((value, issues)),
        Value::Null => Ok((Value::Object(Map::new()), issues)),
        other => Err(decoding(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(&other)
        ))),
    }
}

/// Applies a patch: null removes, objects merge, all else replaces.
pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let entries = target.as_object_mut().expect("made an object above");
    for (key, change) in changes {
        if change.is_null() {
            entries.remove(key);
        } else {
            apply(entries.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// The patch that makes `new` of `old`. Exact unless `new` holds nulls, which a merge patch cannot
/// express.
pub fn diff(old: &Value, new: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return new.clone();
    };
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let mut patch: Map<String, Value> = removed.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in after {
        match before.get(key) {
            Some(same) if same == value => {}
            Some(other) => {
                patch.insert(key.clone(), diff(other, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::tests::any_json;

    fn patched(mut target: Value, patch: &Value) -> Value {
        apply(&mut target, patch);
        target
    }

    /// Without nulls in maps, which a merge patch cannot put there.
    fn without_nulls(value: Value) -> Value {
        match value {
            Value::Object(entries) => {
                let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
                Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
            }
            other => other,
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, wanted) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(patched(target, &patch), wanted);
        }
    }

    #[test]
    fn malformed_patches_as_recorded() {
        for (patch, wanted) in [
            (
                "[]",
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            ("{\"a\":", "error decoding patch: unexpected end of JSON input"),
        ] {
            assert_eq!(
                parse(patch.as_bytes()).unwrap_err(),
                PatchError::BadRequest(wanted.to_string())
            );
        }
    }

    proptest! {
        #[test]
        fn a_diff_applied_gives_the_new_value(old in any_json(), new in any_json()) {
            let new = without_nulls(new);
            prop_assert_eq!(patched(old.clone(), &diff(&old, &new)), new);
        }

        #[test]
        fn patching_twice_is_patching_once(target in any_json(), patch in any_json()) {
            let once = patched(target, &patch);
            prop_assert_eq!(patched(once.clone(), &patch), once);
        }

        #[test]
        fn the_empty_patch_changes_nothing(target in any_json()) {
            prop_assume!(target.is_object());
            prop_assert_eq!(patched(target.clone(), &json!({})), target);
        }
    }
}
