//! Changes to objects, driven by one schema table. PURE: no I/O, no clock, no randomness, no async;
//! works on `serde_json::Value` and [`Schema`], and knows nothing of HTTP or of the store.
//!
//! Entry points, in the order a write meets them:
//! - [`schema::builtin`] gives the schema of a built-in type by its OpenAPI name,
//!   [`schema::custom`] that of a custom resource from its structural OpenAPI schema.
//! - [`decode::json`] reads a body: types checked, unknown fields dropped and named, normal form
//!   (exactly the JSON a real API server would answer with). [`decode::value`] does the same to an
//!   object made by a patch. [`decode::defaults`] fills in the schema's defaults.
//! - [`json_patch`], [`merge_patch`], [`strategic`]: `parse` a body, `apply` it to an object; then
//!   [`decode::value`] again. [`PatchError`] says which status each failure is answered with.
//! - [`apply::apply`] is server-side apply; [`apply::track`] notes in `managedFields` what any other
//!   write changed, and is called for each, after defaulting and before admission.
//! - [`protobuf::encode`], [`protobuf::decode`], [`protobuf::envelope`] and
//!   [`protobuf::watch_frame`]: Kubernetes protobuf for built-in kinds.

pub mod apply;
pub mod decode;
pub mod error;
pub mod json_patch;
pub mod merge_patch;
pub mod protobuf;
pub mod schema;
pub mod strategic;

pub use error::{Conflict, PatchError};
pub use schema::Schema;

#[cfg(test)]
mod tests;
