//! The multi-version view, pure: every key's current version, and the recent past as a list of events.
//!
//! The past costs only what the present does not share: an event holds the version it replaced, and
//! a list at an earlier revision is the present with the events since then taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use crate::backend::Change;
use crate::error::{ReadError, WriteError};
use crate::record::{Event, Payload, Record, Write};
use crate::scope::Scope;

/// How much of the past is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// Roughly what an event costs besides the bytes of the version it replaced: two records' fixed
/// parts, a key, and the slot in the list.
const EVENT_OVERHEAD_BYTES: usize = 320;

/// A consistent part of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub records: Vec<Arc<Record>>,
    /// The revision that this is a snapshot of.
    pub revision: u64,
    /// More records of the scope come after the last one here.
    pub more: bool,
    /// How many come after the last one here, if [`List::count`] asked for it.
    pub remaining: Option<u64>,
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct List<'a> {
    /// A scope (see the crate's documentation).
    pub scope: &'a str,
    /// Only keys after this one.
    pub start_after: Option<&'a str>,
    /// At most so many records; 0 is no limit.
    pub limit: usize,
    /// As of this revision; `None` is now.
    pub revision: Option<u64>,
    /// Count what remains after the page (costs a walk over it).
    pub count: bool,
}

/// The state of a store at its current revision, and enough of the past to list and watch from
/// [`View::oldest`] on.
#[derive(Debug)]
pub(crate) struct View {
    live: BTreeMap<Arc<str>, Arc<Record>>,
    live_bytes: usize,
    expiring: BTreeSet<(u64, Arc<str>)>,
    history: VecDeque<Event>,
    history_bytes: usize,
    limits: HistoryLimits,
    revision: u64,
    oldest: u64,
}

impl View {
    /// The view of what a backend loaded.
    pub(crate) fn new(records: Vec<Record>, revision: u64, limits: HistoryLimits) -> Self {
        let mut view = Self {
            live: BTreeMap::new(),
            live_bytes: 0,
            expiring: BTreeSet::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            limits,
            revision,
            oldest: revision,
        };
        for record in records {
            view.insert(Arc::new(record));
        }
        view
    }

    /// Forgets everything and starts over from another state.
    pub(crate) fn replace(&mut self, records: Vec<Record>, revision: u64) {
        *self = Self::new(records, revision.max(self.revision), self.limits);
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that can be listed at or watched from.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Bytes of all current values.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Events kept, and what they cost in bytes.
    pub(crate) fn history_size(&self) -> (usize, usize) {
        (self.history.len(), self.history_bytes)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.live.get(key)
    }

    /// Number of keys in a scope, now.
    pub(crate) fn count(&self, scope: Scope<'_>) -> usize {
        self.range(scope, None).count()
    }

    /// Keys whose time is up, soonest first.
    pub(crate) fn expired(&self, now_secs: u64) -> impl Iterator<Item = &Arc<Record>> {
        self.expiring
            .iter()
            .take_while(move |(at, _)| *at <= now_secs)
            .filter_map(|(_, key)| self.live.get(key))
    }

    pub(crate) fn list(&self, query: &List<'_>) -> Result<Page, ReadError> {
        let revision = query.revision.unwrap_or(self.revision);
        self.check(revision)?;
        let scope = Scope(query.scope);
        let now = self.range(scope, query.start_after);
        if revision == self.revision {
            return Ok(page(now, revision, query));
        }
        let past = self.taken_back(scope, query.start_after, revision);
        Ok(page(AsOf { now: now.peekable(), past: past.into_iter().peekable() }, revision, query))
    }

    /// Whether the past from `revision` on is complete, and `revision` is not the future.
    pub(crate) fn check(&self, revision: u64) -> Result<(), ReadError> {
        if revision > self.revision {
            return Err(ReadError::Future { asked: revision, current: self.revision });
        }
        if revision < self.oldest {
            return Err(ReadError::Compacted { asked: revision, oldest: self.oldest });
        }
        Ok(())
    }

    /// The events after `revision`, oldest first. Complete only if `revision` passes [`View::check`].
    pub(crate) fn events_after(&self, revision: u64) -> impl ExactSizeIterator<Item = &Event> {
        let start = self.history.partition_point(|event| event.revision() <= revision);
        self.history.range(start..)
    }

    /// Takes in one write. Its revision is higher than every one before.
    pub(crate) fn apply(&mut self, change: Change) -> Event {
        let event = match change {
            Change::Put(new) => match self.insert(Arc::clone(&new)) {
                None => Event::Created(new),
                Some(old) => Event::Updated(new, old),
            },
            Change::Delete(last) => {
                let old = self.remove(&last.key).expect("decided against this very state");
                Event::Deleted(last, old)
            }
        };
        debug_assert!(event.revision() > self.revision, "revisions go up");
        self.revision = event.revision();
        self.history_bytes += cost(&event);
        self.history.push_back(event.clone());
        self.trim();
        event
    }

    /// Forgets the past before `revision`. Lists and watches from `revision` on keep working.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.history.front().is_some_and(|event| event.revision() <= revision) {
            self.forget_first();
        }
        self.oldest = self.oldest.max(revision.min(self.revision));
        if self.history.is_empty() {
            self.history.shrink_to(64);
        }
    }

    fn trim(&mut self) {
        while self.history.len() > self.limits.events || self.history_bytes > self.limits.bytes {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= cost(&event);
            self.oldest = event.revision();
        }
    }

    fn insert(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        self.live_bytes += record.json.len();
        if let Some(at) = record.expires_at_secs {
            self.expiring.insert((at, Arc::clone(&record.key)));
        }
        let old = self.live.insert(Arc::clone(&record.key), Arc::clone(&record));
        if let Some(old) = &old {
            self.left(old, record.expires_at_secs);
        }
        old
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Record>> {
        let old = self.live.remove(key)?;
        self.left(&old, None);
        Some(old)
    }

    /// Books out a version that is no longer current; `still` is its key's expiry from now on.
    fn left(&mut self, old: &Record, still: Option<u64>) {
        self.live_bytes -= old.json.len();
        if let Some(at) = old.expires_at_secs
            && Some(at) != still
        {
            self.expiring.remove(&(at, Arc::clone(&old.key)));
        }
    }

    fn range<'a>(
        &'a self,
        scope: Scope<'a>,
        start_after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        self.live
            .range::<str, _>((scope.start(start_after), Bound::Unbounded))
            .map(|(_, record)| record)
            .take_while(move |record| scope.contains(&record.key))
    }

    /// For every key of the scope written after `revision`: its version at `revision`, if any.
    fn taken_back<'a>(
        &'a self,
        scope: Scope<'a>,
        start_after: Option<&str>,
        revision: u64,
    ) -> BTreeMap<&'a str, Option<&'a Arc<Record>>> {
        let mut past = BTreeMap::new();
        for event in self.events_after(revision) {
            let key = event.key();
            if scope.contains(key) && start_after.is_none_or(|after| key > after) {
                past.entry(key).or_insert(event.previous());
            }
        }
        past
    }
}

/// Decides a write of `key` whose version is `current`, as the one with revision `revision`.
pub(crate) fn decide(
    key: Arc<str>,
    current: Option<&Arc<Record>>,
    write: &Write,
    revision: u64,
) -> Result<Change, WriteError> {
    let at = |payload: &Payload, created| {
        Arc::new(Record::from_payload(key, revision, created, payload))
    };
    match (write, current) {
        (Write::Create(_), Some(current)) => Err(WriteError::Exists(Arc::clone(current))),
        (Write::Create(payload), None) => Ok(Change::Put(at(payload, revision))),
        (Write::Update(..) | Write::Delete(..), None) => Err(WriteError::NotFound),
        (Write::Update(_, expected) | Write::Delete(_, expected), Some(current))
            if current.revision != *expected =>
        {
            Err(WriteError::Conflict(Arc::clone(current)))
        }
        (Write::Update(payload, _), Some(old)) => Ok(Change::Put(at(payload, old.created))),
        (Write::Delete(payload, _), Some(old)) => Ok(Change::Delete(at(payload, old.created))),
    }
}

/// Bytes that only the past holds on to because of this event.
fn cost(event: &Event) -> usize {
    let replaced = event.previous().map_or(0, |old| old.json.len());
    let deleted = match event {
        Event::Deleted(last, _) => last.json.len(),
        Event::Created(_) | Event::Updated(..) => 0,
    };
    EVENT_OVERHEAD_BYTES + replaced + deleted
}

fn page<'a>(
    mut records: impl Iterator<Item = &'a Arc<Record>>,
    revision: u64,
    query: &List<'_>,
) -> Page {
    let limit = if query.limit == 0 { usize::MAX } else { query.limit };
    let taken: Vec<Arc<Record>> = records.by_ref().take(limit).cloned().collect();
    let mut rest = records.peekable();
    let more = rest.peek().is_some();
    let remaining = query.count.then(|| rest.count() as u64);
    Page { records: taken, revision, more, remaining }
}

/// Merges the present with the versions taken back: both in the order of keys; where both have a
/// key, the past wins.
struct AsOf<N: Iterator, P: Iterator> {
    now: Peekable<N>,
    past: Peekable<P>,
}

impl<'a, N, P> Iterator for AsOf<N, P>
where
    N: Iterator<Item = &'a Arc<Record>>,
    P: Iterator<Item = (&'a str, Option<&'a Arc<Record>>)>,
{
    type Item = &'a Arc<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, version)) = self.past.peek().copied() else {
                return self.now.next();
            };
            match self.now.peek() {
                Some(record) if *record.key < *key => return self.now.next(),
                Some(record) if *record.key == *key => {
                    self.now.next();
                }
                Some(_) | None => {}
            }
            self.past.next();
            if version.is_some() {
                return version;
            }
        }
    }
}
