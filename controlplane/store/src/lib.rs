//! The revisioned key-value store: one trait for what is durable (`embedded`, `etcd`), and in front
//! of it one in-memory multi-version view that serves reads and watches.
//!
//! An acknowledged write is durable. Revisions are global, start at 1 and go up by one per write.
//! Values are opaque bytes, encoded once by the caller; the store puts the revision into them.

use std::sync::Arc;

use bytes::Bytes;

/// One version of one key, immutable and shared by every reader.
#[derive(Debug)]
pub struct Record {
    /// `/registry/`-less key: `GROUP/RESOURCE/NAMESPACE/NAME` (empty parts kept).
    pub key: Arc<str>,
    /// Revision of this version.
    pub revision: u64,
    /// Revision at which the key came into being.
    pub created: u64,
    /// The object's JSON, its `metadata.resourceVersion` filled in.
    pub json: Bytes,
}

/// A value on its way in: JSON with a place for the revision's decimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes without the revision.
    pub json: Bytes,
    /// Offset in `json` at which the digits are inserted.
    pub revision_at: usize,
}

/// A compare-and-set write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Fails if the key exists.
    Create(Payload),
    /// Fails unless the key's revision is this one.
    Update(Payload, u64),
    /// Fails unless the key's revision is this one. The payload is the object as the DELETED event
    /// shows it.
    Delete(Payload, u64),
}

/// What a watcher receives, in revision order, without gaps or repeats.
#[derive(Debug, Clone)]
pub enum Event {
    /// A key came into being.
    Created(Arc<Record>),
    /// A key changed: new version, version before.
    Updated(Arc<Record>, Arc<Record>),
    /// A key went away: last version with the deleting revision in it, version before.
    Deleted(Arc<Record>, Arc<Record>),
}
