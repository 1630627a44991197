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
//! that orders writes and waits for the disk; with a backend that several servers share, `shared.rs`
//! takes its place. `watch.rs` hands events to watchers.

mod backend;
mod dump;
mod embedded;
mod encryption;
mod error;
mod etcd;
mod hub;
mod maintenance;
mod memory;
mod mvcc;
mod record;
mod scope;
mod shared;
mod store;
mod watch;
mod writer;

pub use backend::{Attempt, Backend, Change, Changes, Followed, Loaded, Remote, SharedBackend};
pub use dump::{Dumped, restore, restore_shared};
pub use embedded::EmbeddedBackend;
pub use encryption::{Encryption, EncryptionError};
pub use error::{ReadError, StoreError, WatchError, WriteError};
pub use etcd::{EtcdBackend, EtcdConfig};
pub use memory::MemoryBackend;
pub use record::{Event, Payload, Record, Write};
pub use store::{List, Options, Page, Stats, Store};
pub use watch::Watch;

#[cfg(test)]
pub(crate) mod tests;
