//! Match conditions.

use objects::{FieldErrors, FieldPath};
use serde_json::json;

use crate::check;
use crate::read::Read;
use serde_json::Value;

const MAX: usize = 64;

/// Checks `matchConditions`; whether they compile is not looked at here.
pub(super) fn check_conditions(owner: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("matchConditions");
    let conditions = owner.items("matchConditions");
    if conditions.len() > MAX {
        errors.too_many(&path, conditions.len(), MAX);
    }
    let mut names = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let here = path.index(index);
        if condition.text("expression").trim().is_empty() {
            errors.required(&here.child("expression"), "");
        }
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&here.child("name"), "");
            continue;
        }
        check::qualified_name(errors, &here.child("name"), name);
        if names.contains(&name) {
            errors.duplicate(&here.child("name"), &json!(name));
        }
        names.push(name);
    }
}
