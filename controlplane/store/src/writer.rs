//! The one task that orders writes, waits for the disk, and then makes them visible.
//!
//! While one group is on its way to the disk the next one gathers in the queue, so the cost of a
//! flush is shared by everybody who was waiting.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, Change};
use crate::error::{StoreError, WriteError};
use crate::mvcc::decide;
use crate::record::{Event, Payload, Record, Write};
use crate::store::Shared;

/// Writes in one group. More would not make a flush noticeably cheaper per write, but would make
/// the first of them wait longer.
const GROUP_WRITES: usize = 512;

/// Bytes in one group: bounds what is in memory twice (here and in the engine's transaction).
const GROUP_BYTES: usize = 8 << 20;

/// Writes waiting for the writer: the next group while one is on the disk, and as many again.
pub(crate) const QUEUE_WRITES: usize = 2 * GROUP_WRITES;

pub(crate) type Reply = oneshot::Sender<Result<Arc<Record>, WriteError>>;

/// A write that waits for its turn.
pub(crate) struct Request {
    pub(crate) key: Arc<str>,
    pub(crate) write: Write,
    pub(crate) reply: Reply,
}

/// What else the writer does between groups.
pub(crate) enum Chore {
    Compact(oneshot::Sender<Result<(), StoreError>>),
    Reseal(oneshot::Sender<Result<usize, StoreError>>),
    SizeBytes(oneshot::Sender<u64>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) chores: mpsc::Receiver<Chore>,
}

impl Writer {
    /// Works until the store is closed or every handle to it is gone.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                chore = self.chores.recv() => match chore {
                    None => break,
                    Some(Chore::Close(done)) => {
                        self.drain().await;
                        self.finish();
                        // The asker may have gone; the store is closed all the same.
                        _ = done.send(());
                        return;
                    }
                    Some(chore) => self.do_chore(chore).await,
                },
                request = self.requests.recv() => match request {
                    None => break,
                    Some(first) => {
                        let group = self.gather(first);
                        self.commit(group).await;
                    }
                },
            }
        }
        self.drain().await;
        self.finish();
    }

    async fn do_chore(&mut self, chore: Chore) {
        // An asker that stopped waiting does not need the answer.
        match chore {
            Chore::Compact(done) => {
                let live_bytes = self.shared.view.read().live_bytes() as u64;
                let result = self.backend.compact(live_bytes).await;
                _ = done.send(result);
            }
            Chore::Reseal(done) => {
                _ = done.send(self.backend.reseal().await);
            }
            Chore::SizeBytes(done) => {
                _ = done.send(self.backend.size_bytes());
            }
            Chore::Close(done) => drop(done),
        }
    }

    /// Accepts no more writes and commits those that were accepted.
    async fn drain(&mut self) {
        self.requests.close();
        while let Some(first) = self.requests.recv().await {
            let group = self.gather(first);
            self.commit(group).await;
        }
    }

    /// Releases the backend (and its lock) before anybody hears that the store is closed.
    fn finish(self) {
        let Self { backend, shared, requests, chores } = self;
        drop((backend, requests, chores));
        let wakers = shared.hub.lock().close();
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn gather(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = payload(&first.write).json.len();
        let mut group = vec![first];
        while group.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            let Ok(next) = self.requests.try_recv() else { break };
            bytes += payload(&next.write).json.len();
            group.push(next);
        }
        group
    }

    /// Decides, flushes, shows, answers; in this order, so that nobody sees what is not durable.
    async fn commit(&mut self, group: Vec<Request>) {
        let (outcomes, changes, revision) = self.decide(group);
        if !changes.is_empty()
            && let Err(error) = self.backend.append(changes.clone(), revision).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "store write failed");
            let error = Arc::new(error);
            for (reply, _) in outcomes {
                // Nobody waits any more: the caller was cancelled.
                _ = reply.send(Err(WriteError::Backend(Arc::clone(&error))));
            }
            return;
        }
        self.shared.publish(changes);
        for (reply, outcome) in outcomes {
            // As above.
            _ = reply.send(outcome);
        }
    }

    /// Outcomes also of refused writes wait for the flush: they may rest on a write of this group.
    #[expect(clippy::type_complexity, reason = "the three parts go separate ways at once")]
    fn decide(
        &self,
        group: Vec<Request>,
    ) -> (Vec<(Reply, Result<Arc<Record>, WriteError>)>, Vec<Change>, u64) {
        let view = self.shared.view.read();
        let mut revision = view.revision();
        let mut pending: HashMap<Arc<str>, Option<Arc<Record>>> = HashMap::new();
        let mut outcomes = Vec::with_capacity(group.len());
        let mut changes = Vec::with_capacity(group.len());
        for Request { key, write, reply } in group {
            let current = match pending.get(&key) {
                Some(version) => version.as_ref(),
                None => view.get(&key),
            };
            let decided = decide(Arc::clone(&key), current, &write, revision + 1);
            outcomes.push((
                reply,
                decided.as_ref().map(|c| Arc::clone(c.record())).map_err(Clone::clone),
            ));
            if let Ok(change) = decided {
                revision += 1;
                pending.insert(key, change.current().cloned());
                changes.push(change);
            }
        }
        (outcomes, changes, revision)
    }
}

impl Shared {
    /// Makes durable changes visible to reads and watches.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let (wakers, revision) = {
            let mut view = self.view.write();
            let events: Vec<Event> = changes.into_iter().map(|change| view.apply(change)).collect();
            (self.hub.lock().dispatch(&events), view.revision())
        };
        self.revision.send_replace(revision);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

fn payload(write: &Write) -> &Payload {
    match write {
        Write::Create(payload) | Write::Update(payload, _) | Write::Delete(payload, _) => payload,
    }
}
