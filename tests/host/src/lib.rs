//! Hosts for tests and for `cargo xtask dev`: nodes that are sets of namespaces on this machine.
//!
//! A host has its own network, mount and UTS namespace, its own cgroup subtree, and its own data
//! folder; hosts of one cluster are joined by veths to a switch namespace that has **no route to
//! the outside**. Nothing here touches the machine's own interfaces, cgroup mounts or sysctls.
//! Everything is found again by name, so that `down` also removes what a crashed run left behind.

pub mod cgroup;
pub mod cluster;
pub mod command;
pub mod image;
pub mod isolated;
pub mod kubectl;
pub mod leftovers;
pub mod namespaces;
pub mod scenario;
pub mod wait;

pub use cluster::{Cluster, ClusterSpec, Host};
pub use kubectl::Kubectl;
pub use wait::wait_for;
