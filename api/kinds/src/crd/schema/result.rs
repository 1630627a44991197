//! What a check found, before it becomes field errors.

use objects::field::FieldErrorKind;
use objects::field::{print_value, quote};
use objects::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

/// A violation. Two of the same text count once, as upstream reports them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Violation {
    /// Below the checked value; empty for itself. `None` for one that upstream reports without a
    /// place.
    pub(super) path: Option<String>,
    pub(super) class: Class,
    /// The text, which tells violations apart.
    pub(super) text: String,
}

/// What becomes of a violation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Class {
    Required,
    /// The value and those supported.
    Enum(Value, Vec<String>),
    TooLong(u64),
    /// The number there is and the maximum.
    TooMany(usize, u64),
    Type(Value),
    Invalid(Value),
}

/// What a check found, and how much was in order: of several schemas that do not fit, the one that
/// fits best is reported.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) violations: Vec<Violation>,
    pub(super) matches: usize,
}

impl Outcome {
    pub(super) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn add(&mut self, violation: Violation) {
        if self.violations.iter().all(|known| known.text != violation.text) {
            self.violations.push(violation);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        for violation in other.violations {
            self.add(violation);
        }
    }

    /// Reports everything below a place.
    pub(super) fn report(self, place: &FieldPath, errors: &mut FieldErrors) {
        for Violation { path, class, text } in self.violations {
            let at = match path.as_deref().map(|path| path.trim_start_matches('.')) {
                None | Some("") => place.clone(),
                Some(path) => place.child(path),
            };
            let mut put = |kind: FieldErrorKind, value: String, detail: String| {
                errors.0.push(FieldError { kind, path: at.clone(), value, detail });
            };
            match class {
                Class::Required => put(FieldErrorKind::Required, String::new(), String::new()),
                Class::Enum(value, supported) => {
                    let supported: Vec<String> = supported.iter().map(|item| quote(item)).collect();
                    let detail = format!("supported values: {}", supported.join(", "));
                    put(FieldErrorKind::NotSupported, print_value(&value), detail);
                }
                Class::TooLong(max) => {
                    errors.too_long(&at, usize::try_from(max).unwrap_or(usize::MAX));
                }
                Class::TooMany(actual, max) => {
                    errors.too_many(&at, actual, usize::try_from(max).unwrap_or(usize::MAX));
                }
                Class::Type(value) => put(FieldErrorKind::TypeInvalid, print_value(&value), text),
                Class::Invalid(value) => put(FieldErrorKind::Invalid, print_value(&value), text),
            }
        }
    }
}
