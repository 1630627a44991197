//! Recorded requests and the answers a Kubernetes API server of version 1.36.2 gave, replayed
//! against ours with its controllers, in this process.
//!
//! `cases/*.jsonl` are facts: see `cases/README.md` for their form. What is different on purpose is
//! in `differences.tsv`, with the reason.

pub mod case;
pub mod compare;
pub mod normal;
pub mod replay;
pub mod server;
