//! What can go wrong, by operation.

use std::path::PathBuf;
use std::sync::Arc;

use crate::record::Record;

/// Opening, loading or writing the durable part failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("store {path}: another skeg server is using this folder")]
    Locked {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is truncated, corrupt, or not a store. Nothing was changed.
    #[error("store {path} is damaged: {reason}")]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was written by a newer skeg.
    #[error("store {path} has format {found}, this skeg reads up to {known}")]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Format number in the file.
        found: u64,
        /// Highest format number this build knows.
        known: u64,
    },
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// The operation in words.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The engine or the remote store refused.
    #[error("{operation}: {reason}")]
    Backend {
        /// The operation in words.
        operation: &'static str,
        /// The backend's own words.
        reason: String,
    },
    /// A dump cannot be read.
    #[error("store dump, record {record}: {reason}")]
    Dump {
        /// Number of the record (from 1) at which reading stopped; 0 is the header.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// A dump is only restored into an empty store.
    #[error("the store is not empty (revision {revision}); restore needs an empty one")]
    NotEmpty {
        /// The store's revision.
        revision: u64,
    },
}

/// A write was not carried out; nothing changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// Create: the key exists, in this version.
    #[error("{} exists at revision {}", .0.key, .0.revision)]
    Exists(Arc<Record>),
    /// Update, delete: the key has another revision, in this version.
    #[error("{} is at revision {}, not the expected one", .0.key, .0.revision)]
    Conflict(Arc<Record>),
    /// Update, delete: there is no such key.
    #[error("no such key")]
    NotFound,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The disk or the remote store failed.
    #[error("the store could not make the write durable")]
    Backend(#[source] Arc<StoreError>),
}

/// A read asked for a revision that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision is older than the history kept: `410 Gone`.
    #[error("revision {asked} has been compacted; the oldest available is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: u64,
        /// The oldest revision that can be listed or watched from.
        oldest: u64,
    },
    /// The revision has not been reached; see [`crate::Store::wait_for`].
    #[error("revision {asked} is ahead of the current one, {current}")]
    Future {
        /// What was asked for.
        asked: u64,
        /// The store's revision.
        current: u64,
    },
}

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watcher was so slow that history has moved past it; it has to list again: `410 Gone`.
    #[error("the watcher fell behind: at revision {reached}, the oldest kept is {oldest}")]
    TooSlow {
        /// Everything up to here was delivered.
        reached: u64,
        /// The oldest revision that can be watched from.
        oldest: u64,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}
