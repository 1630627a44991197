//! Hands committed events to watchers: matched once per scope, shared by all watchers of the scope.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::record::Event;
use crate::scope::scopes_of;

/// Events that one watcher may have waiting. A watcher with more reads them from history when it
/// gets to it, so this only bounds the memory of watchers, not what they may miss.
const QUEUE_EVENTS: usize = 256;

/// One watcher's mailbox.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: Mutex<SlotState>,
}

#[derive(Debug)]
pub(crate) struct SlotState {
    pub(crate) mode: Mode,
    pub(crate) waker: Option<Waker>,
}

/// How a watcher gets its events.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Everything since the last delivery is in the queue.
    Live(Queue),
    /// The watcher reads from history until it has caught up; nothing is queued.
    Behind,
    /// The store is closed.
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    groups: VecDeque<Arc<[Event]>>,
    events: usize,
}

impl Queue {
    pub(crate) fn pop(&mut self) -> Option<Arc<[Event]>> {
        let group = self.groups.pop_front()?;
        self.events -= group.len();
        Some(group)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Slot {
    pub(crate) fn new(mode: Mode) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(SlotState { mode, waker: None }) })
    }

    fn push(&self, group: &Arc<[Event]>) -> Option<Waker> {
        let mut state = self.state.lock();
        let Mode::Live(queue) = &mut state.mode else { return None };
        if queue.events + group.len() > QUEUE_EVENTS {
            state.mode = Mode::Behind;
        } else {
            queue.events += group.len();
            queue.groups.push_back(Arc::clone(group));
        }
        state.waker.take()
    }
}

/// All watchers, by scope.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watchers: HashMap<Arc<str>, Vec<Arc<Slot>>>,
    closed: bool,
}

impl Hub {
    pub(crate) fn len(&self) -> usize {
        self.watchers.values().map(Vec::len).sum()
    }

    pub(crate) fn add(&mut self, scope: &Arc<str>, slot: &Arc<Slot>) {
        if self.closed {
            slot.state.lock().mode = Mode::Closed;
            return;
        }
        self.watchers.entry(Arc::clone(scope)).or_default().push(Arc::clone(slot));
    }

    pub(crate) fn remove(&mut self, scope: &str, slot: &Arc<Slot>) {
        if let Some(slots) = self.watchers.get_mut(scope) {
            slots.retain(|other| !Arc::ptr_eq(other, slot));
            if slots.is_empty() {
                self.watchers.remove(scope);
            }
        }
    }

    /// Queues one committed group for everybody whom it concerns; returns whom to wake, once the
    /// locks are released.
    pub(crate) fn dispatch(&self, events: &[Event]) -> Vec<Waker> {
        let mut by_scope: HashMap<&str, Vec<Event>> = HashMap::new();
        if !self.watchers.is_empty() {
            for event in events {
                for scope in scopes_of(event.key()) {
                    if let Some((scope, _)) = self.watchers.get_key_value(scope) {
                        by_scope.entry(scope).or_default().push(event.clone());
                    }
                }
            }
        }
        let mut wakers = Vec::new();
        for (scope, events) in by_scope {
            let group: Arc<[Event]> = events.into();
            wakers.extend(self.watchers[scope].iter().filter_map(|slot| slot.push(&group)));
        }
        wakers
    }

    /// Sends every watch back to history, which may not reach back to it any more.
    pub(crate) fn interrupt(&self) -> Vec<Waker> {
        let slots = self.watchers.values().flatten();
        slots
            .filter_map(|slot| {
                let mut state = slot.state.lock();
                state.mode = Mode::Behind;
                state.waker.take()
            })
            .collect()
    }

    /// Ends every watch, and those that come later.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        let slots = std::mem::take(&mut self.watchers).into_values().flatten();
        slots
            .filter_map(|slot| {
                let mut state = slot.state.lock();
                state.mode = Mode::Closed;
                state.waker.take()
            })
            .collect()
    }
}
