//! The JSON of an object as it is stored, and views of it that need no second encoding.
//!
//! Stored JSON always begins with `{"kind":K,"apiVersion":V,"metadata":{"resourceVersion":"R"`:
//! so the place of the revision is known without a search, an item of a typed list (which has no
//! `kind` and `apiVersion`) is a slice of it, and another version with the same fields is another
//! head on the same slice.

mod shared;
pub(crate) mod wire;

use bytes::{BufMut, Bytes, BytesMut};
use kinds::Kind;
use serde_json::Value;
use store::{Payload, Record};

pub(crate) use shared::{FrameKey, SharedFrames};

/// `{"kind":K,"apiVersion":V,`: what the stored JSON of a type begins with.
pub(crate) fn head(kind: &str, api_version: &str) -> String {
    format!("{{\"kind\":{},\"apiVersion\":{},", quoted(kind), quoted(api_version))
}

fn quoted(text: &str) -> String {
    Value::String(text.to_string()).to_string()
}

const METADATA: &str = "\"metadata\":{\"resourceVersion\":\"";

/// Encodes an object for the store. A `resourceVersion` in it is left out: the store puts the new
/// one in.
pub(crate) fn payload(object: &Value) -> Payload {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or("");
    let head = head(text("kind"), text("apiVersion"));
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(METADATA.as_bytes());
    let revision_at = out.len();
    out.push(b'"');
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
            field(&mut out, key, value);
        }
    }
    out.push(b'}');
    if let Some(map) = object.as_object() {
        let known = ["kind", "apiVersion", "metadata"];
        for (key, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            field(&mut out, key, value);
        }
    }
    out.push(b'}');
    Payload::new(out, revision_at)
}

fn field(out: &mut Vec<u8>, key: &str, value: &Value) {
    out.push(b',');
    serde_json::to_writer(&mut *out, key).expect("a string becomes JSON, memory takes it");
    out.push(b':');
    serde_json::to_writer(&mut *out, value).expect("a value becomes JSON, memory takes it");
}

/// How a kind's records are shown in one version of the kind.
#[derive(Debug, Clone)]
pub struct View {
    stored_head: String,
    head: String,
    /// Whether items of a list keep `kind` and `apiVersion`, as custom resources' do.
    typed_items: bool,
    /// Whether the stored form has to be converted.
    converts: bool,
    /// Objects of a custom resource that a webhook has converted.
    pub(crate) converted: Option<std::sync::Arc<crate::crd::convert::Converted>>,
}

impl View {
    /// The view of one registry entry.
    pub fn new(kind: &Kind) -> Self {
        let head_of = head(&kind.names.kind, &kind.api_version());
        let stored_head = kind.storage.as_ref().map_or_else(
            || head_of.clone(),
            |storage| {
                let version = objects::GroupVersion::new(&storage.group, &storage.version);
                head(&storage.kind, &version.to_string())
            },
        );
        Self {
            stored_head,
            head: head_of,
            typed_items: kind.definition.is_none(),
            converts: kind.conversion.is_some(),
            converted: kind.definition.is_some().then(Default::default),
        }
    }

    /// The record's object, parsed, in this version.
    pub fn object(&self, kind: &Kind, record: &Record) -> Value {
        if let Some(object) = self.converted.as_ref().and_then(|done| done.get(record)) {
            return object;
        }
        let mut object = parse(record);
        if self.is_current(kind, record) {
            kind.from_storage(&mut object);
        } else {
            kind.behaviour.renew(&mut object);
        }
        object
    }

    /// The record's JSON in this version.
    pub fn json(&self, kind: &Kind, record: &Record) -> Bytes {
        if !self.converts && self.head == self.stored_head && self.is_current(kind, record) {
            return record.json.clone();
        }
        match self.tail(kind, record) {
            Some(tail) => {
                let mut out = BytesMut::with_capacity(self.head.len() + tail.len());
                out.put_slice(self.head.as_bytes());
                out.put_slice(tail);
                out.freeze()
            }
            None => encode(&self.object(kind, record)),
        }
    }

    /// Appends the record as an item of a list.
    pub fn put_item(&self, kind: &Kind, record: &Record, out: &mut BytesMut) {
        match (self.tail(kind, record), self.typed_items) {
            (Some(tail), true) => {
                out.put_u8(b'{');
                out.put_slice(tail);
            }
            (Some(tail), false) => {
                out.put_slice(self.head.as_bytes());
                out.put_slice(tail);
            }
            (None, typed) => {
                let mut object = self.object(kind, record);
                if typed {
                    strip_type(&mut object);
                }
                out.put_slice(&encode(&object));
            }
        }
    }

    /// Whether the stored JSON has today's form; that of a custom resource may be of another
    /// version, or older than its definition.
    fn is_current(&self, kind: &Kind, record: &Record) -> bool {
        self.typed_items
            || kind.behaviour.is_current(record.revision)
                && record.json.starts_with(self.stored_head.as_bytes())
    }

    /// The stored JSON after its head, if it can be shown under this version's head.
    fn tail<'a>(&self, kind: &Kind, record: &'a Record) -> Option<&'a [u8]> {
        if self.converts || !self.is_current(kind, record) {
            return None;
        }
        record.json.strip_prefix(self.stored_head.as_bytes())
    }
}

/// Parses a record's stored JSON.
pub(crate) fn parse(record: &Record) -> Value {
    serde_json::from_slice(&record.json).expect("the store holds only JSON that this server wrote")
}

/// Compact JSON of any value.
pub(crate) fn encode(value: &Value) -> Bytes {
    serde_json::to_vec(value).expect("a value becomes JSON, memory takes it").into()
}

/// Takes `kind` and `apiVersion` off, as items of typed lists are shown.
pub(crate) fn strip_type(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
}

#[cfg(test)]
mod tests;
