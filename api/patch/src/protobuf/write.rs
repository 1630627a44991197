//! Normal form to messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::EncodeError;
use super::text::{duration_nanos, time_parts};
use super::wire::{put_bytes, put_double, put_varint};
use crate::decode::json_schema;
use crate::schema::{Either, List, Member, Scalar, Schema, Struct};

/// Where a value goes: its field number, its name for errors, and whether a zero is written (in
/// lists and where absent means something else).
#[derive(Clone, Copy)]
struct Slot<'a> {
    number: u32,
    name: &'a str,
    keep_zero: bool,
}

impl Slot<'_> {
    fn misfit(&self) -> EncodeError {
        EncodeError::Misfit(self.name.to_string())
    }

    fn message(&self, out: &mut Vec<u8>, message: &[u8]) {
        if self.keep_zero || !message.is_empty() {
            put_bytes(out, self.number, message);
        }
    }

    /// As Go converts: negative numbers in two's complement.
    fn integer(&self, out: &mut Vec<u8>, value: i64) {
        if self.keep_zero || value != 0 {
            put_varint(out, self.number, value.cast_unsigned());
        }
    }
}

/// Writes the fields of a struct.
pub(super) fn structure(
    out: &mut Vec<u8>,
    entries: &Map<String, Value>,
    structure: &Struct,
) -> Result<(), EncodeError> {
    for wire in &structure.wire {
        match &wire.member {
            Member::Field(place) => {
                let field = &structure.fields[*place];
                let Some(value) = entries.get(&*field.name).filter(|value| !value.is_null()) else {
                    continue;
                };
                let slot =
                    Slot { number: wire.number, name: &field.name, keep_zero: field.nullable };
                self::value(out, value, &field.schema, slot)?;
            }
            Member::Inline(inner) => {
                let mut message = Vec::new();
                self::structure(&mut message, entries, inner.get())?;
                if !message.is_empty() {
                    put_bytes(out, wire.number, &message);
                }
            }
        }
    }
    Ok(())
}

fn value(
    out: &mut Vec<u8>,
    value: &Value,
    schema: &Schema,
    slot: Slot<'_>,
) -> Result<(), EncodeError> {
    match schema {
        Schema::Scalar(scalar) => self::scalar(out, value, *scalar, slot),
        Schema::List(list) => self::list(out, value, list, slot),
        Schema::Map(map) => {
            let entries = value.as_object().ok_or_else(|| slot.misfit())?;
            for (key, value) in entries {
                let mut message = Vec::new();
                put_bytes(&mut message, 1, key.as_bytes());
                let inner = Slot { number: 2, keep_zero: true, ..slot };
                self::value(&mut message, value, &map.value, inner)?;
                put_bytes(out, slot.number, &message);
            }
            Ok(())
        }
        Schema::Struct(reference) => {
            let mut message = Vec::new();
            // A null in a list stands for an empty struct.
            if !value.is_null() {
                let entries = value.as_object().ok_or_else(|| slot.misfit())?;
                structure(&mut message, entries, reference.get())?;
            }
            slot.message(out, &message);
            Ok(())
        }
        Schema::Any(_) => {
            let mut message = Vec::new();
            if !value.is_null() {
                put_bytes(&mut message, 1, value.to_string().as_bytes());
            }
            slot.message(out, &message);
            Ok(())
        }
        Schema::Either(either) => self::either(out, value, *either, slot),
    }
}

fn list(out: &mut Vec<u8>, value: &Value, list: &List, slot: Slot<'_>) -> Result<(), EncodeError> {
    if value.is_null() {
        return Ok(());
    }
    let items = value.as_array().ok_or_else(|| slot.misfit())?;
    if list.wrapped {
        let mut message = Vec::new();
        let inner = Slot { number: 1, keep_zero: true, ..slot };
        for item in items {
            self::value(&mut message, item, &list.item, inner)?;
        }
        slot.message(out, &message);
        return Ok(());
    }
    let inner = Slot { keep_zero: true, ..slot };
    for item in items {
        self::value(out, item, &list.item, inner)?;
    }
    Ok(())
}

fn scalar(
    out: &mut Vec<u8>,
    value: &Value,
    scalar: Scalar,
    slot: Slot<'_>,
) -> Result<(), EncodeError> {
    let text = || value.as_str().ok_or_else(|| slot.misfit());
    match scalar {
        Scalar::String => {
            let text = text()?;
            if slot.keep_zero || !text.is_empty() {
                put_bytes(out, slot.number, text.as_bytes());
            }
        }
        Scalar::Bool => slot.integer(out, i64::from(value.as_bool().ok_or_else(|| slot.misfit())?)),
        Scalar::Int32 | Scalar::Int64 => {
            slot.integer(out, value.as_i64().ok_or_else(|| slot.misfit())?);
        }
        Scalar::Double => {
            let number = value.as_f64().ok_or_else(|| slot.misfit())?;
            if slot.keep_zero || number != 0.0 {
                put_double(out, slot.number, number);
            }
        }
        Scalar::Bytes => {
            let encoded = value.as_str().unwrap_or_default();
            let bytes = STANDARD.decode(encoded).map_err(|_| slot.misfit())?;
            if slot.keep_zero || !bytes.is_empty() {
                put_bytes(out, slot.number, &bytes);
            }
        }
        Scalar::Quantity => {
            let mut message = Vec::new();
            put_bytes(&mut message, 1, text()?.as_bytes());
            put_bytes(out, slot.number, &message);
        }
        Scalar::IntOrString => put_bytes(out, slot.number, &int_or_string(value, slot)?),
        Scalar::Time | Scalar::MicroTime => {
            let mut message = Vec::new();
            if let Some(text) = value.as_str() {
                let (seconds, nanos) = time_parts(text).ok_or_else(|| slot.misfit())?;
                put_varint(&mut message, 1, seconds.cast_unsigned());
                put_varint(&mut message, 2, nanos.cast_unsigned());
            }
            slot.message(out, &message);
        }
        Scalar::Duration => {
            let mut message = Vec::new();
            let nanos = duration_nanos(text()?).ok_or_else(|| slot.misfit())?;
            put_varint(&mut message, 1, nanos.cast_unsigned());
            put_bytes(out, slot.number, &message);
        }
        Scalar::Custom(_) => return Err(slot.misfit()),
    }
    Ok(())
}

fn int_or_string(value: &Value, slot: Slot<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut message = Vec::new();
    match value {
        Value::String(text) => {
            put_varint(&mut message, 1, 1);
            put_bytes(&mut message, 3, text.as_bytes());
        }
        number => {
            let number = number.as_i64().ok_or_else(|| slot.misfit())?;
            put_varint(&mut message, 1, 0);
            put_varint(&mut message, 2, number.cast_unsigned());
        }
    }
    Ok(message)
}

fn either(
    out: &mut Vec<u8>,
    value: &Value,
    either: Either,
    slot: Slot<'_>,
) -> Result<(), EncodeError> {
    let mut message = Vec::new();
    // A schema's number is 1, but 2 beside a boolean.
    let schema_number = if either == Either::SchemaOrBool { 2 } else { 1 };
    let inner = |number| Slot { number, keep_zero: true, ..slot };
    match (either, value) {
        (Either::SchemaOrBool, Value::Bool(allowed)) => {
            put_varint(&mut message, 1, u64::from(*allowed));
        }
        (_, Value::Object(_)) => {
            if either == Either::SchemaOrBool {
                put_varint(&mut message, 1, 1);
            }
            self::value(&mut message, value, &json_schema(), inner(schema_number))?;
        }
        (Either::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                self::value(&mut message, item, &json_schema(), inner(2))?;
            }
        }
        (Either::SchemaOrStrings, Value::Array(items)) => {
            for item in items {
                scalar(&mut message, item, Scalar::String, inner(2))?;
            }
        }
        _ => return Err(slot.misfit()),
    }
    slot.message(out, &message);
    Ok(())
}
