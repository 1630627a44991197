//! Runs containers: sandboxes of pinned namespaces, one shim process per container, logs, exec.
//!
//! The agent never calls libcontainer itself (it forks): that happens in a single-threaded process
//! forked from a shim, which is forked from the zygote. Truth is on disk and in the kernel: a new
//! agent scans the run folder.
//!
//! ```text
//! contract   data, errors and the trait: what the kubelet sees
//! linux      the agent's side: LinuxRuntime
//! zygote     from which shims are forked; maybe_run_shim is its entry
//! shim       one process per container: streams, log, exec, exit
//! spec       container spec -> OCI specification (pure)
//! seccomp    default profile (pure), compiling profiles
//! sandbox    namespaces; cgroup: control groups v1 and v2; logs: reading logs
//! ```
#![allow(
    unsafe_code,
    reason = "fork, signal dispositions and raw descriptors have no safe interface"
)]

mod cgroup;
mod contract;
mod files;
mod linux;
pub mod logs;
mod record;
mod sandbox;
mod seccomp;
mod shim;
mod spec;
mod wire;
mod zygote;

#[cfg(feature = "test-support")]
pub mod fake;

pub use cgroup::Layout;
pub use contract::*;
pub use linux::{Config, LinuxRuntime};
pub use seccomp::default_seccomp_profile;
pub use zygote::maybe_run_shim;
