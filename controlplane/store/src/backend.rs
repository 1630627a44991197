//! What a durable store has to do.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::error::StoreError;
use crate::record::Record;

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

/// The durable part. The store's one writer task calls it, one call at a time; no call blocks the
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

    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}
