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
    let mut walk = Walk { leaves, issues: Vec::new() };
    if value.is_null() && schema.as_struct().is_some() {
        value = Value::Object(Map::new());
    }
    walk.value(&mut value, schema, &Path::ROOT)?;
    Ok((value, walk.issues))
}

/// The way to a value, printed only when something is wrong there.
#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    /// A field of a struct of this name.
    Field(&'a str, &'a Struct),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    fn below(&'a self, step: Step<'a>) -> Self {
        Self { parent: Some(self), step }
    }

    /// As issues show it: `spec.containers[0].image`.
    fn print(&self) -> String {
        let mut text = self.parent.map(Path::print).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Field(name, _) | Step::Key(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
        text
    }

    /// As Go's messages show it: the innermost struct, then the fields on the way, without map keys
    /// and indexes.
    fn go_field(&self) -> Option<String> {
        let mut fields = Vec::new();
        let mut owner = "";
        let mut here = Some(self);
        while let Some(path) = here {
            if let Step::Field(name, structure) = path.step {
                if fields.is_empty() {
                    owner = structure.short_name();
                }
                fields.push(name);
            }
            here = path.parent;
        }
        fields.reverse();
        (!fields.is_empty()).then(|| format!("{owner}.{}", fields.join(".")))
    }
}

struct Walk<'a> {
    leaves: &'a Leaves,
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
        Schema::Scalar(Scalar::Custom(_)) | Schema::Any(_) | Schema::Either(_) => {
            "interface {}".to_string()
        }
        Schema::List(list) => format!("[]{}", go_type(&list.item)),
        Schema::Map(map) => format!("map[string]{}", go_type(&map.value)),
        Schema::Struct(reference) => reference.get().go_name().to_string(),
    }
}

/// Go's message for a value of the wrong type. `detail` is the number, when its type is right but
/// its value is not.
fn mismatch(value: &Value, detail: &str, wanted: &str, path: &Path<'_>) -> DecodeError {
    let into = path.go_field().map_or("value".to_string(), |field| format!("struct field {field}"));
    let kind = json_kind(value);
    DecodeError::Mismatch {
        text: format!("json: cannot unmarshal {kind}{detail} into Go {into} of type {wanted}"),
        restore: restore_text(value, wanted),
    }
}

fn wrong<T>(value: &Value, schema: &Schema, path: &Path<'_>) -> Result<T, DecodeError> {
    Err(mismatch(value, "", &go_type(schema), path))
}

impl Walk<'_> {
    fn value(
        &mut self,
        value: &mut Value,
        schema: &Schema,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        match schema {
            Schema::Scalar(scalar) => self.scalar(value, *scalar, schema, path),
            Schema::Any(Any::Custom) => {
                go_numbers(value);
                Ok(())
            }
            Schema::Any(_) => Ok(()),
            Schema::Either(either) => self.either(value, *either, path),
            Schema::List(list) => {
                let Value::Array(items) = value else {
                    return if lenient(&list.item) { Ok(()) } else { wrong(value, schema, path) };
                };
                for (index, item) in items.iter_mut().enumerate() {
                    self.item(item, &list.item, &path.below(Step::Index(index)))?;
                }
                Ok(())
            }
            Schema::Map(map) => {
                let Value::Object(entries) = value else {
                    return if lenient(&map.value) { Ok(()) } else { wrong(value, schema, path) };
                };
                for (key, entry) in entries.iter_mut() {
                    self.item(entry, &map.value, &path.below(Step::Key(key)))?;
                }
                Ok(())
            }
            Schema::Struct(reference) => {
                let Value::Object(entries) = value else {
                    let custom = matches!(reference, StructRef::Custom(_));
                    let at_root = matches!(path.step, Step::Root);
                    return if custom && !at_root { Ok(()) } else { wrong(value, schema, path) };
                };
                match reference {
                    StructRef::BuiltIn(_) => self.structure(entries, reference.get(), path),
                    StructRef::Custom(_) => self.custom(entries, reference.get(), path),
                }
            }
        }
    }

    /// A list item or map value: null stands for the zero value.
    fn item(
        &mut self,
        item: &mut Value,
        schema: &Schema,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        if item.is_null() {
            if !lenient(schema) {
                *item = zero(schema);
            }
            return Ok(());
        }
        self.value(item, schema, path)
    }

    /// Drops the fields that a struct does not have, and notes them.
    fn drop_unknown(
        &mut self,
        entries: &mut Map<String, Value>,
        structure: &Struct,
        path: &Path<'_>,
    ) {
        entries.retain(|key, _| {
            let known = structure.field(key).is_some();
            if !known && self.issues.len() < ISSUES_MAX {
                let place = path.below(Step::Key(key)).print();
                self.issues.push(format!("unknown field \"{place}\""));
            }
            known
        });
    }

    fn structure(
        &mut self,
        entries: &mut Map<String, Value>,
        structure: &Struct,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        self.drop_unknown(entries, structure, path);
        for field in &structure.fields {
            match entries.get_mut(&*field.name) {
                None => {}
                Some(Value::Null) => {
                    entries.remove(&*field.name);
                }
                Some(value) => {
                    let below = path.below(Step::Field(&field.name, structure));
                    self.value(value, &field.schema, &below)?;
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
        Ok(())
    }

    /// A struct of a custom resource: unknown fields are dropped, but types are left to validation,
    /// and nulls are kept.
    fn custom(
        &mut self,
        entries: &mut Map<String, Value>,
        structure: &Struct,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        if structure.preserves_unknown {
            let unknown = entries.iter_mut().filter(|(key, _)| structure.field(key).is_none());
            unknown.for_each(|(_, value)| go_numbers(value));
        } else {
            self.drop_unknown(entries, structure, path);
        }
        for field in &structure.fields {
            let Some(value) = entries.get_mut(&*field.name).filter(|value| !value.is_null()) else {
                continue;
            };
            if structure.is_object && &*field.name == "metadata" {
                self.custom_metadata(value, &field.schema, path)?;
                continue;
            }
            let below = path.below(Step::Field(&field.name, structure));
            self.value(value, &field.schema, &below)?;
        }
        Ok(())
    }

    /// Upstream decodes the metadata of a custom resource by itself: its messages begin there.
    fn custom_metadata(
        &mut self,
        value: &mut Value,
        schema: &Schema,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let mut inner = Walk { leaves: self.leaves, issues: Vec::new() };
        inner.value(value, schema, &Path::ROOT)?;
        let prefix = path.below(Step::Key("metadata")).print();
        self.issues.extend(inner.issues.iter().map(|issue| {
            issue.replacen("unknown field \"", &format!("unknown field \"{prefix}."), 1)
        }));
        Ok(())
    }

    fn scalar(
        &mut self,
        value: &mut Value,
        scalar: Scalar,
        schema: &Schema,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let leaf = |canonical: Result<String, String>| {
            canonical.map(Value::String).map_err(DecodeError::Type)
        };
        match (scalar, &*value) {
            (Scalar::Custom(_), _) => go_numbers(value),
            (Scalar::String | Scalar::Duration | Scalar::IntOrString, Value::String(_))
            | (Scalar::Bool, Value::Bool(_))
            | (Scalar::Double, Value::Number(_)) => {}
            (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(number)) => {
                let narrow = scalar != Scalar::Int64;
                let fits = |whole: i64| !narrow || i32::try_from(whole).is_ok();
                if !number.as_i64().is_some_and(fits) {
                    let detail = format!(" {number}");
                    return Err(mismatch(value, &detail, &go_type(schema), path));
                }
            }
            (Scalar::Bytes, Value::String(text)) => {
                *value = Value::String(canonical_base64(text)?);
            }
            (Scalar::Quantity, Value::String(text)) => {
                let text = text.trim();
                *value = leaf((self.leaves.quantity)(if text.is_empty() { "0" } else { text }))?;
            }
            (Scalar::Quantity, Value::Number(_) | Value::Bool(_)) => {
                *value = leaf((self.leaves.quantity)(&value.to_string()))?;
            }
            (Scalar::Time, Value::String(text)) => *value = leaf((self.leaves.time)(text))?,
            (Scalar::MicroTime, Value::String(text)) => {
                *value = leaf((self.leaves.micro_time)(text))?;
            }
            _ => return wrong(value, schema, path),
        }
        Ok(())
    }

    fn either(
        &mut self,
        value: &mut Value,
        either: Either,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let schema = json_schema();
        match (either, &mut *value) {
            (_, Value::Object(_)) => self.value(value, &schema, path),
            (Either::SchemaOrBool, Value::Bool(_)) | (Either::SchemaOrStrings, Value::Array(_)) => {
                Ok(())
            }
            (Either::SchemaOrBool, _) => {
                Err(DecodeError::Type("boolean or JSON schema expected".to_string()))
            }
            (Either::SchemaOrArray, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.item(item, &schema, &path.below(Step::Index(index)))?;
                }
                Ok(())
            }
            (Either::SchemaOrArray | Either::SchemaOrStrings, _) => {
                *value = Value::Null;
                Ok(())
            }
        }
    }
}

/// Go writes a floating-point number that is whole without a point: `3.0` reads back as `3`.
fn go_numbers(value: &mut Value) {
    /// From here on Go writes an exponent, and 64-bit integers end soon after anyway.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() <= EXACT_MAX {
                #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and exact")]
                let whole = float as i64;
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(go_numbers),
        Value::Object(entries) => entries.iter_mut().for_each(|(_, entry)| go_numbers(entry)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
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
        Schema::Scalar(scalar) => matches!(scalar, Scalar::Custom(_)),
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
            | Scalar::Custom(_) => false,
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
            Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Custom(_) => Value::Null,
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
