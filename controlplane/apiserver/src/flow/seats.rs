//! Who may run now, and who waits: seats, priority levels and fair queues. PURE but for the channel
//! on which a waiting request is told that it may run.
//!
//! Source of behaviour: kubernetes apiserver `pkg/util/flowcontrol/fairqueuing`, v1.36, in its
//! spirit. Every priority level has a share of the seats. It may borrow what others do not use, but
//! for what those have not declared lendable. Different: a level gets its own seats back as soon as
//! it wants them, not at the next adjustment ten seconds later, so that for a moment more seats than
//! there are may be taken; queues of one level are served in turn, a request at a time, and not by
//! virtual time; every request takes one seat.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

/// How many requests of a level may run, in seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Its own seats.
    pub(super) nominal: usize,
    /// What it never lends.
    pub(super) reserved: usize,
    /// With what it may borrow; `None` is as much as there is.
    pub(super) most: Option<usize>,
}

/// What happens to requests that may not run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// They are refused.
    Reject,
    /// They wait in one of `queues` queues, the shortest of `hand` that their flow is dealt.
    Queue { queues: usize, hand: usize, length: usize },
}

/// The configuration of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// Everything runs at once.
    Exempt,
    /// Limited.
    Limited {
        shares: usize,
        lendable_percent: usize,
        borrow_percent: Option<usize>,
        overflow: Overflow,
    },
}

/// Names one request that waits.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    go: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Level {
    terms: Terms,
    limits: Limits,
    running: usize,
    queues: Vec<VecDeque<Waiting>>,
    waiting: usize,
    /// The queue that is served next.
    next: usize,
    /// No longer configured; forgotten once nothing of it runs or waits.
    gone: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Entry {
    /// It has a seat.
    Run,
    /// It is told when it has one.
    Wait(Ticket, oneshot::Receiver<()>),
    /// Its level has no seat and its queue no place: `concurrency-limit` or `queue-full`.
    Refused(&'static str),
}

/// All seats of a server.
#[derive(Debug)]
pub(super) struct Seats {
    total: usize,
    levels: BTreeMap<String, Level>,
    tickets: Ticket,
}

impl Seats {
    pub(super) fn new(total: usize) -> Self {
        Self { total, levels: BTreeMap::new(), tickets: 0 }
    }

    /// Adds or changes a level.
    pub(super) fn configure(&mut self, name: &str, terms: Terms) {
        let queues = match terms {
            Terms::Limited { overflow: Overflow::Queue { queues, .. }, .. } => queues.max(1),
            Terms::Limited { .. } | Terms::Exempt => 0,
        };
        let level = self.levels.entry(name.to_owned()).or_insert_with(|| Level {
            terms,
            limits: Limits { nominal: 0, reserved: 0, most: None },
            running: 0,
            queues: Vec::new(),
            waiting: 0,
            next: 0,
            gone: false,
        });
        level.terms = terms;
        level.gone = false;
        // Whoever waits in a queue that is no longer there moves to the first ones.
        let moved: Vec<Waiting> =
            level.queues.drain(queues.min(level.queues.len())..).flatten().collect();
        level.queues.resize_with(queues.max(usize::from(!moved.is_empty())), VecDeque::new);
        let count = level.queues.len().max(1);
        for (index, one) in moved.into_iter().enumerate() {
            level.queues[index % count].push_back(one);
        }
        self.share();
        self.admit();
    }

    /// Takes a level out. What runs and waits there is finished.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(level) = self.levels.get_mut(name) {
            level.gone = true;
        }
        self.share();
        self.forget(name);
        self.admit();
    }

    /// Divides the seats among the levels by their shares.
    fn share(&mut self) {
        let shares = |level: &Level| match level.terms {
            Terms::Limited { shares, .. } if !level.gone => shares,
            Terms::Limited { .. } | Terms::Exempt => 0,
        };
        let sum: usize = self.levels.values().map(shares).sum();
        for level in self.levels.values_mut() {
            let Terms::Limited { lendable_percent, borrow_percent, .. } = level.terms else {
                continue;
            };
            if level.gone {
                continue;
            }
            let nominal = (self.total * shares(level)).div_ceil(sum.max(1));
            let percent = |percent: usize| (nominal * percent + 50) / 100;
            level.limits = Limits {
                nominal,
                reserved: nominal.saturating_sub(percent(lendable_percent)),
                most: borrow_percent.map(|borrowed| nominal + percent(borrowed)),
            };
        }
    }

    /// Lets a request in, or not.
    pub(super) fn enter(&mut self, name: &str, flow: u64) -> Entry {
        let free = self.may_run(name);
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(level) = self.levels.get_mut(name) else { return Entry::Run };
        let overflow = match level.terms {
            Terms::Exempt => {
                level.running += 1;
                return Entry::Run;
            }
            Terms::Limited { overflow, .. } => overflow,
        };
        if free && level.waiting == 0 {
            level.running += 1;
            return Entry::Run;
        }
        let Overflow::Queue { hand, length, .. } = overflow else {
            return Entry::Refused("concurrency-limit");
        };
        let dealt = deal(flow, level.queues.len(), hand);
        let shortest = dealt.into_iter().min_by_key(|index| level.queues[*index].len());
        let Some(queue) = shortest.filter(|index| level.queues[*index].len() < length) else {
            return Entry::Refused("queue-full");
        };
        let (go, told) = oneshot::channel();
        level.queues[queue].push_back(Waiting { ticket, go });
        level.waiting += 1;
        Entry::Wait(ticket, told)
    }

    /// A request has ended.
    pub(super) fn leave(&mut self, name: &str) {
        if let Some(level) = self.levels.get_mut(name) {
            level.running = level.running.saturating_sub(1);
        }
        self.forget(name);
        self.admit();
    }

    /// A request waits no longer. `false` if it is in no queue: it was told to run.
    pub(super) fn give_up(&mut self, name: &str, ticket: Ticket) -> bool {
        let Some(level) = self.levels.get_mut(name) else { return false };
        for queue in &mut level.queues {
            if let Some(index) = queue.iter().position(|one| one.ticket == ticket) {
                queue.remove(index);
                level.waiting -= 1;
                self.forget(name);
                return true;
            }
        }
        false
    }

    fn forget(&mut self, name: &str) {
        let done = |level: &Level| level.gone && level.running == 0 && level.waiting == 0;
        if self.levels.get(name).is_some_and(done) {
            self.levels.remove(name);
        }
    }

    fn may_run(&self, name: &str) -> bool {
        let Some(level) = self.levels.get(name) else { return true };
        if level.running < level.limits.nominal || matches!(level.terms, Terms::Exempt) {
            return true;
        }
        if level.limits.most.is_some_and(|most| level.running >= most) {
            return false;
        }
        // Seats that nobody sits on and that their owners lend.
        let limited =
            self.levels.iter().filter(|(_, one)| matches!(one.terms, Terms::Limited { .. }));
        let taken: usize = limited
            .map(|(other, one)| match other == name {
                true => one.running,
                false => one.running.max(one.limits.reserved),
            })
            .sum();
        taken < self.total
    }

    /// Tells waiting requests that they may run, as far as there are seats.
    fn admit(&mut self) {
        let names: Vec<String> = self
            .levels
            .iter()
            .filter(|(_, level)| level.waiting > 0)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            while self.may_run(&name) {
                let level = self.levels.get_mut(&name).expect("it was just there");
                let Some(waiting) = level.next_waiting() else { break };
                level.waiting -= 1;
                level.running += 1;
                // Whoever has just stopped waiting gives the seat back: see `Place`.
                _ = waiting.go.send(());
            }
            self.forget(&name);
        }
    }

    /// How things stand, by level.
    pub(super) fn counts(&self) -> Vec<Count> {
        let levels = self.levels.iter();
        levels
            .map(|(name, level)| Count {
                level: name.clone(),
                running: level.running,
                waiting: level.waiting,
                nominal: level.limits.nominal,
            })
            .collect()
    }
}

/// How things stand in one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) level: String,
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) nominal: usize,
}

impl Level {
    fn next_waiting(&mut self) -> Option<Waiting> {
        let count = self.queues.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            if let Some(waiting) = self.queues[index].pop_front() {
                self.next = (index + 1) % count;
                return Some(waiting);
            }
        }
        None
    }
}

/// Deals a flow a hand of different queues: two flows seldom share all of theirs, so that one which
/// fills its queues leaves the others a way.
fn deal(flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut rest = flow;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for index in 0..hand.min(queues) {
        let left = (queues - index) as u64;
        let mut card = usize::try_from(rest % left).unwrap_or(0);
        rest /= left;
        // The card counts among those not dealt yet.
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if card >= taken {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests;
