//! Schemas of custom resources, from the structural OpenAPI v3 schema of a CRD.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Any, Field, Leaf, List, ListKind, Map, Scalar, Schema, Strategy, Struct, StructRef, object_meta,
};

/// The schema of a custom resource from its CRD version's `openAPIV3Schema`. `preserve_unknown` is
/// the CRD's `spec.preserveUnknownFields`. The schema is expected to be structural, as the CRD's
/// validation demands; what it does not understand it takes as arbitrary JSON.
pub fn custom(openapi: &Value, preserve_unknown: bool) -> Schema {
    let mut root = structure(openapi);
    root.preserves_unknown |= preserve_unknown;
    add_object_fields(&mut root);
    Schema::Struct(StructRef::Custom(Arc::new(root)))
}

fn is_set(openapi: &Value, name: &str) -> bool {
    openapi[name] == true
}

fn add_object_fields(structure: &mut Struct) {
    let string = || Schema::Scalar(Scalar::String);
    for (name, schema) in
        [("apiVersion", string()), ("kind", string()), ("metadata", object_meta())]
    {
        structure.fields.retain(|field| &*field.name != name);
        structure.fields.push(field(name, schema, &Value::Null));
    }
    structure.fields.sort_by(|a, b| a.name.cmp(&b.name));
    structure.is_object = true;
}

fn field(name: &str, schema: Schema, openapi: &Value) -> Field {
    Field {
        name: name.into(),
        schema,
        omit_empty: false,
        omit_zero: false,
        nullable: is_set(openapi, "nullable"),
        strategy: Strategy::default(),
        default: openapi.get("default").cloned(),
    }
}

fn structure(openapi: &Value) -> Struct {
    let properties = openapi["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field> =
        properties.map(|(name, property)| field(name, schema(property), property)).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let mut structure = Struct {
        fields,
        atomic: openapi["x-kubernetes-map-type"] == "atomic",
        preserves_unknown: is_set(openapi, "x-kubernetes-preserve-unknown-fields"),
        ..Struct::default()
    };
    if is_set(openapi, "x-kubernetes-embedded-resource") {
        add_object_fields(&mut structure);
    }
    structure
}

fn schema(openapi: &Value) -> Schema {
    match openapi["type"].as_str().unwrap_or_default() {
        "object" => object(openapi),
        "array" => Schema::List(Arc::new(List {
            item: schema(&openapi["items"]),
            kind: list_kind(openapi),
            wrapped: false,
        })),
        "string" => Schema::Scalar(Scalar::Custom(Leaf::String)),
        "integer" | "number" => Schema::Scalar(Scalar::Custom(Leaf::Number)),
        "boolean" => Schema::Scalar(Scalar::Custom(Leaf::Bool)),
        _ if is_set(openapi, "x-kubernetes-int-or-string") => {
            Schema::Scalar(Scalar::Custom(Leaf::Any))
        }
        _ => Schema::Any(Any::Custom),
    }
}

fn object(openapi: &Value) -> Schema {
    let (value, nullable_values) = match &openapi["additionalProperties"] {
        value @ Value::Object(_) => (schema(value), is_set(value, "nullable")),
        Value::Bool(true) => (Schema::Any(Any::Custom), true),
        _ => return Schema::Struct(StructRef::Custom(Arc::new(structure(openapi)))),
    };
    let atomic = openapi["x-kubernetes-map-type"] == "atomic";
    Schema::Map(Arc::new(Map { value, atomic, nullable_values }))
}

fn list_kind(openapi: &Value) -> ListKind {
    let keys = openapi["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    match openapi["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(keys.filter_map(Value::as_str).map(Into::into).collect()),
        _ => ListKind::Atomic,
    }
}
