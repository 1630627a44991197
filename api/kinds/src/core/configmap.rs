//! ConfigMaps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{NOTHING, Read, same};

/// Most bytes that all values may have together: 1 MiB, so that an object stays storable.
pub(super) const DATA_MAX: usize = 1024 * 1024;

/// Behaviour of ConfigMaps.
pub(crate) struct ConfigMap;

impl Behaviour for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let binary = object.field("binaryData").unwrap_or(&NOTHING);
        let mut size = 0;
        for (key, value) in object.entries("data") {
            let path = FieldPath::new("data").key(key);
            check::config_key(errors, &path, key);
            if binary.field(key).is_some() {
                errors.invalid_str(&path, key, "duplicate of key present in binaryData");
            }
            size += value.as_str().map_or(0, str::len);
        }
        for (key, value) in object.entries("binaryData") {
            check::config_key(errors, &FieldPath::new("binaryData").key(key), key);
            size += decoded_len(value);
        }
        if size > DATA_MAX {
            // Upstream names a path without a name, which it prints so.
            errors.too_long(&FieldPath::new("[]"), DATA_MAX);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        check_sealed(new, old, &["data", "binaryData"], errors);
        self.validate(new, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![cells::name(object), json!(cells::data_count(object)), cells::age(object, now)]
    }
}

/// The number of bytes that a base64 text stands for.
pub(super) fn decoded_len(value: &Value) -> usize {
    value.as_str().and_then(|text| STANDARD.decode(text).ok()).map_or(0, |bytes| bytes.len())
}

/// Checks that an object with `immutable: true` keeps it, and its data.
pub(super) fn check_sealed(new: &Value, old: &Value, keys: &[&str], errors: &mut FieldErrors) {
    if !old.flag("immutable") {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !new.flag("immutable") {
        errors.forbidden(&FieldPath::new("immutable"), detail);
    }
    let part = |object: &Value, key: &str| object.field(key).cloned().unwrap_or_default();
    for key in keys {
        if !same(&part(new, key), &part(old, key)) {
            errors.forbidden(&FieldPath::new(key), detail);
        }
    }
}
