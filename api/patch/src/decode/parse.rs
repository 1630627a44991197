//! JSON text to [`Value`], noting keys that appear twice. The last one counts; objects are merged.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{DecodeError, ISSUES_MAX};

struct State {
    path: String,
    duplicates: Vec<String>,
}

struct Seed<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let length = self.0.path.len();
        loop {
            write!(self.0.path, "[{}]", list.len()).map_err(A::Error::custom)?;
            let item = items.next_element_seed(Seed(self.0))?;
            self.0.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let length = self.0.path.len();
        while let Some(key) = entries.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if map.contains_key(&key) && self.0.duplicates.len() < ISSUES_MAX {
                self.0.duplicates.push(format!("duplicate field \"{}\"", self.0.path));
            }
            let value = entries.next_value_seed(Seed(self.0))?;
            self.0.path.truncate(length);
            match map.get_mut(&key) {
                Some(known) => merge(known, value),
                None => {
                    map.insert(key, value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// The second of two values of one key: Go decodes it into what the first has left, so that objects
/// have the fields of both.
fn merge(known: &mut Value, value: Value) {
    match (known, value) {
        (Value::Object(known), Value::Object(value)) => {
            for (key, value) in value {
                match known.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => {
                        known.insert(key, value);
                    }
                }
            }
        }
        (known, value) => *known = value,
    }
}

/// Parses a whole text. Nesting deeper than serde_json's limit (128) is a syntax error.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    // Go replaces bytes that are not UTF-8 instead of refusing them.
    let text = String::from_utf8_lossy(bytes);
    let mut state = State { path: String::new(), duplicates: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = Seed(&mut state)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| DecodeError::Syntax(go_text(&error, &text)))?;
    state.duplicates.sort();
    state.duplicates.dedup();
    Ok((value, state.duplicates))
}

/// The text Go's decoder would give.
fn go_text(error: &serde_json::Error, text: &str) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_string();
    }
    let message = error.to_string();
    let place = if message.starts_with("trailing characters") {
        "after top-level value"
    } else if message.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if message.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if message.starts_with("expected `,` or `]`") {
        "after array element"
    } else if message.starts_with("expected `:`") {
        "after object key"
    } else if message.starts_with("expected value") || message.starts_with("trailing comma") {
        "looking for beginning of value"
    } else if message.starts_with("control character") {
        "in string literal"
    } else if message.starts_with("recursion limit") {
        return "exceeded max depth".to_string();
    } else {
        return message;
    };
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let column = line.floor_char_boundary(error.column().saturating_sub(1));
    match line[column..].chars().next() {
        Some(found) => format!("invalid character '{found}' {place}"),
        None => format!("invalid character '\\n' {place}"),
    }
}
