//! The runtime on a real kernel: real namespaces, cgroups, overlay-free root file systems.
//!
//! Each test has a node of its own: a run folder, a root file system made of busybox, and a cgroup
//! subtree, all removed at the end, also when it fails.

mod containers;
mod exec;
mod node;
mod sandboxes;
