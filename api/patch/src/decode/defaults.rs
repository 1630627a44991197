//! Defaults that stand in the schema. (Those of built-in kinds that depend on other fields are the
//! kind's behaviour.)

use serde_json::{Map, Value};

use crate::schema::{Schema, Struct};

/// Fills in the schema's defaults wherever the surrounding struct is present. A null gives way to a
/// default unless the field is nullable; in a custom resource, a null that is neither allowed nor
/// replaced is dropped.
pub fn defaults(value: &mut Value, schema: &Schema) {
    match (schema, value) {
        (Schema::Struct(reference), Value::Object(entries)) => structure(entries, reference.get()),
        (Schema::List(list), Value::Array(items)) => {
            for item in items {
                defaults(item, &list.item);
            }
        }
        (Schema::Map(map), Value::Object(entries)) => {
            entries.retain(|_, entry| map.nullable_values || !entry.is_null());
            for (_, entry) in entries.iter_mut() {
                defaults(entry, &map.value);
            }
        }
        _ => {}
    }
}

fn structure(entries: &mut Map<String, Value>, structure: &Struct) {
    let is_custom = structure.name.is_empty();
    for field in &structure.fields {
        let null = entries.get(&*field.name).is_some_and(Value::is_null);
        if is_custom && null && !field.nullable && field.default.is_none() {
            entries.remove(&*field.name);
        }
        if let Some(default) = &field.default {
            let given = entries.get(&*field.name);
            let missing = match given {
                None => true,
                Some(Value::Null) => !is_custom || !field.nullable,
                Some(_) => false,
            };
            // Go cannot tell an omitted zero from a missing one.
            let pointless = !is_custom && field.omit_empty && !field.nullable && is_zero(default);
            if missing && !pointless {
                entries.insert(field.name.to_string(), default.clone());
            }
        }
        if let Some(value) = entries.get_mut(&*field.name) {
            defaults(value, &field.schema);
        }
    }
}

fn is_zero(value: &Value) -> bool {
    value == 0 || value == "" || value == false
}
