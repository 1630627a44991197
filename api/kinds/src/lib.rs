//! Every kind the server knows, one registry entry each: names, scope, verbs, schema, columns, and
//! a few pure functions of behaviour. A CustomResourceDefinition enters the same registry at run
//! time.
//!
//! PURE: no I/O, no clock, no randomness, no async. What a function needs of the world (time, a
//! fresh uid) it is given.

pub mod kind;

pub use kind::{Behaviour, Cell, Column, Kind, Names, Scope, Subresource, WriteContext};
