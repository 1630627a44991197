//! Tests of the whole control plane in one process; they are in `tests/cluster`.
//!
//! A package of its own, so that the pure tests of controllers and scheduler build without the
//! API server.
