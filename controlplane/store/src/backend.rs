//! What a durable store has to do.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::error::StoreError;
use crate::record::{Record, Write};

/// Everything a backend holds.
#[derive(Debug)]
pub struct Loaded {
    /// Current versions, in any order.
    pub records: Vec<Record>,
    /// The highest revision ever given out; 0 for an empty store.
    pub revision: u64,
}

/// One decided write on its way to the disk.
#[derive(Debug, Clone)]
pub enum Change {
    /// The key gets this version.
    Put(Arc<Record>),
    /// The key is gone; this is its last version, with the deleting revision.
    Delete(Arc<Record>),
}

impl Change {
    /// The version behind the change.
    pub fn record(&self) -> &Arc<Record> {
        match self {
            Self::Put(record) | Self::Delete(record) => record,
        }
    }

    /// The key's version after the change.
    pub(crate) fn current(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Put(record) => Some(record),
            Self::Delete(_) => None,
        }
    }
}

/// The durable part of a store with one server. The store's one writer task calls it, one call at a time; no call blocks the
/// runtime.
pub trait Backend: Send + 'static {
    /// For messages and dumps: `memory`, `embedded /var/lib/skeg/store`.
    fn name(&self) -> String;

    /// Reads everything, once, after opening.
    fn load(&mut self) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// Makes a group of changes durable, all or none, and `revision` the highest one given out.
    /// When it returns an error none of them is durable, now or after a restart.
    fn append(
        &mut self,
        group: Vec<Change>,
        revision: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives space that deleted and replaced values took back to the file system, as far as that
    /// is worth it; `live_bytes` is what the current values need.
    fn compact(&mut self, live_bytes: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Writes anew what is not encrypted as the configuration now says; how many values that were.
    fn reseal(&mut self) -> BoxFuture<'_, Result<usize, StoreError>> {
        std::future::ready(Ok(0)).boxed()
    }

    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}

/// What became of an attempted write.
#[derive(Debug)]
pub enum Attempt {
    /// It is durable, with this revision; the key came into being at `created`.
    Done {
        /// Revision of the write.
        revision: u64,
        /// Revision at which the key came into being.
        created: u64,
    },
    /// Its condition does not hold; the key's version, if there is one.
    Refused(Option<Arc<Record>>),
}

/// A change that some server made.
#[derive(Debug, Clone)]
pub enum Remote {
    /// The key has this version.
    Put(Arc<Record>),
    /// The key went away.
    Deleted {
        /// The key.
        key: Arc<str>,
        /// Revision of the deletion.
        revision: u64,
    },
}

/// What is heard while following a backend.
#[derive(Debug, Clone)]
pub enum Followed {
    /// The next changes, in order, without gaps.
    Changes(Vec<Remote>),
    /// The backend has forgotten changes that come next; nothing follows.
    Forgotten,
}

/// Changes as they are made, until the connection is lost.
pub type Changes = BoxStream<'static, Result<Followed, StoreError>>;

/// A durable part that several servers write to: it orders the writes, and every server follows
/// them all. Deletion events show the last version stored, not the payload of the deletion.
pub trait SharedBackend: Send + Sync + 'static {
    /// For messages and dumps.
    fn name(&self) -> String;

    /// Reads everything, as of one revision.
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// Attempts one compare-and-set write. After an error it may or may not have happened.
    fn attempt<'a>(
        &'a self,
        key: &'a str,
        write: &'a Write,
    ) -> BoxFuture<'a, Result<Attempt, StoreError>>;

    /// Every change after a revision.
    fn follow(&self, after: u64) -> BoxFuture<'_, Result<Changes, StoreError>>;

    /// The revision of the last write of any server, certain to be no older than this call.
    fn last_write(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Lets the backend forget changes up to a revision.
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Writes anew what is not encrypted as the configuration now says; how many values that were.
    /// Each is an update that changes nothing.
    fn reseal(&self) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Bytes on disk.
    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Removes everything. For a restore that failed half-way.
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
