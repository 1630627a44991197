//! Validation errors that name a field, printed and grouped as a real API server does.
//!
//! Source of behaviour: kubernetes apimachinery `util/validation/field`, v1.36.

use std::fmt;

use serde_json::Value;

/// A path such as `spec.containers[0].name` or `metadata.labels[app]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path of the object itself (printed as `<nil>` when an error names it).
    pub fn root() -> Self {
        Self::default()
    }
    /// A path of one name.
    pub fn new(name: &str) -> Self {
        Self(name.to_string())
    }
    /// The path of a field below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }
    /// The path of a list item.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
    /// The path of a map entry.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
    /// The printed form; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The class of a field error; [`FieldErrorKind::reason`] is the cause's `reason` in a Status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldErrorKind {
    /// A required value is absent.
    Required,
    /// A value that must be unique is repeated.
    Duplicate,
    /// A value is malformed.
    Invalid,
    /// A value is not one of those allowed.
    NotSupported,
    /// A value is well-formed but not permitted here.
    Forbidden,
    /// A string is too long.
    TooLong,
    /// A list is too long.
    TooMany,
    /// A string is too short.
    TooShort,
    /// A list is too short.
    TooFew,
    /// A referenced value does not exist.
    NotFound,
    /// The server failed.
    Internal,
    /// A value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// `reason` of the cause in `Status.details.causes`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooShort => "FieldValueTooShort",
            Self::TooFew => "FieldValueTooFew",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooShort => "Too short",
            Self::TooFew => "Too few",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }
}

/// One field error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Class.
    pub kind: FieldErrorKind,
    /// Where.
    pub path: FieldPath,
    /// The printed bad value, already quoted as the class prints it; empty when none is printed.
    pub value: String,
    /// What is wrong, without the path and value.
    pub detail: String,
}

impl FieldError {
    /// The message without the path: the `message` of a cause.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_string();
        if !self.value.is_empty() {
            out.push_str(": ");
            out.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// How a bad value is printed: strings quoted, numbers and booleans bare, maps and lists as JSON.
pub fn print_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Null => "null".to_string(),
        // Go's encoder escapes what could end an HTML script.
        other => other
            .to_string()
            .replace('&', "\\u0026")
            .replace('<', "\\u003c")
            .replace('>', "\\u003e"),
    }
}

/// A string as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if code < 0x80 && !character.is_control() => out.push(character),
            _ if code < 0x80 => write!(out, "\\x{code:02x}").expect("writing to a string"),
            _ if !unprintable(character) => out.push(character),
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}").expect("writing to a string"),
            _ => write!(out, "\\U{code:08x}").expect("writing to a string"),
        }
    }
    out.push('"');
    out
}

/// Close to Go's `unicode.IsPrint`: controls, spaces other than the plain one, formatting and
/// private-use characters.
fn unprintable(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || matches!(
            character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{f0000}'..
        )
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A list of field errors being gathered by validation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn push(&mut self, kind: FieldErrorKind, path: &FieldPath, value: String, detail: &str) {
        self.0.push(FieldError { kind, path: path.clone(), value, detail: detail.to_string() });
    }
    /// `Required value`, with an optional detail.
    pub fn required(&mut self, path: &FieldPath, detail: &str) {
        self.push(FieldErrorKind::Required, path, String::new(), detail);
    }
    /// `Invalid value: VALUE: DETAIL`.
    pub fn invalid(&mut self, path: &FieldPath, value: &Value, detail: &str) {
        self.push(FieldErrorKind::Invalid, path, print_value(value), detail);
    }
    /// As [`FieldErrors::invalid`] for a string value.
    pub fn invalid_str(&mut self, path: &FieldPath, value: &str, detail: &str) {
        self.push(FieldErrorKind::Invalid, path, quote(value), detail);
    }
    /// As [`FieldErrors::invalid`] for a value that is already printed: upstream prints a struct in
    /// the order, and sometimes with the names, of its own fields.
    pub fn invalid_printed(&mut self, path: &FieldPath, printed: String, detail: &str) {
        self.push(FieldErrorKind::Invalid, path, printed, detail);
    }
    /// `Invalid value: VALUE: DETAIL` for a value of the wrong type (a custom resource's schema).
    pub fn type_invalid(&mut self, path: &FieldPath, value: &Value, detail: &str) {
        self.push(FieldErrorKind::TypeInvalid, path, print_value(value), detail);
    }
    /// `Duplicate value: VALUE`.
    pub fn duplicate(&mut self, path: &FieldPath, value: &Value) {
        self.push(FieldErrorKind::Duplicate, path, print_value(value), "");
    }
    /// As [`FieldErrors::duplicate`] for a value that is already printed.
    pub fn duplicate_printed(&mut self, path: &FieldPath, printed: String) {
        self.push(FieldErrorKind::Duplicate, path, printed, "");
    }
    /// `Unsupported value: VALUE: supported values: "A", "B"`. `supported` is printed in the order
    /// given (upstream sorts it by name in most places).
    pub fn not_supported(&mut self, path: &FieldPath, value: &Value, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|item| quote(item)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        self.push(FieldErrorKind::NotSupported, path, print_value(value), &detail);
    }
    /// `Forbidden: DETAIL`.
    pub fn forbidden(&mut self, path: &FieldPath, detail: &str) {
        self.push(FieldErrorKind::Forbidden, path, String::new(), detail);
    }
    /// `Too long: may not be more than MAX bytes`.
    pub fn too_long(&mut self, path: &FieldPath, max_bytes: usize) {
        let detail = format!("may not be more than {max_bytes} byte{}", plural(max_bytes));
        self.push(FieldErrorKind::TooLong, path, String::new(), &detail);
    }
    /// `Too many: ACTUAL: must have at most MAX items`.
    pub fn too_many(&mut self, path: &FieldPath, actual: usize, max: usize) {
        let detail = format!("must have at most {max} item{}", plural(max));
        self.push(FieldErrorKind::TooMany, path, actual.to_string(), &detail);
    }
    /// `Too long: may not be more than MAX characters`.
    pub fn too_long_characters(&mut self, path: &FieldPath, max: usize) {
        let detail = format!("may not be more than {max} character{}", plural(max));
        self.push(FieldErrorKind::TooLong, path, String::new(), &detail);
    }
    /// `Too short: must be at least MIN characters`.
    pub fn too_short(&mut self, path: &FieldPath, min: usize) {
        let detail = format!("must be at least {min} character{}", plural(min));
        self.push(FieldErrorKind::TooShort, path, String::new(), &detail);
    }
    /// `Too few: ACTUAL: must have at least MIN items`.
    pub fn too_few(&mut self, path: &FieldPath, actual: usize, min: usize) {
        let detail = format!("must have at least {min} item{}", plural(min));
        self.push(FieldErrorKind::TooFew, path, actual.to_string(), &detail);
    }
    /// `Internal error: DETAIL`.
    pub fn internal(&mut self, path: &FieldPath, detail: &str) {
        self.push(FieldErrorKind::Internal, path, String::new(), detail);
    }
    /// Takes over the errors of another list.
    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
    }
    /// `Not found: VALUE`.
    pub fn not_found(&mut self, path: &FieldPath, value: &Value) {
        self.push(FieldErrorKind::NotFound, path, print_value(value), "");
    }
}
