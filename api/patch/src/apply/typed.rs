//! Objects seen through their schema, the way server-side apply divides them.
//!
//! Source of behaviour: kubernetes-sigs structured-merge-diff v6 (`typed`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, print_element};
use crate::error::go_print;
use crate::schema::{Any, Field, Leaf, List, ListKind, Scalar, Schema, Struct};

/// How one value divides.
pub(super) enum Form<'a> {
    /// Owned as a whole.
    Leaf,
    /// A list whose items are owned each by itself.
    Items(&'a List),
    /// A map whose entries are owned each by itself.
    Entries(&'a Schema),
}

/// How a value of a type divides. Free-form JSON divides by what it is: maps do, lists do not.
pub(super) fn form<'a>(schema: &'a Schema, value: &Value) -> Form<'a> {
    match schema {
        Schema::Scalar(_) => Form::Leaf,
        Schema::List(list) if list.kind == ListKind::Atomic => Form::Leaf,
        Schema::List(list) => Form::Items(list),
        Schema::Map(map) if map.atomic => Form::Leaf,
        Schema::Struct(reference) if reference.get().atomic => Form::Leaf,
        Schema::Map(_) | Schema::Struct(_) => Form::Entries(schema),
        // Raw objects are one value to whoever owns them.
        Schema::Any(Any::RawExtension) => Form::Leaf,
        Schema::Any(_) | Schema::Either(_) if value.is_object() => Form::Entries(schema),
        Schema::Any(_) | Schema::Either(_) => Form::Leaf,
    }
}

/// The type of an entry, and whether it is a declared field (of a struct) rather than a map's key.
pub(super) fn entry<'a>(schema: &'a Schema, key: &str) -> Option<(&'a Schema, bool)> {
    const ANY: &Schema = &Schema::Any(Any::Custom);
    if let Some(field) = schema.as_struct().and_then(|structure| structure.field(key)) {
        return Some((&field.schema, true));
    }
    if matches!(schema, Schema::Either(_)) {
        return Some((ANY, false));
    }
    schema.child(key).map(|child| (child, false))
}

/// Whether a list or map has nothing in it; null counts as empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The element of a field.
pub(super) fn field_element(name: &str) -> Box<str> {
    format!("f:{name}").into()
}

/// What an item of a set or keyed list is known by, or why it cannot be.
pub(super) fn item_element(list: &List, item: &Value) -> Result<Box<str>, String> {
    let ListKind::Map(keys) = &list.kind else {
        return match item {
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".into())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            scalar => Ok(format!("v:{scalar}").into()),
        };
    };
    let entries = match item {
        Value::Object(entries) => entries,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let structure = list.item.as_struct();
    let mut found = Map::new();
    for key in keys {
        let value = entries.get(&**key).cloned();
        let default = || structure.and_then(|structure| key_default(structure, key));
        if let Some(value) = value.or_else(default) {
            found.insert(key.to_string(), value);
        }
    }
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and \
             doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    Ok(format!("k:{}", Value::Object(found)).into())
}

/// The default of a key: the schema's, else Go's zero for what is always written.
fn key_default(structure: &Struct, key: &str) -> Option<Value> {
    let field = structure.field(key)?;
    let zero = |field: &Field| match field.schema {
        _ if field.omit_empty || field.nullable || structure.name.is_empty() => None,
        Schema::Scalar(Scalar::String) => Some(Value::String(String::new())),
        Schema::Scalar(Scalar::Int32 | Scalar::Int64) => Some(0.into()),
        _ => None,
    };
    field.default.clone().or_else(|| zero(field))
}

/// The set of paths that a configuration owns once applied.
pub(super) fn field_set(value: &Value, schema: &Schema) -> FieldSet {
    let mut set = FieldSet::default();
    match (form(schema, value), value) {
        (Form::Entries(schema), Value::Object(entries)) => {
            for (key, value) in entries {
                let Some((child, declared)) = entry(schema, key) else { continue };
                let leaf = matches!(form(child, value), Form::Leaf);
                let bare = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let member = leaf || bare || !declared;
                set.add(field_element(key), member, field_set(value, child));
            }
        }
        (Form::Items(list), Value::Array(items)) => {
            for item in items {
                if let Ok(element) = item_element(list, item) {
                    set.add(element, true, field_set(item, &list.item));
                }
            }
        }
        _ => {}
    }
    set
}

/// What is wrong with an object that is to be divided; texts as upstream's.
pub(super) fn check(value: &Value, schema: &Schema, duplicates_allowed: bool) -> Vec<String> {
    let mut check = Check { duplicates_allowed, errors: Vec::new() };
    check.walk(value, schema, &Path { parent: None, step: Step::Root });
    check.errors
}

/// One error by itself, several as a list.
pub(super) fn join(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

/// The way to a value; printed only if something is wrong there.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Item(&'a str),
    Index(usize),
}

impl Path<'_> {
    fn print(&self) -> String {
        let mut text = self.parent.map(Path::print).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Field(name) => text.extend([".", name]),
            Step::Item(element) => text.push_str(&print_element(element)),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
        text
    }
}

struct Check {
    duplicates_allowed: bool,
    errors: Vec<String>,
}

impl Check {
    fn report(&mut self, path: &Path<'_>, text: &str) {
        let path = path.print();
        self.errors.push(if path.is_empty() { text.into() } else { format!("{path}: {text}") });
    }

    fn walk(&mut self, value: &Value, schema: &Schema, path: &Path<'_>) {
        match (schema, value) {
            (_, Value::Null) | (Schema::Any(_) | Schema::Either(_), _) => {}
            (Schema::Scalar(scalar), value) => {
                if let Some(text) = scalar_error(*scalar, value) {
                    self.report(path, &text);
                }
            }
            (Schema::List(list), Value::Array(items)) => self.items(items, list, path),
            (Schema::List(_), other) => {
                self.report(path, &format!("expected list, got {}", smd_print(other)));
            }
            (Schema::Map(_) | Schema::Struct(_), Value::Object(entries)) => {
                for (key, value) in entries {
                    let below = Path { parent: Some(path), step: Step::Field(key) };
                    match entry(schema, key) {
                        Some((child, _)) => self.walk(value, child, &below),
                        None => self.report(&below, "field not declared in schema"),
                    }
                }
            }
            (Schema::Map(_) | Schema::Struct(_), other) => {
                self.report(path, &format!("expected map, got {}", smd_print(other)));
            }
        }
    }

    fn items(&mut self, items: &[Value], list: &List, path: &Path<'_>) {
        let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            if list.kind == ListKind::Atomic {
                let below = Path { parent: Some(path), step: Step::Index(index) };
                self.walk(item, &list.item, &below);
                continue;
            }
            let element = match item_element(list, item) {
                Ok(element) => element,
                Err(text) => {
                    self.report(path, &format!("element {index}: {text}"));
                    return;
                }
            };
            if seen.contains(&element) && !self.duplicates_allowed {
                let printed = print_element(&element);
                self.report(path, &format!("duplicate entries for key {printed}"));
            }
            let below = Path { parent: Some(path), step: Step::Item(&element) };
            self.walk(item, &list.item, &below);
            seen.insert(element);
        }
    }
}

/// A value wrapped as upstream's library prints it.
fn smd_print(value: &Value) -> String {
    format!("&{{{}}}", go_print(value))
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    let wanted = match scalar {
        Scalar::String | Scalar::Bytes | Scalar::Duration => Leaf::String,
        Scalar::Bool => Leaf::Bool,
        Scalar::Int32 | Scalar::Int64 | Scalar::Double => Leaf::Number,
        Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime => Leaf::Any,
        Scalar::Custom(leaf) => leaf,
    };
    match wanted {
        Leaf::String if !value.is_string() => {
            let printed = go_print(value);
            Some(format!("expected string, got &value.valueUnstructured{{Value:{printed}}}"))
        }
        Leaf::Bool if !value.is_boolean() => {
            Some(format!("expected boolean, got {}", smd_print(value)))
        }
        Leaf::Number if !value.is_number() => {
            let kind = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            Some(format!("expected numeric (int or float), got {kind}"))
        }
        Leaf::Any if value.is_array() || value.is_object() => {
            Some(format!("expected any scalar, got {}", smd_print(value)))
        }
        Leaf::String | Leaf::Bool | Leaf::Number | Leaf::Any => None,
    }
}
