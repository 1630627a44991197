//! Tags, varints and lengths.

use crate::decode::DecodeError;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// A field as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) content: Content<'a>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

fn malformed(text: &str) -> DecodeError {
    DecodeError::Syntax(format!("proto: {text}"))
}

impl<'a> Field<'a> {
    pub(super) fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed(&format!("wrong wireType for field {}", self.number))),
        }
    }

    pub(super) fn varint(&self) -> Result<u64, DecodeError> {
        match self.content {
            Content::Varint(value) => Ok(value),
            _ => Err(malformed(&format!("wrong wireType for field {}", self.number))),
        }
    }

    pub(super) fn fixed64(&self) -> Result<u64, DecodeError> {
        match self.content {
            Content::Fixed64(value) => Ok(value),
            _ => Err(malformed(&format!("wrong wireType for field {}", self.number))),
        }
    }

    /// Text; what is not UTF-8 is replaced, as when JSON is read.
    pub(super) fn text(&self) -> Result<String, DecodeError> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

/// The fields of a message, in order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| malformed("unexpected EOF"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn read(&mut self) -> Result<Field<'a>, DecodeError> {
        let tag = take_varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| malformed("illegal tag"))?;
        let content = match u32::try_from(tag & 7).expect("three bits") {
            VARINT => Content::Varint(take_varint(&mut self.rest)?),
            FIXED64 => {
                let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
                Content::Fixed64(u64::from_le_bytes(bytes))
            }
            BYTES => {
                let length = take_varint(&mut self.rest)?;
                let length = usize::try_from(length).map_err(|_| malformed("unexpected EOF"))?;
                Content::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Content::Fixed32
            }
            other => return Err(malformed(&format!("illegal wireType {other}"))),
        };
        if number == 0 {
            return Err(malformed("illegal tag 0"));
        }
        Ok(Field { number, content })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes one varint from the front.
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(|| malformed("unexpected EOF"))?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("integer overflow"))
}

pub(super) fn put_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("less than 0x80"));
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, kind: u32) {
    put_raw_varint(out, u64::from(number) << 3 | u64::from(kind));
}

/// Writes an integer field.
pub(super) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, VARINT);
    put_raw_varint(out, value);
}

/// Writes a floating-point field.
pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_tag(out, number, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a text, bytes or message field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_raw_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
