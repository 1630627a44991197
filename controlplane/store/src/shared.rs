//! The writer of a store that other servers write to as well: attempts writes side by side, and a
//! feed brings every change, ours and theirs, into the view in the backend's order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::backend::{Attempt, Change, Followed, Remote, SharedBackend};
use crate::error::WriteError;
use crate::record::{Record, Write};
use crate::store::Shared;
use crate::writer::{Chore, Request};

/// Writes under way at once: enough to fill the backend's own groups, few enough to keep its
/// latency.
const WRITES_AT_ONCE: usize = 256;

/// How long a closing store waits for writes under way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after the feed broke, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) struct Committer {
    pub(crate) backend: Arc<dyn SharedBackend>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) chores: mpsc::Receiver<Chore>,
}

impl Committer {
    /// Works until the store is closed or every handle to it is gone.
    pub(crate) async fn run(mut self) {
        let feed = tokio::spawn(feed(Arc::clone(&self.backend), Arc::clone(&self.shared)));
        let mut writes = JoinSet::new();
        let mut closing: Option<oneshot::Sender<()>> = None;
        loop {
            tokio::select! {
                chore = self.chores.recv(), if closing.is_none() => match chore {
                    None => break,
                    Some(Chore::Close(done)) => {
                        self.requests.close();
                        closing = Some(done);
                    }
                    Some(chore) => self.do_chore(chore).await,
                },
                request = self.requests.recv(), if writes.len() < WRITES_AT_ONCE => match request {
                    None => break,
                    Some(request) => {
                        let (backend, shared) = (Arc::clone(&self.backend), Arc::clone(&self.shared));
                        writes.spawn(commit(backend, shared, request));
                    }
                },
                Some(_) = writes.join_next() => {}
            }
        }
        let finish = async { while writes.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, finish).await.is_err() {
            tracing::warn!("the shared store does not answer; giving up on writes under way");
        }
        feed.abort();
        let wakers = self.shared.hub.lock().close();
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(done) = closing {
            // The asker may have gone; the store is closed all the same.
            _ = done.send(());
        }
    }

    async fn do_chore(&self, chore: Chore) {
        // An asker that stopped waiting does not need the answer.
        match chore {
            Chore::Compact(done) => {
                let oldest = self.shared.view.read().oldest();
                _ = done.send(self.backend.compact(oldest).await);
            }
            Chore::Reseal(done) => _ = done.send(self.backend.reseal().await),
            Chore::SizeBytes(done) => _ = done.send(self.backend.size_bytes().await.unwrap_or(0)),
            Chore::Close(done) => drop(done),
        }
    }
}

/// Attempts a write; answers when this server's view shows it, or shows why it was refused.
async fn commit(backend: Arc<dyn SharedBackend>, shared: Arc<Shared>, request: Request) {
    let Request { key, write, reply } = request;
    let outcome = match backend.attempt(&key, &write).await {
        Err(error) => Err(WriteError::Backend(Arc::new(error))),
        Ok(Attempt::Done { revision, created }) => {
            reach(&shared, revision).await;
            let (Write::Create(payload) | Write::Update(payload, _) | Write::Delete(payload, _)) =
                &write;
            Ok(Arc::new(Record::from_payload(key, revision, created, payload)))
        }
        Ok(Attempt::Refused(None)) => Err(WriteError::NotFound),
        Ok(Attempt::Refused(Some(current))) => {
            reach(&shared, current.revision).await;
            Err(match write {
                Write::Create(_) => WriteError::Exists(current),
                Write::Update(..) | Write::Delete(..) => WriteError::Conflict(current),
            })
        }
    };
    // The caller may have been cancelled.
    _ = reply.send(outcome);
}

async fn reach(shared: &Shared, revision: u64) {
    let mut reached = shared.revision.subscribe();
    // The sender is in `shared`.
    _ = reached.wait_for(|reached| *reached >= revision).await;
}

/// Follows the backend for as long as the store is open.
async fn feed(backend: Arc<dyn SharedBackend>, shared: Arc<Shared>) {
    let mut pause = PAUSE.0;
    loop {
        let before = shared.view.read().revision();
        if let Err(error) = follow(&*backend, &shared).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "lost the shared store's changes; connecting again"
            );
        }
        let progress = shared.view.read().revision() > before;
        pause = if progress { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::time::sleep(pause).await;
    }
}

/// Takes in changes until the connection breaks.
async fn follow(
    backend: &dyn SharedBackend,
    shared: &Shared,
) -> Result<(), crate::error::StoreError> {
    let after = shared.view.read().revision();
    let mut changes = backend.follow(after).await?;
    while let Some(followed) = changes.next().await {
        match followed? {
            Followed::Changes(group) => shared.publish(complete(shared, group)),
            Followed::Forgotten => {
                // We were away for so long that changes are lost: start over, as must our watchers.
                let loaded = backend.load().await?;
                shared.replace(loaded.records, loaded.revision);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Gives deletions the last version of their key.
fn complete(shared: &Shared, group: Vec<Remote>) -> Vec<Change> {
    let view = shared.view.read();
    let mut pending: HashMap<Arc<str>, Option<Arc<Record>>> = HashMap::new();
    let mut changes = Vec::with_capacity(group.len());
    for change in group {
        match change {
            Remote::Put(record) => {
                pending.insert(Arc::clone(&record.key), Some(Arc::clone(&record)));
                changes.push(Change::Put(record));
            }
            Remote::Deleted { key, revision } => {
                let old = match pending.get(&key) {
                    Some(version) => version.as_ref(),
                    None => view.get(&key),
                };
                // A key that came and went in another program's single transaction.
                let Some(old) = old else { continue };
                let last =
                    Record::from_payload(Arc::clone(&key), revision, old.created, &old.payload());
                pending.insert(key, None);
                changes.push(Change::Delete(Arc::new(last)));
            }
        }
    }
    changes
}

impl Shared {
    /// Starts over with another state; every watch has to list again.
    pub(crate) fn replace(&self, records: Vec<Record>, revision: u64) {
        let wakers = {
            let mut view = self.view.write();
            view.replace(records, revision);
            self.hub.lock().interrupt()
        };
        self.revision.send_replace(revision);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}
