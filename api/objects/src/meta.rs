//! Validation of `metadata`.
//!
//! Source of behaviour and texts: kubernetes apimachinery `api/validation` and
//! `apis/meta/v1/validation`, v1.36.

use serde_json::{Map, Value, json};

use crate::names::{self, NameCheck};
use crate::{FieldErrors, FieldPath, GroupVersion, ObjectExt};

/// Most that annotation keys and values may take together, in bytes.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Longest field manager, in bytes.
pub const FIELD_MANAGER_MAX: usize = 128;
/// Finalizer that waits for dependents to be orphaned.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// Finalizer that waits for dependents to be deleted.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
const IMMUTABLE: &str = "field is immutable";

/// Reports what is wrong with the metadata of a new object (or of a template, at its path). Name
/// generation must have been done.
pub fn validate(
    meta: &Value,
    namespaced: bool,
    name_check: NameCheck,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    validate_name(meta, name_check, path, errors);
    let namespace = meta.str_at(&["namespace"]);
    if namespaced {
        if namespace.is_empty() {
            errors.required(&path.child("namespace"), "");
        }
        let texts = names::dns1123_label(namespace);
        for text in texts.iter().filter(|_| !namespace.is_empty()) {
            errors.invalid_str(&path.child("namespace"), namespace, text);
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    non_negative(meta, "generation", path, errors);
    validate_common(meta, path, errors);
    validate_finalizers(meta, path, errors);
    validate_managed_fields(meta, path, errors);
}

fn validate_name(meta: &Value, check: NameCheck, path: &FieldPath, errors: &mut FieldErrors) {
    let base = meta.str_at(&["generateName"]);
    if !base.is_empty() {
        for text in check(base, true) {
            errors.invalid_str(&path.child("generateName"), base, &text);
        }
    }
    let name = meta.str_at(&["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
        return;
    }
    for text in check(name, false) {
        errors.invalid_str(&path.child("name"), name, &text);
    }
}

fn non_negative(meta: &Value, field: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let value = meta.i64_at(&[field]).unwrap_or(0);
    if value < 0 {
        let why = "must be greater than or equal to 0";
        errors.invalid(&path.child(field), &json!(value), why);
    }
}

fn validate_common(meta: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(labels) = meta.map_at(&["labels"]) {
        validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = meta.map_at(&["annotations"]) {
        validate_annotations(annotations, &path.child("annotations"), errors);
    }
    validate_owner_references(meta, &path.child("ownerReferences"), errors);
}

/// Reports malformed label keys and values, all at the path of the map.
pub fn validate_labels(labels: &Map<String, Value>, path: &FieldPath, errors: &mut FieldErrors) {
    for (key, value) in labels {
        for text in names::qualified_name(key) {
            errors.invalid_str(path, key, &text);
        }
        let value = value.as_str().unwrap_or_default();
        for text in names::label_value(value) {
            errors.invalid_str(path, value, &text);
        }
    }
}

/// Reports malformed annotation keys and annotations that are too large together.
pub fn validate_annotations(
    annotations: &Map<String, Value>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    // Upper case is allowed in the prefix of an annotation's key.
    for key in annotations.keys() {
        for text in names::qualified_name(&key.to_lowercase()) {
            errors.invalid_str(path, key, &text);
        }
    }
    let value_len = |value: &Value| value.as_str().map_or(0, str::len);
    let total: usize = annotations.iter().map(|(key, value)| key.len() + value_len(value)).sum();
    if total > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn validate_owner_references(meta: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let references = meta.list_at(&["ownerReferences"]);
    let mut first: Option<String> = None;
    for reference in references {
        validate_owner_reference(reference, path, errors);
        if reference.bool_at(&["controller"]) != Some(true) {
            continue;
        }
        let this = format!("{}/{}", reference.str_at(&["kind"]), reference.str_at(&["name"]));
        match &first {
            None => first = Some(this),
            Some(first) => {
                let printed: Vec<String> = references.iter().map(print_owner_reference).collect();
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {this}"
                );
                errors.invalid_printed(path, format!("[{}]", printed.join(",")), &why);
            }
        }
    }
}

fn validate_owner_reference(reference: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let api_version = reference.str_at(&["apiVersion"]);
    let parsed = GroupVersion::parse(api_version).unwrap_or_else(|| GroupVersion::new("", ""));
    if parsed.version.is_empty() {
        errors.invalid_str(&path.child("apiVersion"), api_version, "version must not be empty");
    }
    for field in ["kind", "name", "uid"] {
        if reference.str_at(&[field]).is_empty() {
            errors.invalid_str(&path.child(field), "", "must not be empty");
        }
    }
    if api_version == "v1" && reference.str_at(&["kind"]) == "Event" {
        let why = "/v1, Kind=Event is disallowed from being an owner";
        errors.invalid_printed(path, print_owner_reference(reference), why);
    }
}

/// JSON in the order of upstream's struct, as its messages show it.
fn print_owner_reference(reference: &Value) -> String {
    let mut parts = Vec::new();
    for field in ["apiVersion", "kind", "name", "uid"] {
        parts.push(format!("\"{field}\":{}", json!(reference.str_at(&[field]))));
    }
    for field in ["controller", "blockOwnerDeletion"] {
        if let Some(value) = reference.bool_at(&[field]) {
            parts.push(format!("\"{field}\":{value}"));
        }
    }
    format!("{{{}}}", parts.join(","))
}

fn validate_finalizers(meta: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("finalizers");
    let finalizers: Vec<&str> =
        meta.list_at(&["finalizers"]).iter().filter_map(Value::as_str).collect();
    for finalizer in &finalizers {
        for text in names::qualified_name(finalizer) {
            errors.invalid_str(&path, finalizer, &text);
        }
    }
    if finalizers.contains(&FINALIZER_ORPHAN) && finalizers.contains(&FINALIZER_FOREGROUND) {
        let why =
            format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        errors.invalid(&path, &json!(finalizers), &why);
    }
}

/// The further check of built-in kinds: a finalizer is either fully qualified or a standard one.
pub fn validate_built_in_finalizers(meta: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const STANDARD: [&str; 3] = ["kubernetes", FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
    for (index, finalizer) in meta.list_at(&["finalizers"]).iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        if !finalizer.contains('/') && !STANDARD.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid_str(&path.child("finalizers").index(index), finalizer, why);
        }
    }
}

fn validate_managed_fields(meta: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, entry) in meta.list_at(&["managedFields"]).iter().enumerate() {
        let path = path.child("managedFields").index(index);
        let operation = entry.str_at(&["operation"]);
        if !matches!(operation, "Apply" | "Update") {
            let why = "must be `Apply` or `Update`";
            errors.invalid_str(&path.child("operation"), operation, why);
        }
        let fields_type = entry.str_at(&["fieldsType"]);
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.invalid_str(&path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        validate_field_manager(entry.str_at(&["manager"]), &path.child("manager"), errors);
        if entry.str_at(&["subresource"]).len() > 256 {
            errors.too_long(&path.child("subresource"), 256);
        }
    }
}

/// Reports a field manager that is too long or holds unprintable characters. Also for the
/// `fieldManager` of a request.
pub fn validate_field_manager(manager: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if manager.len() > FIELD_MANAGER_MAX {
        errors.too_long(path, FIELD_MANAGER_MAX);
    }
    for (position, character) in manager.char_indices() {
        if character.is_control() {
            let code = u32::from(character);
            let why = format!("invalid character U+{code:04X} (at position {position})");
            errors.invalid_str(path, manager, &why);
        }
    }
}

/// Reports what is wrong with a change of metadata. The new object's `resourceVersion` must have
/// been filled in where an unconditional update is allowed.
pub fn validate_update(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if !old.str_at(&["deletionTimestamp"]).is_empty() {
        validate_no_new_finalizers(new, old, path, errors);
    }
    if new.str_at(&["resourceVersion"]).is_empty() {
        let why = "must be specified for an update";
        errors.invalid_str(&path.child("resourceVersion"), "", why);
    }
    let generation = |meta: &Value| meta.i64_at(&["generation"]).unwrap_or(0);
    if generation(new) < generation(old) {
        let why = "must not be decremented";
        errors.invalid(&path.child("generation"), &json!(generation(new)), why);
    }
    for field in ["name", "namespace", "uid"] {
        let value = new.str_at(&[field]);
        if value != old.str_at(&[field]) {
            errors.invalid_str(&path.child(field), value, IMMUTABLE);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let value = |meta: &Value| meta.get(field).cloned().unwrap_or(Value::Null);
        if value(new) != value(old) {
            errors.invalid(&path.child(field), &value(new), IMMUTABLE);
        }
    }
    validate_common(new, path, errors);
    validate_managed_fields(new, path, errors);
}

fn validate_no_new_finalizers(
    new: &Value,
    old: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let old = old.list_at(&["finalizers"]);
    let added: std::collections::BTreeSet<&str> = new
        .list_at(&["finalizers"])
        .iter()
        .filter(|finalizer| !old.contains(finalizer))
        .filter_map(Value::as_str)
        .collect();
    if added.is_empty() {
        return;
    }
    let quoted: Vec<String> = added.iter().map(|text| format!("{text:?}")).collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers \
         []string{{{}}}",
        quoted.join(", ")
    );
    errors.forbidden(&path.child("finalizers"), &why);
}

#[cfg(test)]
mod tests;
