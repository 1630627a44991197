//! Messages to JSON, not yet in normal form: what is absent on the wire is absent here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::text::{duration_text, time_text};
use super::wire::{Content, Field, Fields, take_varint};
use crate::decode::{DecodeError, json_schema};
use crate::schema::{Either, Member, Scalar, Schema, Struct};

/// Deeper nesting is refused; a CRD's schema is the deepest there is in practice.
const DEPTH_MAX: u32 = 100;

/// Reads the fields of a struct.
pub(super) fn structure(
    message: &[u8],
    structure: &Struct,
) -> Result<Map<String, Value>, DecodeError> {
    let mut entries = Map::new();
    into_entries(&mut entries, message, structure, 0)?;
    Ok(entries)
}

fn into_entries(
    entries: &mut Map<String, Value>,
    message: &[u8],
    structure: &Struct,
    depth: u32,
) -> Result<(), DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::Syntax("exceeded max depth".to_string()));
    }
    for field in Fields::new(message) {
        let field = field?;
        let place = structure.wire.binary_search_by_key(&field.number, |wire| wire.number);
        let Ok(place) = place else { continue };
        match &structure.wire[place].member {
            Member::Inline(inner) => {
                into_entries(entries, field.bytes()?, inner.get(), depth + 1)?;
            }
            Member::Field(place) => {
                let known = &structure.fields[*place];
                let before = entries.remove(&*known.name);
                let value = value(field, &known.schema, before, depth)?;
                entries.insert(known.name.to_string(), value);
            }
        }
    }
    Ok(())
}

/// The value of a field; `before` is what earlier occurrences of the field gave.
fn value(
    field: Field<'_>,
    schema: &Schema,
    before: Option<Value>,
    depth: u32,
) -> Result<Value, DecodeError> {
    match schema {
        Schema::Scalar(scalar) => self::scalar(field, *scalar),
        Schema::List(list) => {
            let mut items = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let packable =
                matches!(list.item, Schema::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool));
            match field.content {
                Content::Bytes(message) if list.wrapped => {
                    for inner in Fields::new(message) {
                        items.push(value(inner?, &list.item, None, depth)?);
                    }
                }
                Content::Bytes(mut packed) if packable => {
                    while !packed.is_empty() {
                        let content = Content::Varint(take_varint(&mut packed)?);
                        items.push(value(Field { content, ..field }, &list.item, None, depth)?);
                    }
                }
                _ => items.push(value(field, &list.item, None, depth)?),
            }
            Ok(Value::Array(items))
        }
        Schema::Map(map) => {
            let mut entries = match before {
                Some(Value::Object(entries)) => entries,
                _ => Map::new(),
            };
            let mut key = String::new();
            let mut entry = Value::Null;
            for inner in Fields::new(field.bytes()?) {
                let inner = inner?;
                match inner.number {
                    1 => key = inner.text()?,
                    2 => entry = value(inner, &map.value, None, depth)?,
                    _ => {}
                }
            }
            entries.insert(key, entry);
            Ok(Value::Object(entries))
        }
        Schema::Struct(reference) => {
            let mut entries = match before {
                Some(Value::Object(entries)) => entries,
                _ => Map::new(),
            };
            into_entries(&mut entries, field.bytes()?, reference.get(), depth + 1)?;
            Ok(Value::Object(entries))
        }
        Schema::Any(_) => raw_json(field),
        Schema::Either(either) => self::either(field, *either, depth),
    }
}

fn message_field<'a>(message: &'a [u8], number: u32) -> Result<Option<Field<'a>>, DecodeError> {
    let mut found = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            found = Some(field);
        }
    }
    Ok(found)
}

fn raw_json(field: Field<'_>) -> Result<Value, DecodeError> {
    let Some(raw) = message_field(field.bytes()?, 1)? else {
        return Ok(Value::Null);
    };
    let bytes = raw.bytes()?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    crate::decode::untyped(bytes).map(|(value, _)| value)
}

fn signed(field: Field<'_>) -> Result<i64, DecodeError> {
    field.varint().map(u64::cast_signed)
}

fn scalar(field: Field<'_>, scalar: Scalar) -> Result<Value, DecodeError> {
    let integer = |number| match message_field(field.bytes()?, number)? {
        Some(inner) => signed(inner),
        None => Ok(0),
    };
    Ok(match scalar {
        Scalar::String | Scalar::Custom(_) => Value::String(field.text()?),
        Scalar::Bool => Value::Bool(field.varint()? != 0),
        #[allow(clippy::cast_possible_truncation, reason = "Go's decoder cuts to 32 bits too")]
        Scalar::Int32 => (signed(field)? as i32).into(),
        Scalar::Int64 => signed(field)?.into(),
        Scalar::Double => f64::from_bits(field.fixed64()?).into(),
        Scalar::Bytes => Value::String(STANDARD.encode(field.bytes()?)),
        Scalar::Quantity => match message_field(field.bytes()?, 1)? {
            Some(text) => Value::String(text.text()?),
            None => Value::String("0".to_string()),
        },
        Scalar::IntOrString => match (integer(1)?, message_field(field.bytes()?, 3)?) {
            (1, Some(text)) => Value::String(text.text()?),
            (1, None) => Value::String(String::new()),
            _ => integer(2)?.into(),
        },
        Scalar::Time | Scalar::MicroTime if field.bytes()?.is_empty() => Value::Null,
        Scalar::Time => Value::String(time_text(integer(1)?, 0, 0)),
        Scalar::MicroTime => Value::String(time_text(integer(1)?, integer(2)?, 6)),
        Scalar::Duration => Value::String(duration_text(integer(1)?)),
    })
}

fn either(field: Field<'_>, either: Either, depth: u32) -> Result<Value, DecodeError> {
    let schema = json_schema();
    let message = field.bytes()?;
    let mut items = Vec::new();
    let mut allowed = false;
    for inner in Fields::new(message) {
        let inner = inner?;
        match (either, inner.number) {
            (Either::SchemaOrBool, 1) => allowed = inner.varint()? != 0,
            (Either::SchemaOrBool, 2) | (Either::SchemaOrArray | Either::SchemaOrStrings, 1) => {
                return value(inner, &schema, None, depth + 1);
            }
            (Either::SchemaOrArray, 2) => items.push(value(inner, &schema, None, depth + 1)?),
            (Either::SchemaOrStrings, 2) => items.push(Value::String(inner.text()?)),
            _ => {}
        }
    }
    Ok(match either {
        Either::SchemaOrBool => Value::Bool(allowed),
        Either::SchemaOrArray | Either::SchemaOrStrings => Value::Array(items),
    })
}
