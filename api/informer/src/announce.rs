//! Telling many readers what happened, each at its own pace.
//!
//! Every reader has its own queue, which takes memory only while something waits in it: a process
//! has about a hundred views, and nearly all their readers have nothing to do. A reader that falls
//! too far behind loses its queue and is told so, once.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A queue that is empty keeps room for so many items.
const ROOM_KEPT: usize = 16;

/// What a reader hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// One thing that happened.
    Item(T),
    /// More happened than the queue holds, or this is the beginning: look at everything.
    Missed,
}

#[derive(Debug)]
struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    /// Something was put into the queue, or it was closed.
    arrived: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    missed: bool,
    closed: bool,
}

/// The speaker; readers hear `None` once it is dropped and their queues are empty.
#[derive(Debug)]
pub struct Announcer<T> {
    readers: Mutex<Vec<Weak<Inbox<T>>>>,
    waiting_max: usize,
}

impl<T: Clone> Announcer<T> {
    /// A speaker whose readers may lag behind by `waiting_max` items.
    pub const fn new(waiting_max: usize) -> Self {
        Self { readers: Mutex::new(Vec::new()), waiting_max }
    }

    /// Says that something happened. Calls in an order are heard in that order.
    pub fn announce(&self, item: &T) {
        self.readers.lock().retain(|reader| {
            let Some(inbox) = reader.upgrade() else { return false };
            let mut queue = inbox.queue.lock();
            if queue.items.len() < self.waiting_max {
                queue.items.push_back(item.clone());
            } else {
                queue.items = VecDeque::new();
                queue.missed = true;
            }
            drop(queue);
            inbox.arrived.notify_one();
            true
        });
    }

    /// A reader of what happens from now on. It first hears [`Heard::Missed`], so that it has one
    /// code path for its start and for having fallen behind.
    pub fn subscribe(&self) -> Announcements<T> {
        let queue = Queue { items: VecDeque::new(), missed: true, closed: false };
        let inbox = Arc::new(Inbox { queue: Mutex::new(queue), arrived: Notify::new() });
        self.readers.lock().push(Arc::downgrade(&inbox));
        Announcements { inbox }
    }
}

impl<T> Drop for Announcer<T> {
    fn drop(&mut self) {
        for inbox in self.readers.get_mut().iter().filter_map(Weak::upgrade) {
            inbox.queue.lock().closed = true;
            inbox.arrived.notify_one();
        }
    }
}

/// A reader's place.
#[derive(Debug)]
pub struct Announcements<T> {
    inbox: Arc<Inbox<T>>,
}

impl<T> Announcements<T> {
    /// What is heard next; `None` once the speaker is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard<T>> {
        loop {
            if let Some(heard) = self.waiting() {
                return Some(heard);
            }
            if self.inbox.queue.lock().closed {
                // What was said between the two looks is still heard.
                return self.waiting();
            }
            // One reader: a notification between the look and the wait is kept for it.
            self.inbox.arrived.notified().await;
        }
    }

    fn waiting(&self) -> Option<Heard<T>> {
        let mut queue = self.inbox.queue.lock();
        if std::mem::take(&mut queue.missed) {
            return Some(Heard::Missed);
        }
        let item = queue.items.pop_front();
        if queue.items.is_empty() && queue.items.capacity() > ROOM_KEPT {
            queue.items = VecDeque::new();
        }
        item.map(Heard::Item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reader_hears_everything_in_order() {
        let announcer = Announcer::new(10);
        announcer.announce(&0);
        let mut readers = [announcer.subscribe(), announcer.subscribe()];
        for number in 1..=3 {
            announcer.announce(&number);
        }
        for reader in &mut readers {
            assert_eq!(reader.next().await, Some(Heard::Missed), "the beginning");
            for number in 1..=3 {
                assert_eq!(reader.next().await, Some(Heard::Item(number)));
            }
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_once_what_it_missed() {
        let announcer = Announcer::new(4);
        let mut reader = announcer.subscribe();
        assert_eq!(reader.next().await, Some(Heard::Missed));
        for number in 0..5 {
            announcer.announce(&number);
        }
        announcer.announce(&5);
        assert_eq!(reader.next().await, Some(Heard::Missed));
        assert_eq!(reader.next().await, Some(Heard::Item(5)), "what came after the loss");
    }

    #[tokio::test]
    async fn the_end_comes_after_the_last_word() {
        let announcer = Announcer::new(4);
        let mut reader = announcer.subscribe();
        announcer.announce(&1);
        drop(announcer);
        assert_eq!(reader.next().await, Some(Heard::Missed));
        assert_eq!(reader.next().await, Some(Heard::Item(1)));
        assert_eq!(reader.next().await, None);
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let announcer = Announcer::new(4);
        let mut reader = announcer.subscribe();
        assert_eq!(reader.next().await, Some(Heard::Missed));
        let waiting = tokio::spawn(async move { (reader.next().await, reader.next().await) });
        announcer.announce(&1);
        drop(announcer);
        assert_eq!(waiting.await.expect("no panic"), (Some(Heard::Item(1)), None));
    }

    #[test]
    fn readers_that_left_are_forgotten() {
        let announcer = Announcer::new(4);
        drop(announcer.subscribe());
        let _stays = announcer.subscribe();
        announcer.announce(&1);
        assert_eq!(announcer.readers.lock().len(), 1);
    }
}
