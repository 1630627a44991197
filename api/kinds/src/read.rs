//! Short readers for objects held as JSON. A missing or `null` field reads as empty.

use objects::quantity::Quantity;
use serde_json::{Map, Value};

/// Access to the fields of a map.
pub(crate) trait Read {
    /// A field that is present and not `null`.
    fn field(&self, key: &str) -> Option<&Value>;
    /// A string, else `""`.
    fn text(&self, key: &str) -> &str;
    /// A string that is present, even if empty.
    fn text_opt(&self, key: &str) -> Option<&str>;
    /// An integer.
    fn int(&self, key: &str) -> Option<i64>;
    /// Whether a boolean is present and true.
    fn flag(&self, key: &str) -> bool;
    /// A boolean.
    fn flag_opt(&self, key: &str) -> Option<bool>;
    /// The items of a list, else none.
    fn items(&self, key: &str) -> &[Value];
    /// The strings of a list.
    fn texts(&self, key: &str) -> Vec<&str>;
    /// A map that is present, even if empty.
    fn map(&self, key: &str) -> Option<&Map<String, Value>>;
    /// The entries of a map in order of their keys, else none.
    fn entries(&self, key: &str) -> Vec<(&str, &Value)>;
    /// Whether a string, list or map has anything in it, or a number or boolean is not zero.
    fn is_set(&self, key: &str) -> bool;
}

impl Read for Value {
    fn field(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> &str {
        self.text_opt(key).unwrap_or("")
    }

    fn text_opt(&self, key: &str) -> Option<&str> {
        self.field(key).and_then(Value::as_str)
    }

    fn int(&self, key: &str) -> Option<i64> {
        self.field(key).and_then(Value::as_i64)
    }

    fn flag(&self, key: &str) -> bool {
        self.flag_opt(key).unwrap_or(false)
    }

    fn flag_opt(&self, key: &str) -> Option<bool> {
        self.field(key).and_then(Value::as_bool)
    }

    fn items(&self, key: &str) -> &[Value] {
        self.field(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[])
    }

    fn texts(&self, key: &str) -> Vec<&str> {
        self.items(key).iter().filter_map(Value::as_str).collect()
    }

    fn map(&self, key: &str) -> Option<&Map<String, Value>> {
        self.field(key).and_then(Value::as_object)
    }

    fn entries(&self, key: &str) -> Vec<(&str, &Value)> {
        let map = self.map(key);
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), value)).collect()
    }

    fn is_set(&self, key: &str) -> bool {
        self.field(key).is_some_and(is_nonzero)
    }
}

/// Whether a value differs from the zero value of its type.
pub(crate) fn is_nonzero(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The quantity in a string or number; `None` if it is malformed.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// A quantity of a resource list, `None` if absent.
pub(crate) fn amount(list: Option<&Value>, resource: &str) -> Option<Quantity> {
    list?.field(resource).and_then(quantity)
}

/// An empty JSON value, for parts that are absent.
pub(crate) static NOTHING: Value = Value::Null;

/// A part of an object, [`NOTHING`] if absent.
pub(crate) fn part<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(object, |here, key| here.field(key)).unwrap_or(&NOTHING)
}

/// Whether two parts mean the same: absent, `null` and empty are alike, and so are quantities of
/// the same value where both sides are resource lists.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let covered = |x: &Map<String, Value>, y: &Map<String, Value>| {
                x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&NOTHING)))
            };
            covered(a, b) && b.iter().all(|(key, value)| a.contains_key(key) || !is_present(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(_) | Value::Array(_), Value::Null)
        | (Value::Null, Value::Object(_) | Value::Array(_)) => !is_present(a) && !is_present(b),
        _ => a == b,
    }
}

/// Whether anything is there: not `null`, an empty list, or a map of nothing.
fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}
