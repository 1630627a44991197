//! The OpenAPI schemas of a definition.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::structural;
use crate::crd::schema::{self, Node, Place};
use crate::read::{Read, part};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Calls a function for a schema and every schema inside it.
pub(super) fn visit(openapi: &Value, each: &mut dyn FnMut(&Value)) {
    if !openapi.is_object() {
        return;
    }
    each(openapi);
    for name in ["items", "not", "additionalProperties"] {
        visit(&openapi[name], each);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        openapi.items(name).iter().for_each(|schema| visit(schema, each));
    }
    for (_, schema) in openapi.entries("properties") {
        visit(schema, each);
    }
}

/// The schema that a path in dot notation leads to.
pub(super) fn follow<'a>(openapi: &'a Value, path: &str) -> Result<&'a Value, ()> {
    let steps = path.strip_prefix('.').ok_or(())?.split('.');
    steps.into_iter().try_fold(openapi, |schema, name| {
        schema.map("properties").and_then(|all| all.get(name)).ok_or(())
    })
}

/// What the walk knows of the places above.
#[derive(Clone)]
struct Above {
    is_root: bool,
    in_metadata: bool,
    /// Why defaults are not allowed here.
    no_defaults: Option<String>,
}

/// Reports what is wrong with a version's schema.
pub(super) fn check(
    openapi: &Value,
    path: &FieldPath,
    with_status: bool,
    old: Option<&Value>,
    errors: &mut FieldErrors,
) {
    let before = errors.0.len();
    if with_status {
        check_root(openapi, path, errors);
    }
    if openapi.flag("nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    if old.is_none_or(was_structural) {
        let mut found = structural::faults(openapi, path);
        if found.is_empty() {
            let node = Node::compile(openapi);
            check_defaults(&node, path, true, false, &mut found);
        }
        errors.extend(found);
    }
    let above = Above { is_root: true, in_metadata: false, no_defaults: None };
    check_one(openapi, path, &above, errors);
    dedup(errors, before);
}

/// Whether the schemas of a definition were structural: what is in the store is not held to rules
/// that came later.
fn was_structural(old: &Value) -> bool {
    part(old, &["spec"]).items("versions").iter().all(|version| {
        let openapi = part(version, &["schema", "openAPIV3Schema"]);
        !openapi.is_object() || structural::faults(openapi, &FieldPath::root()).is_empty()
    })
}

fn dedup(errors: &mut FieldErrors, from: usize) {
    let mut kept: Vec<objects::FieldError> = Vec::new();
    for error in errors.0.drain(from..) {
        if !kept.contains(&error) {
            kept.push(error);
        }
    }
    errors.0.extend(kept);
}

/// With a `status` subresource the schema of the status is taken out of the root's properties, so
/// that nothing else may be said of it at the root.
fn check_root(openapi: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const ALLOWED: [(&str, &str); 22] = [
        ("description", "Description"),
        ("type", "Type"),
        ("format", "Format"),
        ("title", "Title"),
        ("maximum", "Maximum"),
        ("exclusiveMaximum", "ExclusiveMaximum"),
        ("minimum", "Minimum"),
        ("exclusiveMinimum", "ExclusiveMinimum"),
        ("maxLength", "MaxLength"),
        ("minLength", "MinLength"),
        ("pattern", "Pattern"),
        ("maxItems", "MaxItems"),
        ("minItems", "MinItems"),
        ("uniqueItems", "UniqueItems"),
        ("multipleOf", "MultipleOf"),
        ("required", "Required"),
        ("items", "Items"),
        ("properties", "Properties"),
        ("externalDocs", "ExternalDocs"),
        ("example", "Example"),
        ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
        ("x-kubernetes-validations", "XValidations"),
    ];
    let kind = openapi.text("type");
    if !kind.is_empty() && kind != "object" {
        errors.invalid_str(
            &path.child("type"),
            kind,
            "only \"object\" is allowed as the type at the root of the schema if the status \
             subresource is enabled",
        );
        return;
    }
    let odd =
        openapi.as_object().into_iter().flatten().any(|(name, _)| {
            openapi.is_set(name) && ALLOWED.iter().all(|(known, _)| known != name)
        });
    if odd {
        let names: Vec<&str> = ALLOWED.iter().map(|(_, name)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is \
             enabled",
            names.join(" ")
        );
        errors.invalid(path, openapi, &why);
    }
}

/// Checks a schema and those inside it.
fn check_one(openapi: &Value, path: &FieldPath, above: &Above, errors: &mut FieldErrors) {
    if !openapi.is_object() {
        return;
    }
    check_words(openapi, path, above, errors);
    let inner = Above { is_root: false, ..above.clone() };
    if let Some(additional) = openapi.field("additionalProperties") {
        if openapi.map("properties").is_some_and(|all| !all.is_empty()) && *additional != true {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.forbidden(&path.child("additionalProperties"), why);
        }
        let mut inner = inner.clone();
        if above.in_metadata {
            inner.no_defaults =
                Some("inside additionalProperties applying to object metadata".into());
        }
        check_one(additional, &path.child("additionalProperties"), &inner, errors);
    }
    for (name, schema) in openapi.entries("properties") {
        let mut inner = inner.clone();
        let meta = matches!(name, "metadata" | "kind" | "apiVersion");
        if (above.is_root || openapi.flag("x-kubernetes-embedded-resource")) && meta {
            inner.in_metadata = true;
            if above.is_root {
                inner.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        check_one(schema, &path.child("properties").key(name), &inner, errors);
    }
    check_one(&openapi["not"], &path.child("not"), &inner, errors);
    for name in ["allOf", "oneOf", "anyOf"] {
        for (index, schema) in openapi.items(name).iter().enumerate() {
            check_one(schema, &path.child(name).index(index), &inner, errors);
        }
    }
    check_one(&openapi["items"], &path.child("items"), &inner, errors);
    check_list(openapi, path, errors);
    check_rules(openapi, path, errors);
}

/// The keywords of one schema.
fn check_words(openapi: &Value, path: &FieldPath, above: &Above, errors: &mut FieldErrors) {
    let kind = openapi.text("type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), &json!(kind), &TYPES);
    }
    if openapi.field("default").is_some()
        && let Some(reason) = &above.no_defaults
    {
        errors.forbidden(&path.child("default"), &format!("must not be set {reason}"));
    }
    let words =
        ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
    for word in words.into_iter().filter(|word| openapi.is_set(word)) {
        errors.forbidden(&path.child(word), &format!("{word} is not supported"));
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.forbidden(&path.child("type"), why);
    }
    if openapi.get("items").is_some_and(Value::is_array) {
        let why = "items must be a schema object and not an array";
        errors.forbidden(&path.child("items"), why);
    }
    if above.in_metadata && openapi.flag("x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        errors.forbidden(&path.child("x-kubernetes-embedded-resource"), why);
    }
    if openapi.flag("uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), why);
    }
    if openapi.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, &json!(false), "must be true or undefined");
    }
    let wants = [("x-kubernetes-map-type", "object"), ("x-kubernetes-list-type", "array")];
    for (word, wanted) in wants.into_iter().filter(|(word, _)| openapi.field(word).is_some()) {
        let why = format!("must be {wanted} if {word} is specified");
        match kind {
            "" => errors.required(&path.child("type"), &why),
            kind if kind != wanted => errors.invalid_str(&path.child("type"), kind, &why),
            _ => {}
        }
    }
    if let Some(kind) = openapi.text_opt("x-kubernetes-map-type") {
        let at = path.child("x-kubernetes-map-type");
        crate::check::one_of(errors, &at, kind, &["atomic", "granular"]);
    }
}

/// List types and their keys.
fn check_list(openapi: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let list = openapi.text_opt("x-kubernetes-list-type");
    let items = part(openapi, &["items"]);
    let keys = openapi.texts("x-kubernetes-list-map-keys");
    let at = path.child("x-kubernetes-list-type");
    if let Some(list) = list {
        crate::check::one_of(errors, &at, list, &["atomic", "set", "map"]);
    }
    if list == Some("set") && openapi.text("type") == "array" {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let inner = items.text_opt("x-kubernetes-list-type");
        if items.text("type") == "array" && inner.is_some_and(|inner| inner != "atomic") {
            let at = path.child("items").child("x-kubernetes-list-type");
            errors.invalid(&at, &json!(inner), why);
        }
        if items.text("type") == "object" && items.text("x-kubernetes-map-type") != "atomic" {
            let at = path.child("items").child("x-kubernetes-map-type");
            errors.invalid(&at, &json!(inner), why);
        }
    }
    if !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list {
            None => errors.required(&at, why),
            Some("map") => {}
            Some(other) => errors.invalid_str(&at, other, why),
        }
    }
    if list == Some("map") {
        check_map(openapi, &keys, path, errors);
    }
    if matches!(list, Some("map" | "set")) && items.flag("nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {}", at_list(list));
        errors.forbidden(&path.child("items").child("nullable"), &why);
    }
    if list != Some("map") {
        return;
    }
    let required = items.texts("required");
    for key in keys {
        let Some(schema) = items.map("properties").and_then(|all| all.get(key)) else { continue };
        let at = path.child("items").child("properties").key(key);
        if !required.contains(&key) && schema.field("default").is_none() {
            errors.required(
                &at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be \
                 a required property",
            );
        }
        if schema.flag("nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), why);
        }
    }
}

fn at_list(list: Option<&str>) -> &str {
    list.unwrap_or_default()
}

fn check_map(openapi: &Value, keys: &[&str], path: &FieldPath, errors: &mut FieldErrors) {
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    let Some(items) = openapi.field("items") else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.required(&path.child("items"), why);
        return;
    };
    if items.text("type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid_str(&path.child("items").child("type"), items.text("type"), why);
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        match items.map("properties").and_then(|all| all.get(*key)) {
            Some(schema) if matches!(schema.text("type"), "array" | "object") => {
                let at = path.child("items").child("properties").key(key).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid_str(&at, "object", why);
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.invalid(&at, &json!(keys), why);
            }
        }
        if keys[..index].contains(key) {
            errors.invalid(&at, &json!(keys), "must not contain duplicate entries");
        }
    }
}

/// The form of rules; what they say is checked by who compiles them.
fn check_rules(openapi: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let lines = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in openapi.items("x-kubernetes-validations").iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let (expression, message) = (rule.text("rule").trim(), rule.text("message"));
        if expression.is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid_str(&path.child("message"), message, "must be non-empty if specified");
        } else if lines(message.trim()) {
            errors.invalid_str(&path.child("message"), message, "must not contain line breaks");
        } else if lines(expression) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.required(&path.child("message"), why);
        }
        let made = rule.text("messageExpression");
        if !made.is_empty() && made.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.required(&path.child("messageExpression"), why);
        }
        if let Some(reason) = rule.text_opt("reason")
            && !REASONS.contains(&reason)
        {
            errors.not_supported(&path.child("reason"), &json!(reason), &REASONS);
        }
        let place = rule.text("fieldPath");
        if place.is_empty() {
            continue;
        }
        let at = path.child("fieldPath");
        if place.trim().is_empty() {
            errors.invalid_str(&at, place, "must be non-empty if specified");
        }
        if lines(place) {
            errors.invalid_str(&at, place, "must not contain line breaks");
        }
        if follow_any(openapi, place).is_none() {
            errors.invalid_str(&at, place, "must be a valid path");
        }
    }
}

/// The schema that a path with dots and quoted keys leads to.
fn follow_any<'a>(openapi: &'a Value, path: &str) -> Option<&'a Value> {
    let mut schema = openapi;
    let mut rest = path;
    while !rest.is_empty() {
        let name = if let Some(after) = rest.strip_prefix("['") {
            let (name, after) = after.split_once("']")?;
            rest = after;
            name
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            rest = &after[end..];
            &after[..end]
        };
        let named = schema.map("properties").and_then(|all| all.get(name));
        schema = named.or_else(|| schema.field("additionalProperties"))?;
    }
    Some(schema)
}

/// Defaults must be what their schema allows.
fn check_defaults(
    node: &Node,
    path: &FieldPath,
    is_root: bool,
    in_metadata: bool,
    errors: &mut FieldErrors,
) {
    if let Some(default) = node.default.as_deref() {
        let at = path.child("default");
        let mut pruned = default.clone();
        schema::prune(&mut pruned, node, node.embedded);
        if !in_metadata && pruned != *default {
            errors.invalid(&at, default, "must not have unknown fields");
        }
        schema::check_embedded(node, default, &at, errors);
        schema::check(node, default, &Place::at(at), errors);
    }
    if let Some(items) = node.items.as_deref() {
        check_defaults(items, &path.child("items"), false, in_metadata, errors);
    }
    for (name, child) in &node.properties {
        let own = matches!(&**name, "metadata" | "apiVersion" | "kind");
        let in_metadata = in_metadata || (is_root || node.embedded) && own;
        check_defaults(child, &path.child("properties").key(name), false, in_metadata, errors);
    }
}
