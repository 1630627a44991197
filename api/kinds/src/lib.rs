//! Every kind the server knows, one registry entry each: names, scope, verbs, schema, columns, and
//! a few pure functions of behaviour. A CustomResourceDefinition enters the same registry at run
//! time.
//!
//! PURE: no I/O, no clock, no randomness, no async. What a function needs of the world (time, a
//! fresh uid) it is given.

mod admissionregistration;
mod apiservice;
mod apps;
mod autoscaling;
mod batch;
mod builtin;
mod cells;
mod check;
mod claim;
mod columns;
mod core;
pub mod crd;
mod csr;
mod disruption;
mod edit;
mod endpointslice;
mod flowcontrol;
pub mod kind;
mod lease;
mod lifecycle;
mod networking;
mod plain;
mod pod;
mod priorityclass;
mod rbac;
mod read;
pub mod registry;
mod resource;
mod runtimeclass;
pub mod service;
mod signer;
mod storage;

pub use builtin::builtin;
pub use kind::{
    Behaviour, Cell, Column, Conversion, Kind, Names, ScalePaths, ScaleSelector, Scope, Storage,
    Subresource, WriteContext,
};
pub use plain::Plain;
pub use registry::{Group, Registry, Version};

#[cfg(test)]
mod tests;
