//! A watch: events of a scope in the order of revisions, without gaps or repeats.
//!
//! A watch that is up to date gets events from its queue. One that starts in the past, or whose
//! queue overflowed, reads from history until it has caught up. It ends only if history is gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;

use crate::error::{ReadError, WatchError};
use crate::hub::{Mode, Queue, Slot};
use crate::record::Event;
use crate::scope::Scope;
use crate::store::Shared;

/// Events that one read of history looks at, so that the view's lock is held briefly.
const SCAN_EVENTS: usize = 4096;

/// Events that one read of history returns at most.
const GROUP_EVENTS: usize = 256;

/// An open watch. Dropping it ends it.
///
/// As a [`Stream`] it yields groups of events (never empty; one group per commit when up to date)
/// and, last, the error that ended it. Everything in a group is shared with all other watchers.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    scope: Arc<str>,
    slot: Arc<Slot>,
    /// Everything up to here was returned.
    reached: u64,
    ended: bool,
}

impl Watch {
    pub(crate) fn open(shared: Arc<Shared>, scope: &str, after: u64) -> Result<Self, ReadError> {
        let scope: Arc<str> = scope.into();
        let slot = {
            // While the view is locked nothing is committed, so no event is missed or queued twice.
            let view = shared.view.read();
            view.check(after)?;
            let live = after == view.revision();
            let slot = Slot::new(if live { Mode::Live(Queue::default()) } else { Mode::Behind });
            shared.hub.lock().add(&scope, &slot);
            slot
        };
        Ok(Self { shared, scope, slot, reached: after, ended: false })
    }

    /// The next events. Cancel-safe.
    ///
    /// # Errors
    /// [`WatchError`]; the watch is over then.
    pub async fn next(&mut self) -> Result<Arc<[Event]>, WatchError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next events if there are any already.
    ///
    /// # Errors
    /// [`WatchError`]; the watch is over then.
    pub fn try_next(&mut self) -> Result<Option<Arc<[Event]>>, WatchError> {
        match self.poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The revision up to which every event of the scope has been returned: what a bookmark says.
    pub fn progress(&self) -> u64 {
        let view = self.shared.view.read();
        let state = self.slot.state.lock();
        match &state.mode {
            Mode::Live(queue) if queue.is_empty() => view.revision(),
            Mode::Live(_) | Mode::Behind | Mode::Closed => self.reached,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<[Event]>, WatchError>> {
        loop {
            let mut state = self.slot.state.lock();
            match &mut state.mode {
                Mode::Closed => return Poll::Ready(Err(WatchError::Closed)),
                Mode::Live(queue) => {
                    let Some(group) = queue.pop() else {
                        state.waker = Some(context.waker().clone());
                        return Poll::Pending;
                    };
                    self.reached = group.last().map_or(self.reached, Event::revision);
                    return Poll::Ready(Ok(group));
                }
                Mode::Behind => {}
            }
            drop(state);
            let events = self.catch_up()?;
            if !events.is_empty() {
                return Poll::Ready(Ok(events.into()));
            }
        }
    }

    /// Reads the next part of history; goes live at its end.
    fn catch_up(&mut self) -> Result<Vec<Event>, WatchError> {
        let view = self.shared.view.read();
        if let Err(ReadError::Compacted { oldest, .. }) = view.check(self.reached) {
            return Err(WatchError::TooSlow { reached: self.reached, oldest });
        }
        let scope = Scope(&self.scope);
        let mut found = Vec::new();
        for event in view.events_after(self.reached).take(SCAN_EVENTS) {
            self.reached = event.revision();
            if scope.contains(event.key()) {
                found.push(event.clone());
                if found.len() == GROUP_EVENTS {
                    break;
                }
            }
        }
        if self.reached == view.revision() {
            let mut state = self.slot.state.lock();
            if matches!(state.mode, Mode::Behind) {
                state.mode = Mode::Live(Queue::default());
            }
        }
        Ok(found)
    }
}

impl Stream for Watch {
    type Item = Result<Arc<[Event]>, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let result = ready!(self.poll(context));
        self.ended = result.is_err();
        Poll::Ready(Some(result))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.hub.lock().remove(&self.scope, &self.slot);
    }
}
