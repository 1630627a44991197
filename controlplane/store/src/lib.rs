//! The revisioned key-value store: one trait for what is durable (`embedded`, `memory`, `etcd`), and
//! in front of it one in-memory multi-version view that serves reads and watches.
//!
//! * An acknowledged write is durable, and visible to every read that starts after it.
//! * Revisions are global, start at 1 and go up by one per write.
//! * Values are opaque bytes, encoded once by the caller; the store puts the revision into them.
//! * A *scope* (`""`, `"/pods/"`, `"/pods/default/"`) is empty or ends in `/` and names everything
//!   below it; anything else names exactly one key.
//!
//! `mvcc.rs` is pure: what is there, what was there, what a write does. `writer.rs` is the one task
//! that orders writes and waits for the disk. `watch.rs` hands events to watchers.

mod backend;
mod dump;
mod embedded;
mod error;
mod hub;
mod maintenance;
mod memory;
mod mvcc;
mod record;
mod scope;
mod store;
mod watch;
mod writer;

pub use backend::{Backend, Change, Loaded};
pub use dump::{Dumped, restore};
pub use embedded::EmbeddedBackend;
pub use error::{ReadError, StoreError, WatchError, WriteError};
pub use memory::MemoryBackend;
pub use record::{Event, Payload, Record, Write};
pub use store::{List, Options, Page, Stats, Store};
pub use watch::Watch;

#[cfg(test)]
pub(crate) mod tests;
