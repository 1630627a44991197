//! Runs a node's pods.
//!
//! `observe` holds what is known of a pod, `plan` (PURE) says what to do next, `act` does it,
//! `status` (PURE) says what the API is told. One worker per pod joins the four; `pods` hands pods
//! to workers. What must survive the agent is in the runtime, in the kernel and in one small record
//! per pod; containers go on running while no agent does.
//!
//! ```text
//! API ──watch──> pods ──mailbox──> worker ──> plan ──steps──> act ──> runtime, images, network
//!                                   │  ^                       volumes, hooks, probes
//!                                   v  └───── runtime events, ended steps, verdicts of probes
//!                                 status ──patch──> API
//! ```

mod act;
mod admission;
mod config;
mod context;
mod eviction;
mod machine;
mod node;
mod observe;
mod plan;
mod pod;
mod pods;
mod probes;
mod record;
mod references;
mod restart;
mod run;
mod server;
mod spec;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod volumes;
mod watched;
mod worker;

pub use config::{Config, Deps, HostPort, HostPorts, NoHostPorts, Reserved, ServerConfig};
pub use eviction::{EvictionThresholds, ThresholdError};
pub use run::{Error, run};
