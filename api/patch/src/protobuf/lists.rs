//! Lists written item by item, so that the objects of a long list need not be in memory at once.

use serde_json::Value;

use super::wire::{put_bytes, put_raw_varint, put_tag};
use super::{EncodeError, MAGIC, encode_bare};
use crate::schema::{Member, Schema};

/// Writes lists of one type.
pub struct ListWriter {
    list: Schema,
    item: Schema,
    /// The field number of `items`.
    number: u32,
}

impl ListWriter {
    /// What comes after the last item: an object's empty encoding and content type.
    pub const END: &'static [u8] = b"\x1a\x00\x22\x00";

    /// A writer for a list's schema; `None` if the type has no protobuf form or is no list.
    pub fn new(schema: &Schema) -> Option<Self> {
        let structure = schema.as_struct()?;
        // Items come last, so that everything else of the list is in front of them.
        let last = structure.wire.last()?;
        let Member::Field(place) = &last.member else { return None };
        let field = structure.fields.get(*place).filter(|field| &*field.name == "items")?;
        let Schema::List(items) = &field.schema else { return None };
        Some(Self { list: schema.clone(), item: items.item.clone(), number: last.number })
    }

    /// Appends one item.
    ///
    /// # Errors
    /// [`EncodeError`] for what is not in the normal form of the item's type.
    pub fn item(&self, out: &mut Vec<u8>, object: &Value) -> Result<(), EncodeError> {
        put_bytes(out, self.number, &encode_bare(object, &self.item)?);
        Ok(())
    }

    /// What comes before the first item: `list` is the list without them, `items_len` the length of
    /// all that [`Self::item`] appends.
    ///
    /// # Errors
    /// [`EncodeError`] for what is not in the normal form of the list's type.
    pub fn start(&self, list: &Value, items_len: usize) -> Result<Vec<u8>, EncodeError> {
        let text = |name: &str| list[name].as_str().unwrap_or_default();
        let message = encode_bare(list, &self.list)?;
        let mut type_meta = Vec::new();
        put_bytes(&mut type_meta, 1, text("apiVersion").as_bytes());
        put_bytes(&mut type_meta, 2, text("kind").as_bytes());
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, 1, &type_meta);
        put_tag(&mut out, 2, super::wire::BYTES);
        put_raw_varint(&mut out, (message.len() + items_len) as u64);
        out.extend_from_slice(&message);
        Ok(out)
    }
}
