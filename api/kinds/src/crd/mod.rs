//! CustomResourceDefinitions: the kind itself, and the schema and columns of what it defines.

mod behaviour;
pub mod entries;
pub mod jsonpath;
pub mod names;
pub mod schema;
mod validate;

pub(crate) use behaviour::CustomResourceDefinition;
pub use behaviour::FINALIZER;
pub use entries::{Columns, Served, served};
pub use jsonpath::JsonPath;
