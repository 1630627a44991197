//! Kubernetes objects as data: keys, metadata, selectors, quantities, names, errors.
//!
//! PURE: no I/O, no clock, no randomness, no async. An object in flight through the API server
//! is a [`serde_json::Value`] (a map); [`object::ObjectExt`] gives it short paths. Typed views of
//! the built-in kinds are `k8s_openapi`'s, re-exported here as [`k8s`].

pub mod conditions;
pub mod error;
pub mod facts;
pub mod field;
pub mod key;
pub mod meta;
pub mod names;
pub mod object;
pub mod quantity;
pub mod quota;
pub mod selector;
pub mod time;

pub use error::ApiError;
pub use field::{FieldError, FieldErrors, FieldPath};
pub use k8s_openapi as k8s;
pub use key::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, ObjectKey, Revision};
pub use object::ObjectExt;
