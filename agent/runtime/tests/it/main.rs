//! The runtime on a real kernel: real namespaces, cgroups, overlay-free root file systems.
//!
//! Each test has a node of its own: a run folder, a root file system made of busybox, and a cgroup
//! subtree, all removed at the end, also when it fails.

mod adoption;
mod containers;
mod exec;
mod mounts;
mod node;
mod sandboxes;
mod streams;
