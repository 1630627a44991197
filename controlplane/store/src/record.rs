//! The data that goes in and comes out.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// One version of one key, immutable and shared by every reader.
pub struct Record {
    /// `/registry/`-less key: `GROUP/RESOURCE/NAMESPACE/NAME` (empty parts kept).
    pub key: Arc<str>,
    /// Revision of this version.
    pub revision: u64,
    /// Revision at which the key came into being.
    pub created: u64,
    /// The object's JSON, its `metadata.resourceVersion` filled in.
    pub json: Bytes,
    /// Where in `json` the digits of `revision` are.
    pub revision_at: u32,
    /// When [`crate::Store::expire`] removes it, in seconds since 1970.
    pub expires_at_secs: Option<u64>,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Record {
    /// The version of `key` that `payload` becomes at `revision`.
    pub(crate) fn from_payload(
        key: Arc<str>,
        revision: u64,
        created: u64,
        payload: &Payload,
    ) -> Self {
        Self::from_parts(
            key,
            revision,
            created,
            payload.splice(revision),
            payload.revision_at,
            payload.expires_at_secs,
        )
    }

    /// A version whose JSON already holds its revision, as backends load it.
    pub(crate) fn from_parts(
        key: Arc<str>,
        revision: u64,
        created: u64,
        json: Bytes,
        revision_at: u32,
        expires_at_secs: Option<u64>,
    ) -> Self {
        let attachment = OnceLock::new();
        Self { key, revision, created, json, revision_at, expires_at_secs, attachment }
    }

    /// What the caller derived from these bytes (parsed labels, fields, a typed object), made on
    /// first use and shared by every reader of this version.
    ///
    /// # Panics
    /// If two types are used on one record: a process has one attachment type, which may itself
    /// hold several lazily made parts.
    pub fn attachment<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> &T {
        self.attachment
            .get_or_init(|| Box::new(make(self)))
            .downcast_ref()
            .expect("one type of attachment per process")
    }

    /// This version as a payload again: the bytes without the revision's digits.
    pub fn payload(&self) -> Payload {
        let at = self.revision_at as usize;
        let mut json = Vec::with_capacity(self.json.len());
        json.extend_from_slice(&self.json[..at]);
        json.extend_from_slice(&self.json[at + digits(self.revision)..]);
        Payload {
            json: Bytes::from(json),
            revision_at: self.revision_at,
            expires_at_secs: self.expires_at_secs,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("created", &self.created)
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Record {
    /// Equal in everything that is stored; attachments are derived and do not count.
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.revision == other.revision
            && self.created == other.created
            && self.json == other.json
            && self.revision_at == other.revision_at
            && self.expires_at_secs == other.expires_at_secs
    }
}

impl Eq for Record {}

/// A value on its way in: JSON with a place for the revision's decimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes without the revision.
    pub json: Bytes,
    /// Offset in `json` at which the digits are inserted.
    pub revision_at: u32,
    /// When [`crate::Store::expire`] may remove the key, in seconds since 1970. For Events.
    pub expires_at_secs: Option<u64>,
}

impl Payload {
    /// A value that stays until it is deleted.
    ///
    /// # Panics
    /// If `revision_at` is outside `json`, or `json` is 4 GiB or more.
    pub fn new(json: impl Into<Bytes>, revision_at: usize) -> Self {
        let json = json.into();
        assert!(revision_at <= json.len(), "the revision goes inside the value");
        let revision_at = u32::try_from(revision_at).expect("values are far below 4 GiB");
        Self { json, revision_at, expires_at_secs: None }
    }

    /// The same value with a time (seconds since 1970) after which it is swept away.
    #[must_use]
    pub fn expiring(mut self, at_secs: u64) -> Self {
        self.expires_at_secs = Some(at_secs);
        self
    }

    /// The bytes with the digits of `revision` in place, in a buffer of exactly their size.
    fn splice(&self, revision: u64) -> Bytes {
        let at = self.revision_at as usize;
        let mut json = Vec::with_capacity(self.json.len() + digits(revision));
        json.extend_from_slice(&self.json[..at]);
        json.extend_from_slice(revision.to_string().as_bytes());
        json.extend_from_slice(&self.json[at..]);
        Bytes::from(json)
    }
}

/// Number of decimal digits of a revision.
pub(crate) fn digits(revision: u64) -> usize {
    revision.checked_ilog10().map_or(1, |log| log as usize + 1)
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key came into being.
    Created(Arc<Record>),
    /// A key changed: new version, version before.
    Updated(Arc<Record>, Arc<Record>),
    /// A key went away: last version with the deleting revision in it, version before.
    Deleted(Arc<Record>, Arc<Record>),
}

impl Event {
    /// The version that this event brought; for a deletion, the last one.
    pub fn record(&self) -> &Arc<Record> {
        match self {
            Self::Created(new) | Self::Updated(new, _) | Self::Deleted(new, _) => new,
        }
    }

    /// The version before, if there was one.
    pub fn previous(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Created(_) => None,
            Self::Updated(_, old) | Self::Deleted(_, old) => Some(old),
        }
    }

    /// The revision of the write behind this event.
    pub fn revision(&self) -> u64 {
        self.record().revision
    }

    /// The key that was written.
    pub fn key(&self) -> &str {
        &self.record().key
    }
}
