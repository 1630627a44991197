//! Pods that wait for a node. PURE: the time is given.
//!
//! Three places: *active* (tried next, by priority, then by age), *backing off* (tried again at a
//! time), and *parked* (no node can take it; tried again when something happens that may change
//! the mind of a filter that objected, or after [`PARKED_MAX`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use objects::ObjectKey;
use tokio::time::Instant;

use crate::filters::Filter;
use crate::pod::PodInfo;

/// Wait after the first failed try, doubling up to [`BACKOFF_CAP`]. Upstream's first wait is a
/// second; shorter here, for a pod that came just before its node should not wait that long.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(10);
/// A parked pod is tried again after this time whatever happens, as upstream.
const PARKED_MAX: Duration = Duration::from_secs(300);

/// Order in the active queue.
type Turn = (Reverse<i32>, u64, ObjectKey);

#[derive(Debug)]
enum Place {
    Active(Turn),
    BackingOff(Instant),
    Parked {
        filters: Vec<Filter>,
        until: Instant,
    },
    /// Handed out.
    Tried,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    /// Failed tries in a row.
    failures: u32,
    /// When the back-off of the last failure ends.
    backed_off_at: Instant,
    /// Age in the queue.
    sequence: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<ObjectKey, Entry>,
    active: BTreeSet<Turn>,
    /// Keys with a time, by that time: backing off and parked ones.
    timed: BTreeSet<(Instant, ObjectKey)>,
    sequence: u64,
}

impl Queue {
    /// Takes in a pod, or its newest version: if that differs in what scheduling looks at, it is
    /// tried again at once.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let key = pod.key.clone();
        if let Some(entry) = self.entries.get_mut(&key) {
            let is_other = entry.pod.uid() != pod.uid();
            let matters = is_other || differs(&entry.pod, &pod);
            entry.pod = pod;
            if is_other {
                entry.failures = 0;
            }
            if matters && !matches!(entry.place, Place::Tried) {
                self.activate(&key);
            }
            return;
        }
        self.sequence += 1;
        let entry = Entry {
            pod,
            place: Place::Tried,
            failures: 0,
            backed_off_at: now,
            sequence: self.sequence,
        };
        self.entries.insert(key.clone(), entry);
        self.activate(&key);
    }

    /// Forgets a pod: it has a node, or is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.leave(key);
        self.entries.remove(key);
    }

    /// The pod to try next.
    pub fn pop(&mut self) -> Option<Arc<PodInfo>> {
        let (_, _, key) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&key).expect("every active key has an entry");
        entry.place = Place::Tried;
        Some(Arc::clone(&entry.pod))
    }

    /// Takes back a pod that no node can take.
    pub fn park(&mut self, key: &ObjectKey, filters: Vec<Filter>, now: Instant) {
        self.leave(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.fail(now);
        let until = now + PARKED_MAX;
        entry.place = Place::Parked { filters, until };
        self.timed.insert((until, key.clone()));
    }

    /// Takes back a pod whose try failed for a reason that time may cure.
    pub fn retry(&mut self, key: &ObjectKey, now: Instant) {
        self.leave(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.fail(now);
        let at = entry.backed_off_at;
        entry.place = Place::BackingOff(at);
        self.timed.insert((at, key.clone()));
    }

    /// Wakes the parked pods to which one of the filters objected.
    pub fn wake(&mut self, filters: &[Filter], now: Instant) {
        let concerned = |entry: &Entry| match &entry.place {
            Place::Parked { filters: objected, .. } => {
                objected.is_empty() || objected.iter().any(|filter| filters.contains(filter))
            }
            _ => false,
        };
        let woken = self.entries.iter().filter(|(_, entry)| concerned(entry));
        let woken: Vec<ObjectKey> = woken.map(|(key, _)| key.clone()).collect();
        for key in woken {
            let at = self.entries[&key].backed_off_at;
            if at <= now {
                self.activate(&key);
                continue;
            }
            self.leave(&key);
            self.entries.get_mut(&key).expect("just seen").place = Place::BackingOff(at);
            self.timed.insert((at, key));
        }
    }

    /// Activates what is due.
    pub fn promote(&mut self, now: Instant) {
        while let Some((at, key)) = self.timed.first().cloned() {
            if at > now {
                return;
            }
            self.activate(&key);
        }
    }

    /// When [`Queue::promote`] has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Whether a pod can be tried now.
    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Pods waiting: active, backing off, parked.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Place) -> bool| self.entries.values().filter(|e| is(&e.place)).count();
        (
            self.active.len(),
            count(|place| matches!(place, Place::BackingOff(_))),
            count(|place| matches!(place, Place::Parked { .. })),
        )
    }

    fn activate(&mut self, key: &ObjectKey) {
        self.leave(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let turn = (Reverse(entry.pod.priority), entry.sequence, key.clone());
        entry.place = Place::Active(turn.clone());
        self.active.insert(turn);
    }

    /// Takes a key out of whichever order it is in.
    fn leave(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match std::mem::replace(&mut entry.place, Place::Tried) {
            Place::Active(turn) => {
                self.active.remove(&turn);
            }
            Place::BackingOff(at) | Place::Parked { until: at, .. } => {
                self.timed.remove(&(at, key.clone()));
            }
            Place::Tried => {}
        }
    }
}

impl Entry {
    fn fail(&mut self, now: Instant) {
        // 2^10 times the first wait is past the cap.
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_CAP);
        self.failures = self.failures.saturating_add(1);
        self.backed_off_at = now + wait;
    }
}

/// Whether two versions of a pod differ in something that scheduling looks at; its status is not.
fn differs(a: &PodInfo, b: &PodInfo) -> bool {
    a.pod.spec != b.pod.spec || a.pod.metadata.labels != b.pod.metadata.labels
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};

    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(name.into());
        pod.spec = Some(PodSpec { priority: Some(priority), ..PodSpec::default() });
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    fn popped(queue: &mut Queue) -> Option<String> {
        queue.pop().map(|pod| pod.key.name.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_first_then_the_older() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.add(pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_events_that_matter_wake_a_parked_pod() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        queue.pop();
        queue.park(&ObjectKey::new("", "a"), vec![Filter::NodeResources], now);
        let later = now + Duration::from_secs(1);
        queue.wake(&[Filter::TaintToleration], later);
        assert_eq!(popped(&mut queue), None);
        queue.wake(&[Filter::NodeResources], later);
        assert_eq!(popped(&mut queue).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_woken_pod_serves_its_back_off_which_doubles() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let key = ObjectKey::new("", "a");
        let mut waits = Vec::new();
        for _ in 0..9 {
            queue.pop().unwrap();
            queue.park(&key, vec![Filter::NodePorts], now);
            queue.wake(&[Filter::NodePorts], now);
            assert_eq!(popped(&mut queue), None, "still backing off");
            let due = queue.next_due().unwrap();
            waits.push((due - now).as_millis());
            now = due;
            queue.promote(now);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_is_tried_again_after_a_while_and_on_its_own_change() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        queue.pop();
        let key = ObjectKey::new("", "a");
        queue.park(&key, vec![Filter::NodePorts], now);
        queue.add(pod("a", 0), now);
        assert!(!queue.has_active(), "the same version changes nothing");
        queue.add(pod("a", 7), now);
        assert!(queue.has_active());
        queue.pop();
        queue.park(&key, vec![Filter::NodePorts], now);
        queue.promote(now + PARKED_MAX);
        assert!(queue.has_active());
        queue.remove(&key);
        assert_eq!((queue.counts(), queue.next_due()), ((0, 0, 0), None));
    }
}
