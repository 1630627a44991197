//! The handle that everybody uses.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::{Backend, Loaded, SharedBackend};
use crate::error::{ReadError, StoreError, WriteError};
use crate::hub::Hub;
use crate::memory::MemoryBackend;
use crate::mvcc::{HistoryLimits, View};
pub use crate::mvcc::{List, Page};
use crate::record::{Record, Write};
use crate::scope::Scope;
use crate::shared::Committer;
use crate::watch::Watch;
use crate::writer::{Chore, QUEUE_WRITES, Request, Writer};

/// Deletions of expired keys under way at once: a part of a group, so that users' writes fit in.
const EXPIRE_AT_ONCE: usize = 128;

/// How much of the past is kept, whichever limit is reached first; [`Store::compact`] limits its
/// age.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Events. A watcher may be disconnected for so many writes.
    pub history_events: usize,
    /// Bytes of replaced and deleted versions, with a fixed part per event.
    pub history_bytes: usize,
}

impl Default for Options {
    /// 100,000 events (5 minutes at 330 writes/s) in at most 32 MiB (a third of the idle budget).
    fn default() -> Self {
        Self { history_events: 100_000, history_bytes: 32 << 20 }
    }
}

/// Sizes, for metrics and `skeg debug store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The current revision.
    pub revision: u64,
    /// The oldest revision that can be listed at or watched from.
    pub oldest: u64,
    /// Keys.
    pub records: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// Events kept for watches.
    pub history_events: usize,
    /// Bytes that those events keep.
    pub history_bytes: usize,
    /// Open watches.
    pub watches: usize,
}

/// What readers, watches and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    // Locks are taken in this order: view, hub, slot.
    pub(crate) view: RwLock<View>,
    pub(crate) hub: Mutex<Hub>,
    pub(crate) revision: watch::Sender<u64>,
}

/// The store. Clones share it; it closes when the last one is dropped, or by [`Store::close`].
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// Where other servers write too.
    others: Option<Arc<dyn SharedBackend>>,
    requests: mpsc::Sender<Request>,
    chores: mpsc::Sender<Chore>,
    name: Arc<str>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Store {
    /// Loads what the backend holds, and starts the writer on the current runtime.
    ///
    /// # Errors
    /// What [`Backend::load`] says; nothing was changed then.
    pub async fn open(mut backend: Box<dyn Backend>, options: Options) -> Result<Self, StoreError> {
        let loaded = backend.load().await?;
        let (store, requests, chores) = Self::over(&backend.name(), loaded, options);
        let shared = Arc::clone(&store.shared);
        tokio::spawn(Writer { backend, shared, requests, chores }.run());
        Ok(store)
    }

    /// The same over a backend that other servers use at the same time.
    ///
    /// # Errors
    /// What [`SharedBackend::load`] says.
    pub async fn open_shared(
        backend: Arc<dyn SharedBackend>,
        options: Options,
    ) -> Result<Self, StoreError> {
        let loaded = backend.load().await?;
        let (mut store, requests, chores) = Self::over(&backend.name(), loaded, options);
        store.others = Some(Arc::clone(&backend));
        let shared = Arc::clone(&store.shared);
        tokio::spawn(Committer { backend, shared, requests, chores }.run());
        Ok(store)
    }

    fn over(
        name: &str,
        loaded: Loaded,
        options: Options,
    ) -> (Self, mpsc::Receiver<Request>, mpsc::Receiver<Chore>) {
        let limits = HistoryLimits { events: options.history_events, bytes: options.history_bytes };
        let shared = Arc::new(Shared {
            view: RwLock::new(View::new(loaded.records, loaded.revision, limits)),
            hub: Mutex::default(),
            revision: watch::Sender::new(loaded.revision),
        });
        let (requests, requests_rx) = mpsc::channel(QUEUE_WRITES);
        // Chores come from one loop and a person's commands.
        let (chores, chores_rx) = mpsc::channel(4);
        let store = Self { shared, others: None, requests, chores, name: name.into() };
        (store, requests_rx, chores_rx)
    }

    /// An empty store that keeps nothing on disk, for tests. Needs a runtime; uses no threads, so
    /// that tokio's paused clock works.
    pub async fn in_memory() -> Self {
        Self::open(Box::new(MemoryBackend), Options::default())
            .await
            .expect("the memory backend does not fail")
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The backend's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current version of a key.
    pub fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.shared.view.read().get(key).cloned()
    }

    /// A consistent, ordered part of the store, now or at a revision of the recent past. For the
    /// next page pass the last key as `start_after` and the first page's `revision`.
    ///
    /// # Errors
    /// [`ReadError`], only if a revision was asked for.
    pub fn list(&self, query: &List<'_>) -> Result<Page, ReadError> {
        self.shared.view.read().list(query)
    }

    /// Number of keys in a scope.
    pub fn count(&self, scope: &str) -> usize {
        self.shared.view.read().count(Scope(scope))
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.shared.view.read().revision()
    }

    /// Waits until the view has reached a revision. Callers bound it by a timeout.
    ///
    /// # Errors
    /// [`WriteError::Closed`] if the store closes before.
    pub async fn wait_for(&self, revision: u64) -> Result<(), WriteError> {
        let mut reached = self.shared.revision.subscribe();
        tokio::select! {
            result = reached.wait_for(|reached| *reached >= revision) => {
                result.map(drop).map_err(|_| WriteError::Closed)
            }
            () = self.requests.closed() => Err(WriteError::Closed),
        }
    }

    /// A revision that holds everything acknowledged by any server so far, reached by this view: the
    /// barrier for a consistent read. At once unless other servers write too.
    ///
    /// # Errors
    /// [`WriteError::Closed`], [`WriteError::Backend`].
    pub async fn consistent(&self) -> Result<u64, WriteError> {
        if let Some(backend) = &self.others {
            let last = backend.last_write().await;
            self.wait_for(last.map_err(|error| WriteError::Backend(Arc::new(error)))?).await?;
        }
        Ok(self.revision())
    }

    /// Carries out one compare-and-set write. When it returns `Ok` the write is durable and
    /// visible. Returns the new version; for a deletion, the last version with the deleting
    /// revision. Dropping the future does not take the write back.
    ///
    /// # Errors
    /// [`WriteError`]; nothing changed then.
    pub async fn commit(
        &self,
        key: impl Into<Arc<str>>,
        write: Write,
    ) -> Result<Arc<Record>, WriteError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request { key: key.into(), write, reply };
        self.requests.send(request).await.map_err(|_| WriteError::Closed)?;
        outcome.await.map_err(|_| WriteError::Closed)?
    }

    /// Watches a scope for everything after a revision.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`].
    pub fn watch(&self, scope: &str, after: u64) -> Result<Watch, ReadError> {
        Watch::open(Arc::clone(&self.shared), scope, after)
    }

    /// Forgets the past up to `revision`: lists at it and watches from it still work. Call it every
    /// few minutes with the revision of a few minutes ago.
    pub fn compact(&self, revision: u64) {
        self.shared.view.write().compact(revision);
    }

    /// Lets the backend give space back.
    ///
    /// # Errors
    /// What [`Backend::compact`] says.
    pub async fn compact_disk(&self) -> Result<(), WriteError> {
        let (done, answer) = oneshot::channel();
        self.chores.send(Chore::Compact(done)).await.map_err(|_| WriteError::Closed)?;
        let result = answer.await.map_err(|_| WriteError::Closed)?;
        result.map_err(|error| WriteError::Backend(Arc::new(error)))
    }

    /// Writes values anew that are not encrypted as the configuration now says, and returns how
    /// many those were. Versions and revisions of an embedded store stay as they are.
    ///
    /// # Errors
    /// [`WriteError::Closed`], [`WriteError::Backend`].
    pub async fn reseal(&self) -> Result<usize, WriteError> {
        let (done, answer) = oneshot::channel();
        self.chores.send(Chore::Reseal(done)).await.map_err(|_| WriteError::Closed)?;
        let result = answer.await.map_err(|_| WriteError::Closed)?;
        result.map_err(|error| WriteError::Backend(Arc::new(error)))
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// [`WriteError::Closed`].
    pub async fn size_bytes(&self) -> Result<u64, WriteError> {
        let (done, answer) = oneshot::channel();
        self.chores.send(Chore::SizeBytes(done)).await.map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)
    }

    /// Deletes every key whose time is up at `now_secs` (seconds since 1970); returns how many.
    /// Keys that somebody wrote meanwhile are left.
    ///
    /// # Errors
    /// [`WriteError::Closed`], [`WriteError::Backend`].
    pub async fn expire(&self, now_secs: u64) -> Result<usize, WriteError> {
        let mut deleted = 0;
        loop {
            let expired: Vec<Arc<Record>> = {
                let view = self.shared.view.read();
                view.expired(now_secs).take(EXPIRE_AT_ONCE).cloned().collect()
            };
            let deletions = expired.iter().map(|record| {
                let write = Write::Delete(record.payload(), record.revision);
                self.commit(Arc::clone(&record.key), write)
            });
            let mut progress = false;
            for outcome in join_all(deletions).await {
                match outcome {
                    Ok(_) => {
                        deleted += 1;
                        progress = true;
                    }
                    Err(error @ (WriteError::Closed | WriteError::Backend(_))) => {
                        return Err(error);
                    }
                    Err(WriteError::Exists(_) | WriteError::Conflict(_) | WriteError::NotFound) => {
                    }
                }
            }
            if !progress {
                return Ok(deleted);
            }
        }
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        let view = self.shared.view.read();
        let (history_events, history_bytes) = view.history_size();
        Stats {
            revision: view.revision(),
            oldest: view.oldest(),
            records: view.len(),
            bytes: view.live_bytes(),
            history_events,
            history_bytes,
            watches: self.shared.hub.lock().len(),
        }
    }

    /// The state as text, keys in order: `skeg debug store`.
    pub fn describe(&self, scope: &str) -> String {
        let stats = self.stats();
        let mut text = format!(
            "store {}: revision {}, oldest {}, {} records of {} bytes, {} events of {} bytes, {} watches\n",
            self.name,
            stats.revision,
            stats.oldest,
            stats.records,
            stats.bytes,
            stats.history_events,
            stats.history_bytes,
            stats.watches,
        );
        let page = self.list(&List { scope, ..List::default() }).expect("now can be listed");
        for record in page.records {
            let Record { key, revision, created, json, expires_at_secs, .. } = &*record;
            let expiry = expires_at_secs.map(|at| format!(" expires={at}")).unwrap_or_default();
            writeln!(
                text,
                "{key} revision={revision} created={created} bytes={}{expiry}",
                json.len()
            )
            .expect("writing to a string");
        }
        text
    }

    /// Commits what was accepted, ends every watch, and releases the backend. Later writes fail
    /// with [`WriteError::Closed`]; reads go on.
    pub async fn close(&self) {
        let (done, answer) = oneshot::channel();
        if self.chores.send(Chore::Close(done)).await.is_ok() {
            // An error means that the writer has ended already.
            _ = answer.await;
        }
    }
}
