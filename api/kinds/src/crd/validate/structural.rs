//! Whether a schema is structural: whether everything that is said of values is also said of their
//! structure, outside of alternatives.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apiserver/schema/validation.go`, v1.36.

use objects::{FieldErrors, FieldPath};
use regex::Regex;
use serde_json::{Value, json};

use crate::read::{Read, part};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural, in order of the messages.
pub(super) fn faults(openapi: &Value, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::default();
    invariants(openapi, Level::Root, path, &mut errors);
    complete(openapi, openapi, path, path, &mut errors);
    errors.0.sort_by_key(ToString::to_string);
    errors
}

/// `anyOf` of an integer and a string, which may be said of either.
fn is_int_or_string(any_of: &[Value]) -> bool {
    any_of.len() == 2
        && any_of[0] == json!({"type": "integer"})
        && any_of[1] == json!({"type": "string"})
}

fn invariants(openapi: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = openapi.text("type");
    let embedded = openapi.flag("x-kubernetes-embedded-resource");
    let either = openapi.flag("x-kubernetes-int-or-string");
    let open = openapi.flag("x-kubernetes-preserve-unknown-fields");
    if kind == "array" && openapi.field("items").is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = openapi.field("items").filter(|items| items.is_object()) {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, schema) in openapi.entries("properties") {
        invariants(schema, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = openapi.field("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&path, "must not be used at the root");
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
        if embedded {
            errors.forbidden(&path, "must not be used if x-kubernetes-embedded-resource is set");
        }
    }
    if either {
        let why = "must be false if x-kubernetes-int-or-string is true";
        if open {
            let at = path.child("x-kubernetes-preserve-unknown-fields");
            errors.invalid(&at, &json!(true), why);
        }
        if embedded {
            errors.invalid(&path.child("x-kubernetes-embedded-resource"), &json!(true), why);
        }
    }
    values(openapi, path, errors);
    let at = path.child("type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(&at, why),
            kind => errors.invalid_str(&at, kind, why),
        }
    } else if kind.is_empty() && !either && !open {
        errors.required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid_str(&at, kind, "must be object at the root");
    }
    metadata(openapi, level, embedded, path, errors);
    let empty = openapi.map("properties").is_none_or(serde_json::Map::is_empty);
    if embedded && !open && empty {
        errors.required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        );
    }
}

/// What may be said of type and metadata of whole objects.
fn metadata(
    openapi: &Value,
    level: Level,
    embedded: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let whole = level == Level::Root || embedded;
    let properties = part(openapi, &["properties"]);
    for name in ["kind", "apiVersion"] {
        if let Some(schema) = properties.field(name).filter(|_| whole)
            && schema.text("type") != "string"
        {
            let at = path.child("properties").key(name).child("type");
            errors.invalid_str(&at, schema.text("type"), "must be string");
        }
    }
    let Some(schema) = properties.field("metadata") else { return };
    let path = path.child("properties").key("metadata");
    if whole && schema.text("type") != "object" {
        errors.invalid_str(&path.child("type"), schema.text("type"), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let named = schema
        .entries("properties")
        .iter()
        .all(|(name, _)| matches!(*name, "name" | "generateName"));
    let rest = schema.as_object().into_iter().flatten().any(|(key, _)| {
        schema.is_set(key) && !matches!(key.as_str(), "type" | "properties" | "default")
    });
    if !named || rest {
        errors.forbidden(
            &path,
            "must not specify anything other than name and generateName, but metadata is \
             implicitly specified",
        );
    }
}

/// Alternatives and patterns of a schema.
fn values(openapi: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let any_of = openapi.items("anyOf");
    if !is_int_or_string(any_of) {
        for (index, schema) in any_of.iter().enumerate() {
            nested(schema, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, schema) in openapi.items("allOf").iter().enumerate() {
        let either = index == 0 && is_int_or_string(schema.items("anyOf"));
        nested(schema, either, &path.child("allOf").index(index), errors);
    }
    for (index, schema) in openapi.items("oneOf").iter().enumerate() {
        nested(schema, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(schema) = openapi.field("not") {
        nested(schema, false, &path.child("not"), errors);
    }
    let pattern = openapi.text("pattern");
    if !pattern.is_empty()
        && let Err(why) = Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid_str(&path.child("pattern"), pattern, &why);
    }
}

/// A schema inside an alternative may say nothing of structure.
fn nested(openapi: &Value, either: bool, path: &FieldPath, errors: &mut FieldErrors) {
    if either {
        let mut rest = openapi.clone();
        if let Some(map) = rest.as_object_mut() {
            map.remove("anyOf");
        }
        values(&rest, path, errors);
    } else {
        values(openapi, path, errors);
    }
    if let Some(items) = openapi.field("items").filter(|items| items.is_object()) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, schema) in openapi.entries("properties") {
        nested(schema, false, &path.child("properties").key(name), errors);
    }
    if openapi.field("additionalProperties").is_some_and(|given| *given != false) {
        let at = path.child("additionalProperties");
        errors.forbidden(&at, "must be undefined to be structural");
    }
    let rules = [
        ("type", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (word, why) in rules {
        let given = match word {
            "default" => openapi.field(word).is_some(),
            _ => openapi.is_set(word),
        };
        if given {
            errors.forbidden(&path.child(word), why);
        }
    }
    if part(openapi, &["properties"]).field("metadata").is_some() {
        let at = path.child("properties").key("metadata");
        errors.forbidden(&at, "must not be specified in a nested context");
    }
}

/// Every field that an alternative speaks of must be in the structure too.
fn complete(
    nested: &Value,
    structure: &Value,
    at: &FieldPath,
    nested_at: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut inner = |schema: &Value, path: FieldPath| {
        complete_nested(schema, Some(structure), at, &path, errors);
    };
    if let Some(schema) = nested.field("not") {
        inner(schema, nested_at.child("not"));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, schema) in nested.items(name).iter().enumerate() {
            inner(schema, nested_at.child(name).index(index));
        }
    }
}

fn complete_nested(
    nested: &Value,
    structure: Option<&Value>,
    at: &FieldPath,
    nested_at: &FieldPath,
    errors: &mut FieldErrors,
) {
    let Some(structure) = structure else {
        errors.required(at, &format!("because it is defined in {nested_at}"));
        return;
    };
    complete(nested, structure, at, nested_at, errors);
    if let Some(items) = nested.field("items").filter(|items| items.is_object()) {
        let below = structure.field("items");
        complete_nested(items, below, &at.child("items"), &nested_at.child("items"), errors);
    }
    for (name, schema) in nested.entries("properties") {
        let below = structure.map("properties").and_then(|all| all.get(name));
        let (at, nested_at) =
            (at.child("properties").key(name), nested_at.child("properties").key(name));
        complete_nested(schema, below, &at, &nested_at, errors);
    }
}
