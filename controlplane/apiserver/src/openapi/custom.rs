//! The schemas of custom resources, as they are published.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/controller/openapi/{builder,v2}` and
//! `pkg/apiserver/schema/unfold.go`, v1.36.

use serde_json::{Map, Value, json};

use super::schemas::Dialect;

/// What clients of version 2 (kubectl's own validation) cannot read is left out for them.
const JUNCTIONS: [&str; 4] = ["allOf", "oneOf", "anyOf", "not"];

/// The parts of whole objects that every schema of one gets.
pub(super) struct ObjectFields {
    pub(super) api_version: Value,
    pub(super) kind: Value,
    pub(super) metadata: Value,
}

/// The published form of a version's `openAPIV3Schema`.
pub(super) fn publish(openapi: Value, dialect: Dialect, fields: &ObjectFields) -> Value {
    let keeps_all = openapi["x-kubernetes-preserve-unknown-fields"] == true;
    if !openapi.is_object() || dialect == Dialect::V2 && keeps_all {
        // Named fields would make clients refuse all others.
        return json!({"type": "object"});
    }
    let mut schema = openapi;
    shape(&mut schema, dialect, fields);
    add_fields(&mut schema, fields);
    schema
}

fn add_fields(schema: &mut Value, fields: &ObjectFields) {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = fields.api_version.clone();
    schema["properties"]["kind"] = fields.kind.clone();
    schema["properties"]["metadata"] = fields.metadata.clone();
}

/// Puts a schema and those inside it into the dialect.
fn shape(schema: &mut Value, dialect: Dialect, fields: &ObjectFields) {
    let Some(map) = schema.as_object_mut() else { return };
    let open = map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    match dialect {
        Dialect::V3 => unfold(map),
        Dialect::V2 => simplify(map, open),
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(name) {
            shape(inner, dialect, fields);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|inner| shape(inner, dialect, fields));
    }
    let embedded = map.get("x-kubernetes-embedded-resource") == Some(&json!(true));
    if embedded && !(open && dialect == Dialect::V2) {
        let mut required: Vec<Value> =
            map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if required.iter().all(|known| known != name) {
                required.push(name.into());
            }
        }
        map.insert("required".into(), Value::Array(required));
        add_fields(schema, fields);
    }
}

/// Says of a value that may be a number or a text that it is one of both.
fn unfold(map: &mut Map<String, Value>) {
    if map.get("x-kubernetes-int-or-string") != Some(&json!(true)) {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let first = map.get("allOf").and_then(|all| all.get(0));
    if map.get("anyOf") == Some(&either) || first.is_some_and(|first| first["anyOf"] == either) {
        return;
    }
    if !map.contains_key("anyOf") {
        map.insert("anyOf".into(), either);
        return;
    }
    let mut all = vec![json!({"anyOf": either})];
    all.extend(map.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default());
    map.insert("allOf".into(), Value::Array(all));
}

/// Takes out what clients of version 2 stumble over.
fn simplify(map: &mut Map<String, Value>, open: bool) {
    for name in JUNCTIONS {
        map.remove(name);
    }
    let is_nullable = |schema: &Value| schema["nullable"] == true;
    let nullable: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, schema)| is_nullable(schema))
        .map(|(name, _)| name.clone())
        .collect();
    let values_nullable = map.get("additionalProperties").is_some_and(is_nullable);
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| nullable.iter().all(|known| name != known));
        if required.is_empty() || values_nullable {
            map.remove("required");
        }
    }
    if map.remove("nullable") == Some(json!(true)) {
        for name in ["type", "items", "properties"] {
            map.remove(name);
        }
    }
    if open {
        map.remove("items");
        map.remove("properties");
        if map.get("type") == Some(&json!("object")) {
            map.remove("type");
        }
    }
    if map.get("type") == Some(&json!("array")) && !map.contains_key("items") {
        map.remove("type");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> ObjectFields {
        ObjectFields { api_version: json!("v"), kind: json!("k"), metadata: json!("m") }
    }

    #[test]
    fn each_dialect_gets_what_its_clients_read() {
        let openapi = json!({"type": "object", "description": "d", "required": ["n"], "properties": {
            "n": {"type": "string", "nullable": true},
            "either": {"x-kubernetes-int-or-string": true},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                     "x-kubernetes-embedded-resource": true, "properties": {"a": {"type": "string"}}},
            "one": {"type": "object", "oneOf": [{"required": ["a"]}]},
        }});
        let two = publish(openapi.clone(), Dialect::V2, &fields());
        assert_eq!(
            two,
            json!({"type": "object", "description": "d", "properties": {
                "apiVersion": "v", "kind": "k", "metadata": "m",
                "n": {},
                "either": {"x-kubernetes-int-or-string": true},
                "open": {"x-kubernetes-preserve-unknown-fields": true,
                         "x-kubernetes-embedded-resource": true},
                "one": {"type": "object"},
            }})
        );
        let three = publish(openapi, Dialect::V3, &fields());
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        assert_eq!(three["properties"]["either"]["anyOf"], either);
        let open = &three["properties"]["open"];
        assert_eq!(open["required"], json!(["kind", "apiVersion"]));
        assert_eq!(open["properties"]["metadata"], "m");
        assert_eq!(three["required"], json!(["n"]));
    }

    #[test]
    fn what_keeps_everything_names_nothing_for_old_clients() {
        let openapi = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                             "properties": {"a": {"type": "string"}}});
        let two = publish(openapi.clone(), Dialect::V2, &fields());
        assert_eq!(two, json!({"type": "object"}));
        assert_eq!(publish(openapi, Dialect::V3, &fields())["properties"]["kind"], "k");
        assert_eq!(publish(Value::Null, Dialect::V3, &fields()), json!({"type": "object"}));
    }
}
