//! Kubernetes protobuf: objects in normal form to bytes and back, driven by the schema.
//!
//! An object on the wire is four magic bytes and a `runtime.Unknown` message that holds its
//! `apiVersion` and `kind`, and its fields as a message of its type. Custom resources have no
//! protobuf form.
//!
//! Source of behaviour: kubernetes apimachinery `runtime/serializer/protobuf` and the generated
//! marshallers of 1.36. Zero values that the receiver cannot tell from absent ones are left out,
//! where Go's marshallers write them.

mod lists;
mod read;
mod text;
mod wire;
mod write;

use serde_json::Value;

use crate::decode::{self, DecodeError, Decoded, Leaves};
use crate::schema::Schema;

pub use lists::ListWriter;

/// The first bytes of every object.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why an object has no protobuf form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The type has no message.
    #[error("type {0:?} has no protobuf form")]
    NoMessage(String),
    /// A value does not fit the schema, so the object was not in normal form.
    #[error("field {0:?} does not fit its protobuf type")]
    Misfit(String),
}

/// The outer layer of an object's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion` of the object.
    pub api_version: String,
    /// `kind` of the object.
    pub kind: String,
    /// The object's message, or JSON if the content type says so.
    pub raw: &'a [u8],
    /// Empty for protobuf.
    pub content_type: String,
}

/// Encodes an object or list, which names its `apiVersion` and `kind`.
pub fn encode(object: &Value, schema: &Schema) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let message = encode_bare(object, schema)?;
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, text("apiVersion").as_bytes());
    wire::put_bytes(&mut type_meta, 2, text("kind").as_bytes());
    let mut out = Vec::with_capacity(message.len() + type_meta.len() + 16);
    out.extend_from_slice(MAGIC);
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, &message);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// Encodes the message of an object's type, without the envelope.
pub fn encode_bare(object: &Value, schema: &Schema) -> Result<Vec<u8>, EncodeError> {
    let structure = schema.as_struct().filter(|structure| !structure.wire.is_empty());
    let Some((structure, entries)) = structure.zip(object.as_object()) else {
        let name = schema.as_struct().map(|structure| structure.name.clone());
        return Err(EncodeError::NoMessage(name.unwrap_or_default()));
    };
    let mut out = Vec::new();
    write::structure(&mut out, entries, structure)?;
    Ok(out)
}

/// One frame of a watch: length, then a `WatchEvent` of this type (`ADDED`, …) around an object
/// that is encoded already, envelope included.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(&mut raw, 1, object);
    let mut message = Vec::with_capacity(raw.len() + event.len() + 16);
    wire::put_bytes(&mut message, 1, event.as_bytes());
    wire::put_bytes(&mut message, 2, &raw);
    let length = u32::try_from(message.len()).expect("objects are far smaller than 4 GiB");
    let mut out = length.to_be_bytes().to_vec();
    out.append(&mut message);
    out
}

/// Opens the envelope, to see what an object is before its schema is known.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let syntax = |text: &str| DecodeError::Syntax(text.to_string());
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        syntax("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    })?;
    let mut out = Envelope {
        api_version: String::new(),
        kind: String::new(),
        raw: &[],
        content_type: String::new(),
    };
    for field in wire::Fields::new(body) {
        let field = field?;
        match field.number {
            1 => {
                for inner in wire::Fields::new(field.bytes()?) {
                    let inner = inner?;
                    match inner.number {
                        1 => out.api_version = inner.text()?,
                        2 => out.kind = inner.text()?,
                        _ => {}
                    }
                }
            }
            2 => out.raw = field.bytes()?,
            4 => out.content_type = field.text()?,
            _ => {}
        }
    }
    Ok(out)
}

/// Decodes an object with its envelope into normal form. Unknown fields are skipped: protobuf has
/// no strict validation.
pub fn decode(bytes: &[u8], schema: &Schema, leaves: &Leaves) -> Result<Decoded, DecodeError> {
    let envelope = envelope(bytes)?;
    if envelope.content_type == "application/json" {
        return decode::json(envelope.raw, schema, leaves);
    }
    let structure = schema.as_struct().filter(|structure| !structure.wire.is_empty());
    let structure = structure
        .ok_or_else(|| DecodeError::Syntax(format!("{} has no protobuf form", envelope.kind)))?;
    let mut entries = read::structure(envelope.raw, structure)?;
    if structure.is_object {
        entries.insert("apiVersion".to_string(), Value::String(envelope.api_version));
        entries.insert("kind".to_string(), Value::String(envelope.kind));
    }
    decode::value(Value::Object(entries), schema, leaves)
}

#[cfg(test)]
mod tests;
