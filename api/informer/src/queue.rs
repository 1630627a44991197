//! A de-duplicating, delayed queue of keys with a back-off per key.
//!
//! Each key is in one of these states, and [`WorkQueue::next`] hands out only ready ones:
//! - *absent*: nothing to do;
//! - *delayed*: becomes ready at a time; asking again for an earlier time wins, for a later one
//!   changes nothing;
//! - *ready*: waits its turn, once, however often it is added;
//! - *working*: handed out and not yet [`WorkQueue::done`]. Adding it now makes it ready again
//!   after `done`, never before, so that one key is never worked on twice at the same time.
//!
//! The idea is client-go's work queue and kube-runtime's scheduler; the code is ours. Time is
//! tokio's, so that tests can pause it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff;

/// First and longest wait of [`WorkQueue::retry`].
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// Longest wait.
    pub cap: Duration,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    /// The keys of `ready`.
    waiting: HashSet<T>,
    /// When each delayed key becomes ready; the number makes equal times distinct.
    delayed: BTreeMap<(Instant, u64), T>,
    /// The place in `delayed` of each delayed key.
    due: HashMap<T, (Instant, u64)>,
    working: HashSet<T>,
    /// Keys added while they were worked on.
    again: HashSet<T>,
    failures: HashMap<T, u32>,
    sequence: u64,
    overflowed: bool,
    closed: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    retry: Retry,
    keys_max: usize,
}

/// The queue; clones share it.
#[derive(Debug)]
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// An empty queue of at most `keys_max` different keys.
    pub fn new(keys_max: usize, retry: Retry) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            working: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
            sequence: 0,
            overflowed: false,
            closed: false,
        };
        let state = Mutex::new(state);
        Self { shared: Arc::new(Shared { state, wake: Notify::new(), retry, keys_max }) }
    }

    /// Makes a key ready. Beyond the limit of keys it is not taken, and
    /// [`WorkQueue::take_overflowed`] says so.
    pub fn add(&self, key: T) {
        self.shared.state.lock().add(key, self.shared.keys_max);
        self.shared.wake.notify_one();
    }

    /// Makes a key ready after a while; at once if `wait` is zero.
    pub fn add_after(&self, key: T, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + wait;
        self.shared.state.lock().delay(key, at, self.shared.keys_max);
        self.shared.wake.notify_one();
    }

    /// Makes a key ready after its back-off, which doubles with each call until
    /// [`WorkQueue::forget`]. Returns the wait.
    pub fn retry(&self, key: T) -> Duration {
        let mut state = self.shared.state.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let wait = backoff::step(self.shared.retry.first, self.shared.retry.cap, *failures);
        *failures += 1;
        state.delay(key, Instant::now() + wait, self.shared.keys_max);
        drop(state);
        self.shared.wake.notify_one();
        wait
    }

    /// Ends a key's row of failures.
    pub fn forget(&self, key: &T) {
        self.shared.state.lock().failures.remove(key);
    }

    /// Says that the work on a key handed out by [`WorkQueue::next`] is over.
    pub fn done(&self, key: &T) {
        let mut state = self.shared.state.lock();
        state.working.remove(key);
        if state.again.remove(key) {
            state.add(key.clone(), self.shared.keys_max);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// The next ready key; `None` once the queue is closed. Cancel-safe.
    pub async fn next(&self) -> Option<T> {
        loop {
            // Registered before the look, so that an `add` in between is not missed.
            let woken = self.shared.wake.notified();
            let next_due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.hand_out() {
                    // One permit may stand for several keys: pass the rest on.
                    if !state.ready.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.first_key_value().map(|((at, _), _)| *at)
            };
            match next_due {
                None => woken.await,
                Some(at) => {
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Makes every present and future [`WorkQueue::next`] return `None`.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_waiters();
        // For a reader that is between its look and its wait.
        self.shared.wake.notify_one();
    }

    /// Whether a key was refused since the last call: its user must look at everything again.
    pub fn take_overflowed(&self) -> bool {
        std::mem::take(&mut self.shared.state.lock().overflowed)
    }

    /// Keys that are ready, delayed or being worked on.
    pub fn len(&self) -> usize {
        self.shared.state.lock().len()
    }

    /// Whether nothing is ready, delayed or being worked on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing is ready or being worked on: only delayed keys are left.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.ready.is_empty() && state.working.is_empty()
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.working.len()
    }

    fn has_room(&mut self, keys_max: usize) -> bool {
        let room = self.len() < keys_max;
        self.overflowed |= !room;
        room
    }

    fn add(&mut self, key: T, keys_max: usize) {
        if self.working.contains(&key) {
            self.again.insert(key);
            return;
        }
        if self.waiting.contains(&key) {
            return;
        }
        if let Some(at) = self.due.remove(&key) {
            self.delayed.remove(&at);
        } else if !self.has_room(keys_max) {
            return;
        }
        self.waiting.insert(key.clone());
        self.ready.push_back(key);
    }

    fn delay(&mut self, key: T, at: Instant, keys_max: usize) {
        if self.waiting.contains(&key) {
            return;
        }
        if let Some(known) = self.due.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            self.delayed.remove(&known);
        } else if !self.has_room(keys_max) {
            return;
        }
        self.sequence += 1;
        let place = (at, self.sequence);
        self.due.insert(key.clone(), place);
        self.delayed.insert(place, key);
    }

    /// Moves what is due to the ready keys.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.due.remove(&key);
            if self.working.contains(&key) {
                self.again.insert(key);
            } else if self.waiting.insert(key.clone()) {
                self.ready.push_back(key);
            }
        }
    }

    fn hand_out(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests;
