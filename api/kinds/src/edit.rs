//! Short writers for defaulting and for restoring fields.

use objects::ObjectExt;
use serde_json::{Value, json};

use crate::read::{Read, quantity};

/// Changes of the fields of a map.
pub(crate) trait Edit {
    /// Sets a field that is absent or `null`.
    fn default_to(&mut self, key: &str, value: impl Into<Value>);
    /// Sets a field that is absent, `null` or zero (`""`, 0, `false`).
    fn default_zero(&mut self, key: &str, value: impl Into<Value>);
    /// The map in a field, made if absent.
    fn map_mut(&mut self, key: &str) -> &mut Value;
    /// The items of a list that is present.
    fn items_mut(&mut self, key: &str) -> &mut [Value];
    /// A field that is present and not `null`.
    fn field_mut(&mut self, key: &str) -> Option<&mut Value>;
    /// Removes a field.
    fn drop_field(&mut self, key: &str);
}

impl Edit for Value {
    fn default_to(&mut self, key: &str, value: impl Into<Value>) {
        if self.field(key).is_none() {
            self.set_at(&[key], value.into());
        }
    }

    fn default_zero(&mut self, key: &str, value: impl Into<Value>) {
        if !self.is_set(key) {
            self.set_at(&[key], value.into());
        }
    }

    fn map_mut(&mut self, key: &str) -> &mut Value {
        if self.map(key).is_none() {
            self.set_at(&[key], json!({}));
        }
        &mut self[key]
    }

    fn items_mut(&mut self, key: &str) -> &mut [Value] {
        match self.get_mut(key).and_then(Value::as_array_mut) {
            Some(items) => items.as_mut_slice(),
            None => &mut [],
        }
    }

    fn field_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.get_mut(key).filter(|value| !value.is_null())
    }

    fn drop_field(&mut self, key: &str) {
        if let Some(map) = self.as_object_mut() {
            map.remove(key);
        }
    }
}

/// Puts a part of the old object back, or removes it if the old object had none.
pub(crate) fn restore(new: &mut Value, old: &Value, path: &[&str]) {
    match old.at(path) {
        Some(value) => new.set_at(path, value.clone()),
        None => {
            new.remove_at(path);
        }
    }
}

/// Puts back all metadata that a status update may not touch: labels, annotations, finalizers,
/// owner references and self link stay as they were; managed fields are the API server's.
pub(crate) fn restore_meta_for_status(new: &mut Value, old: &Value) {
    for key in ["deletionTimestamp", "generation", "labels", "annotations", "finalizers"] {
        restore(new, old, &["metadata", key]);
    }
    restore(new, old, &["metadata", "ownerReferences"]);
}

/// Sets `metadata.generation`.
pub(crate) fn set_generation(object: &mut Value, generation: i64) {
    object.set_at(&["metadata", "generation"], json!(generation));
}

/// Keeps the old generation, one higher if `changed`.
pub(crate) fn step_generation(new: &mut Value, old: &Value, changed: bool) {
    let generation = old.generation() + i64::from(changed);
    if generation > 0 {
        set_generation(new, generation);
    } else {
        new.remove_at(&["metadata", "generation"]);
    }
}

/// Rounds the quantities of a resource list up to thousandths and writes them canonically.
pub(crate) fn default_resources(list: Option<&mut Value>) {
    let Some(Value::Object(map)) = list else { return };
    for value in map.values_mut() {
        default_quantity(value, true);
    }
}

/// Writes a quantity canonically; with `to_millis` rounded up to thousandths.
pub(crate) fn default_quantity(value: &mut Value, to_millis: bool) {
    let Some(parsed) = quantity(value) else { return };
    let fine = parsed.nanos() % 1_000_000 != 0;
    let amount = if to_millis && fine {
        objects::quantity::Quantity::from_millis(parsed.milli_value())
    } else {
        parsed
    };
    *value = Value::String(amount.to_string());
}
