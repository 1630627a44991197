//! Label and field selectors.
//!
//! Source of behaviour and texts: kubernetes apimachinery `labels`, `fields`, v1.36.

mod field;
mod label;
mod parse;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{Labels, Operator, Requirement, Selector, validate_label_selector};

/// Why a selector is malformed; the text is the API's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[cfg(test)]
mod tests;
