//! Normal form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{DecodeError, ISSUES_MAX, Leaves};
use crate::error::json_kind;
use crate::schema::{Any, Either, Field, Scalar, Schema, Struct, StructRef, builtin};

/// Checks a value and puts it into normal form. Also gives the unknown fields that were dropped.
pub(super) fn normalise(
    mut value: Value,
    schema: &Schema,
    leaves: &Leaves,
) -> Result<(Value, Vec<String>), DecodeError> {
    let mut walk = Walk { leaves, path: Vec::new(), owner: String::new(), issues: Vec::new() };
    if value.is_null() && schema.as_struct().is_some() {
        value = Value::Object(Map::new());
    }
    walk.value(&mut value, schema)?;
    Ok((value, walk.issues))
}

/// A step of the way from the root to a value.
enum Step {
    Field(String),
    Key(String),
    Index(usize),
}

struct Walk<'a> {
    leaves: &'a Leaves,
    path: Vec<Step>,
    /// The innermost struct, as Go's messages name it.
    owner: String,
    issues: Vec<String>,
}

/// What upstream's converter of untyped objects says of a value of the wrong type.
fn restore_text(value: &Value, wanted: &str) -> String {
    let kind = match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match wanted {
        _ if wanted.starts_with("[]") => format!("cannot restore slice from {kind}"),
        _ if wanted.starts_with("map[") => format!("cannot restore map from {kind}"),
        _ if wanted.contains('.') => format!("cannot restore struct from: {kind}"),
        _ => format!("cannot convert {kind} to {wanted}"),
    }
}

/// The Go type of a schema, for messages.
fn go_type(schema: &Schema) -> String {
    match schema {
        Schema::Scalar(Scalar::String | Scalar::Time | Scalar::MicroTime | Scalar::Duration) => {
            "string".to_string()
        }
        Schema::Scalar(Scalar::Bool) => "bool".to_string(),
        Schema::Scalar(Scalar::Int32 | Scalar::IntOrString) => "int32".to_string(),
        Schema::Scalar(Scalar::Int64) => "int64".to_string(),
        Schema::Scalar(Scalar::Double) => "float64".to_string(),
        Schema::Scalar(Scalar::Bytes) => "[]uint8".to_string(),
        Schema::Scalar(Scalar::Quantity) => "resource.Quantity".to_string(),
        Schema::Scalar(Scalar::Custom) | Schema::Any(_) | Schema::Either(_) => {
            "interface {}".to_string()
        }
        Schema::List(list) => format!("[]{}", go_type(&list.item)),
        Schema::Map(map) => format!("map[string]{}", go_type(&map.value)),
        Schema::Struct(reference) => reference.get().go_name().to_string(),
    }
}

impl Walk<'_> {
    /// The place of a value in the texts of issues: `spec.containers[0].image`.
    fn place(&self, last: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => out.push_str(&format!("[{index}]")),
                Step::Field(name) | Step::Key(name) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(name);
                }
            }
        }
        if !out.is_empty() {
            out.push('.');
        }
        out + last
    }

    /// Go's message for a value of the wrong type. `detail` is the number, when its type is right
    /// but its value is not.
    fn mismatch(&self, value: &Value, detail: &str, wanted: &str) -> DecodeError {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Key(_) | Step::Index(_) => None,
            })
            .collect();
        let into = if fields.is_empty() {
            "value".to_string()
        } else {
            format!("struct field {}.{}", self.owner, fields.join("."))
        };
        let kind = json_kind(value);
        DecodeError::Mismatch {
            text: format!("json: cannot unmarshal {kind}{detail} into Go {into} of type {wanted}"),
            restore: restore_text(value, wanted),
        }
    }

    fn wrong<T>(&self, value: &Value, schema: &Schema) -> Result<T, DecodeError> {
        Err(self.mismatch(value, "", &go_type(schema)))
    }

    fn value(&mut self, value: &mut Value, schema: &Schema) -> Result<(), DecodeError> {
        match schema {
            Schema::Scalar(scalar) => self.scalar(value, *scalar, schema),
            Schema::Any(_) => Ok(()),
            Schema::Either(either) => self.either(value, *either),
            Schema::List(list) => {
                let Value::Array(items) = value else {
                    return if lenient(&list.item) { Ok(()) } else { self.wrong(value, schema) };
                };
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(index));
                    self.item(item, &list.item)?;
                    self.path.pop();
                }
                Ok(())
            }
            Schema::Map(map) => {
                let Value::Object(entries) = value else {
                    return if lenient(&map.value) { Ok(()) } else { self.wrong(value, schema) };
                };
                for (key, entry) in entries.iter_mut() {
                    self.path.push(Step::Key(key.clone()));
                    self.item(entry, &map.value)?;
                    self.path.pop();
                }
                Ok(())
            }
            Schema::Struct(reference) => {
                let structure = reference.get();
                let Value::Object(entries) = value else {
                    let custom = matches!(reference, StructRef::Custom(_));
                    return if custom && !self.path.is_empty() {
                        Ok(())
                    } else {
                        self.wrong(value, schema)
                    };
                };
                match reference {
                    StructRef::BuiltIn(_) => self.structure(entries, structure),
                    StructRef::Custom(_) => self.custom(entries, structure),
                }
            }
        }
    }

    /// A list item or map value: null stands for the zero value.
    fn item(&mut self, item: &mut Value, schema: &Schema) -> Result<(), DecodeError> {
        if item.is_null() {
            if !lenient(schema) {
                *item = zero(schema);
            }
            return Ok(());
        }
        self.value(item, schema)
    }

    fn structure(
        &mut self,
        entries: &mut Map<String, Value>,
        structure: &Struct,
    ) -> Result<(), DecodeError> {
        entries.retain(|key, _| {
            let known = structure.field(key).is_some();
            if !known && self.issues.len() < ISSUES_MAX {
                self.issues.push(format!("unknown field \"{}\"", self.place(key)));
            }
            known
        });
        let owner = std::mem::replace(&mut self.owner, structure.short_name().to_string());
        for field in &structure.fields {
            match entries.get_mut(&*field.name) {
                None => {}
                Some(Value::Null) => {
                    entries.remove(&*field.name);
                }
                Some(value) => {
                    self.path.push(Step::Field(field.name.to_string()));
                    self.value(value, &field.schema)?;
                    self.path.pop();
                    if field.omit_empty && !field.nullable && is_empty(value, &field.schema) {
                        entries.remove(&*field.name);
                    }
                    continue;
                }
            }
            if let Some(value) = absent(field) {
                entries.insert(field.name.to_string(), value);
            }
        }
        self.owner = owner;
        Ok(())
    }

    /// A struct of a custom resource: unknown fields are dropped, but types are left to validation,
    /// and nulls are kept.
    fn custom(
        &mut self,
        entries: &mut Map<String, Value>,
        structure: &Struct,
    ) -> Result<(), DecodeError> {
        entries.retain(|key, _| {
            let known = structure.preserves_unknown || structure.field(key).is_some();
            if !known && self.issues.len() < ISSUES_MAX {
                self.issues.push(format!("unknown field \"{}\"", self.place(key)));
            }
            known
        });
        for field in &structure.fields {
            let Some(value) = entries.get_mut(&*field.name).filter(|value| !value.is_null()) else {
                continue;
            };
            let is_metadata = structure.is_object && &*field.name == "metadata";
            if is_metadata {
                // Upstream decodes metadata by itself: its messages begin there.
                let mut inner = Walk {
                    leaves: self.leaves,
                    path: Vec::new(),
                    owner: String::new(),
                    issues: Vec::new(),
                };
                inner.value(value, &field.schema)?;
                let prefix = self.place("metadata");
                self.issues.extend(inner.issues.iter().map(|issue| {
                    issue.replacen("unknown field \"", &format!("unknown field \"{prefix}."), 1)
                }));
                continue;
            }
            self.path.push(Step::Field(field.name.to_string()));
            self.value(value, &field.schema)?;
            self.path.pop();
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        value: &mut Value,
        scalar: Scalar,
        schema: &Schema,
    ) -> Result<(), DecodeError> {
        let fits = match (scalar, &*value) {
            (Scalar::Custom, _)
            | (Scalar::String | Scalar::Duration, Value::String(_))
            | (Scalar::Bool, Value::Bool(_))
            | (Scalar::Double, Value::Number(_))
            | (Scalar::IntOrString, Value::String(_)) => true,
            (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(number)) => {
                let whole = number.as_i64();
                let narrow = scalar != Scalar::Int64;
                if !whole.is_some_and(|whole| !narrow || i32::try_from(whole).is_ok()) {
                    let detail = format!(" {number}");
                    return Err(self.mismatch(value, &detail, &go_type(schema)));
                }
                true
            }
            (Scalar::Bytes, Value::String(text)) => {
                *value = Value::String(canonical_base64(text)?);
                true
            }
            (Scalar::Quantity, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                let text =
                    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().into());
                let text = if text.is_empty() { "0".to_string() } else { text };
                let canonical = (self.leaves.quantity)(&text).map_err(DecodeError::Type)?;
                *value = Value::String(canonical);
                true
            }
            (Scalar::Time, Value::String(text)) => {
                let canonical = (self.leaves.time)(text).map_err(DecodeError::Type)?;
                *value = Value::String(canonical);
                true
            }
            (Scalar::MicroTime, Value::String(text)) => {
                let canonical = (self.leaves.micro_time)(text).map_err(DecodeError::Type)?;
                *value = Value::String(canonical);
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { self.wrong(value, schema) }
    }

    fn either(&mut self, value: &mut Value, either: Either) -> Result<(), DecodeError> {
        let schema = json_schema();
        match (either, &mut *value) {
            (_, Value::Object(_)) => self.value(value, &schema),
            (Either::SchemaOrBool, Value::Bool(_)) => Ok(()),
            (Either::SchemaOrBool, _) => {
                Err(DecodeError::Type("boolean or JSON schema expected".to_string()))
            }
            (Either::SchemaOrArray, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(index));
                    self.item(item, &schema)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Either::SchemaOrStrings, Value::Array(_)) => Ok(()),
            (Either::SchemaOrArray | Either::SchemaOrStrings, _) => {
                *value = Value::Null;
                Ok(())
            }
        }
    }
}

/// The built-in type of an OpenAPI schema within a CRD.
pub(crate) fn json_schema() -> Schema {
    builtin("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("it is in the table")
}

/// Whether wrong types are left to validation: parts of custom resources.
fn lenient(schema: &Schema) -> bool {
    match schema {
        Schema::Scalar(scalar) => *scalar == Scalar::Custom,
        Schema::Any(any) => *any == Any::Custom,
        Schema::Struct(reference) => matches!(reference, StructRef::Custom(_)),
        Schema::List(list) => lenient(&list.item),
        Schema::Map(map) => lenient(&map.value),
        Schema::Either(_) => false,
    }
}

/// Whether Go takes a value for empty. Structs and times never are.
fn is_empty(value: &Value, schema: &Schema) -> bool {
    match schema {
        Schema::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Bytes => value == "",
            Scalar::Bool => value == false,
            Scalar::Int32 | Scalar::Int64 | Scalar::Double => value.as_f64() == Some(0.0),
            Scalar::Quantity
            | Scalar::IntOrString
            | Scalar::Time
            | Scalar::MicroTime
            | Scalar::Duration
            | Scalar::Custom => false,
        },
        Schema::List(_) => value.as_array().is_some_and(Vec::is_empty),
        Schema::Map(_) => value.as_object().is_some_and(Map::is_empty),
        Schema::Struct(_) | Schema::Any(_) | Schema::Either(_) => false,
    }
}

/// What stands in JSON for a field that was not given, if anything does.
fn absent(field: &Field) -> Option<Value> {
    if field.nullable {
        return (!field.omit_empty).then_some(Value::Null);
    }
    let zero = zero(&field.schema);
    let empty = zero.is_null() && matches!(field.schema, Schema::List(_) | Schema::Map(_))
        || zero.is_null() && matches!(field.schema, Schema::Scalar(Scalar::Bytes))
        || is_empty(&zero, &field.schema);
    let omitted = field.omit_zero || field.omit_empty && empty;
    (!omitted).then_some(zero)
}

/// Go's zero value of a type, as JSON.
fn zero(schema: &Schema) -> Value {
    match schema {
        Schema::Scalar(scalar) => match scalar {
            Scalar::String => Value::String(String::new()),
            Scalar::Bool => Value::Bool(false),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => Value::String("0".to_string()),
            Scalar::Duration => Value::String("0s".to_string()),
            Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Custom => Value::Null,
        },
        Schema::List(_) | Schema::Map(_) | Schema::Any(_) | Schema::Either(_) => Value::Null,
        Schema::Struct(reference) => {
            let fields = reference.get().fields.iter();
            let present = fields.filter_map(|field| Some((field.name.to_string(), absent(field)?)));
            Value::Object(present.collect())
        }
    }
}

/// Base64 as Go reads it (line breaks are skipped) and writes it.
fn canonical_base64(text: &str) -> Result<String, DecodeError> {
    let stripped: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&stripped) {
        Ok(_) => Ok(stripped),
        Err(error) => {
            let offset = match error {
                base64::DecodeError::InvalidByte(offset, _)
                | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                    stripped.len() / 4 * 4
                }
            };
            Err(DecodeError::Type(format!("illegal base64 data at input byte {offset}")))
        }
    }
}
