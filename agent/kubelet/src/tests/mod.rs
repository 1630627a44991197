//! Whole kubelets against a scripted API, with runtime, images and network in memory.
//!
//! The real API server cannot be here: `agent` and `controlplane` crates do not see each other.
//! Tests with it are in `tests/it`.

mod api;
mod cases;
mod harness;
