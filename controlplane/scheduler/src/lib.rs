//! The scheduler: gives every pod a node.
//!
//! `observe` keeps a [`snapshot::Snapshot`] and a [`queue::Queue`]; [`plan::schedule`] decides,
//! purely; `act` writes bindings, verdicts and evictions.

mod act;
pub mod amounts;
pub mod filters;
mod observe;
pub mod plan;
pub mod pod;
pub mod preempt;
pub mod queue;
mod run;
pub mod scores;
pub mod snapshot;

pub use observe::Views;
pub use run::{Config, run};
