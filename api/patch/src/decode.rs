//! From JSON to an object in normal form: types checked, unknown fields dropped, leaves canonical,
//! and exactly the fields there that a real API server would answer with.
//!
//! Source of behaviour: kubernetes `sigs.k8s.io/json`, Go's `encoding/json` (omission of empty
//! fields, texts) and apiextensions' structural pruning and defaulting, v1.36.

mod defaults;
mod normal;
mod parse;

use serde_json::Value;

use crate::schema::Schema;

pub(crate) use normal::json_schema;

pub use defaults::defaults;

/// How leaves are checked and put into canonical form: functions of the caller's, since this crate
/// knows neither quantities nor calendars. Each gives the canonical text, or the API's error text.
#[derive(Debug, Clone, Copy)]
pub struct Leaves {
    /// `resource.Quantity`.
    pub quantity: fn(&str) -> Result<String, String>,
    /// `metav1.Time`.
    pub time: fn(&str) -> Result<String, String>,
    /// `metav1.MicroTime`.
    pub micro_time: fn(&str) -> Result<String, String>,
}

/// Why a body cannot be decoded; the text is the API's, to be put after `… cannot be handled as a
/// Pod: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A leaf has the wrong form.
    #[error("{0}")]
    Type(String),
    /// A value has the wrong type.
    #[error("{text}")]
    Mismatch {
        /// The text when a body is decoded.
        text: String,
        /// The text when the object was made by a strategic merge patch, which upstream converts by
        /// other code.
        restore: String,
    },
}

impl DecodeError {
    /// The text when the object was made by a strategic merge patch.
    pub fn restore_text(&self) -> &str {
        match self {
            Self::Syntax(text) | Self::Type(text) | Self::Mismatch { restore: text, .. } => text,
        }
    }
}

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// In normal form.
    pub value: Value,
    /// What strict validation refuses and lax validation warns of, sorted: `unknown field
    /// "spec.foo"`, `duplicate field "spec.bar"`.
    pub issues: Vec<String>,
}

impl Decoded {
    /// The text of the error for strict validation, if there is anything to refuse.
    pub fn strict_error(&self) -> Option<String> {
        if self.issues.is_empty() {
            return None;
        }
        Some(format!("strict decoding error: {}", self.issues.join(", ")))
    }
}

/// More issues than this are not listed: a hostile body must not make a huge answer.
const ISSUES_MAX: usize = 100;

/// Reads a JSON body as an object of a type.
pub fn json(bytes: &[u8], schema: &Schema, leaves: &Leaves) -> Result<Decoded, DecodeError> {
    let (parsed, mut issues) = parse::parse(bytes)?;
    let mut decoded = value(parsed, schema, leaves)?;
    issues.append(&mut decoded.issues);
    issues.sort();
    issues.truncate(ISSUES_MAX);
    decoded.issues = issues;
    Ok(decoded)
}

/// Puts a value that is JSON already (read from YAML, or made by a patch) into an object of a type.
pub fn value(value: Value, schema: &Schema, leaves: &Leaves) -> Result<Decoded, DecodeError> {
    let (value, mut issues) = normal::normalise(value, schema, leaves)?;
    issues.sort();
    Ok(Decoded { value, issues })
}

/// Reads a JSON body without a type: for patches, and to see `kind` and `apiVersion` first. Also
/// gives the issues with duplicate fields.
pub fn untyped(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    parse::parse(bytes)
}

#[cfg(test)]
mod tests;
