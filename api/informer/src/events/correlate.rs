//! Turns occurrences into Events: repetitions into counts, similar ones into one, floods into
//! nothing. PURE: the time is given.
//!
//! Source of the rules and numbers: client-go `tools/record/events_cache.go`, v1.36.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::{EventType, Occurrence};

/// Entries kept per cache; beyond it the one unused for longest is forgotten.
const ENTRIES_MAX: usize = 4096;
/// This many different messages of one kind within [`SIMILAR_SECS`] become one Event.
const SIMILAR_MAX: usize = 10;
const SIMILAR_SECS: i64 = 600;
/// Events about one object: a burst, then one in five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SEC: f64 = 1.0 / 300.0;
/// Longest message, as the API's validation has it.
const MESSAGE_BYTES_MAX: usize = 1024;

/// In whose name Events are recorded.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) component: String,
    pub(super) host: String,
}

/// What is written to the API.
#[derive(Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<Event>),
    /// `body` is the merge patch that makes the stored Event equal to `event`.
    Count {
        event: Box<Event>,
        body: Value,
    },
}

/// The object an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Regarding {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// Events that differ at most in their message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Similar {
    regarding: Regarding,
    field_path: String,
    kind: EventType,
    reason: String,
}

#[derive(Debug)]
struct Messages {
    seen: HashSet<String>,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    last: Timestamp,
}

#[derive(Debug)]
struct Known {
    event: Box<Event>,
    last: Timestamp,
}

#[derive(Debug)]
pub(super) struct Correlator {
    source: Source,
    messages: HashMap<Similar, Messages>,
    buckets: HashMap<Regarding, Bucket>,
    known: HashMap<(Similar, String), Known>,
    /// Makes names of Events made in the same nanosecond distinct.
    sequence: u64,
}

impl Correlator {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            messages: HashMap::new(),
            buckets: HashMap::new(),
            known: HashMap::new(),
            sequence: 0,
        }
    }

    /// What to write for an occurrence; `None` if there were too many about its object.
    pub(super) fn take(&mut self, mut occurrence: Occurrence, now: Timestamp) -> Option<Write> {
        truncate(&mut occurrence.message);
        let similar = similar(&occurrence);
        // The message under which the Event is known: one for all once there are many.
        let mut known_as = occurrence.message.clone();
        if self.is_one_of_many(&similar, &occurrence.message, now) {
            known_as.clear();
            occurrence.message = format!("(combined from similar events): {}", occurrence.message);
            truncate(&mut occurrence.message);
        }
        if !self.has_token(&similar.regarding, now) {
            return None;
        }
        let id = (similar, known_as);
        match self.known.get_mut(&id) {
            Some(known) => {
                known.last = now;
                Some(count(&mut known.event, &occurrence.message, now))
            }
            None => {
                make_room(&mut self.known, |known| known.last);
                let event = Box::new(self.event(&occurrence, now));
                self.known.insert(id, Known { event: event.clone(), last: now });
                Some(Write::Create(event))
            }
        }
    }

    fn is_one_of_many(&mut self, similar: &Similar, message: &str, now: Timestamp) -> bool {
        if !self.messages.contains_key(similar) {
            make_room(&mut self.messages, |messages| messages.last);
        }
        let messages = self
            .messages
            .entry(similar.clone())
            .or_insert_with(|| Messages { seen: HashSet::new(), last: now });
        if now.as_second() - messages.last.as_second() > SIMILAR_SECS {
            messages.seen.clear();
        }
        messages.last = now;
        if messages.seen.len() < SIMILAR_MAX {
            messages.seen.insert(message.to_string());
        }
        messages.seen.len() >= SIMILAR_MAX
    }

    fn has_token(&mut self, regarding: &Regarding, now: Timestamp) -> bool {
        if !self.buckets.contains_key(regarding) {
            make_room(&mut self.buckets, |bucket| bucket.last);
        }
        let bucket = self
            .buckets
            .entry(regarding.clone())
            .or_insert_with(|| Bucket { tokens: BURST, last: now });
        let secs = now.duration_since(bucket.last).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + secs * REFILL_PER_SEC).min(BURST);
        bucket.last = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn event(&mut self, occurrence: &Occurrence, now: Timestamp) -> Event {
        self.sequence += 1;
        let regarding = &occurrence.regarding;
        let name = regarding.name.as_deref().unwrap_or("");
        let stamp = now.as_nanosecond() + i128::from(self.sequence);
        // Events about cluster-scoped objects live in `default`.
        let namespace = regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{stamp:x}")),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_string())),
                ..ObjectMeta::default()
            },
            involved_object: regarding.clone(),
            reason: Some(occurrence.reason.clone()),
            message: Some(occurrence.message.clone()),
            type_: Some(occurrence.kind.as_str().to_string()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.source.component.clone()),
                host: Some(self.source.host.clone()).filter(|host| !host.is_empty()),
            }),
            reporting_component: Some(self.source.component.clone()),
            reporting_instance: Some(self.source.host.clone()),
            ..Event::default()
        }
    }
}

fn similar(occurrence: &Occurrence) -> Similar {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let regarding = &occurrence.regarding;
    Similar {
        regarding: Regarding {
            kind: text(&regarding.kind),
            namespace: text(&regarding.namespace),
            name: text(&regarding.name),
            uid: text(&regarding.uid),
        },
        field_path: text(&regarding.field_path),
        kind: occurrence.kind,
        reason: occurrence.reason.clone(),
    }
}

fn count(event: &mut Event, message: &str, now: Timestamp) -> Write {
    event.count = Some(event.count.unwrap_or(1).saturating_add(1));
    event.last_timestamp = Some(Time(now));
    event.message = Some(message.to_string());
    let body = json!({
        "count": event.count,
        "lastTimestamp": event.last_timestamp,
        "message": event.message,
    });
    Write::Count { event: Box::new(event.clone()), body }
}

fn truncate(message: &mut String) {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
}

/// Forgets the entry unused for longest, if the cache is full.
fn make_room<K: Clone + Eq + Hash, V>(cache: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if cache.len() < ENTRIES_MAX {
        return;
    }
    let oldest = cache.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        cache.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn correlator() -> Correlator {
        Correlator::new(Source { component: "kubelet".into(), host: "n1".into() })
    }

    fn occurrence(pod: &str, message: &str) -> Occurrence {
        let regarding = ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some("a".into()),
            name: Some(pod.into()),
            ..ObjectReference::default()
        };
        let (reason, message) = ("BackOff".into(), message.into());
        Occurrence { regarding, kind: EventType::Warning, reason, message }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + secs).unwrap()
    }

    #[test]
    fn a_repetition_is_counted() {
        let mut correlator = correlator();
        let Some(Write::Create(first)) = correlator.take(occurrence("x", "m"), at(0)) else {
            panic!("the first is created")
        };
        assert_eq!((first.count, first.metadata.namespace.as_deref()), (Some(1), Some("a")));
        let Some(Write::Count { event, body }) = correlator.take(occurrence("x", "m"), at(5))
        else {
            panic!("the second is counted")
        };
        assert_eq!(event.metadata.name, first.metadata.name);
        assert_eq!(body["count"], 2);
        assert_eq!(body["lastTimestamp"], "1970-01-12T13:46:45Z");
        assert!(matches!(correlator.take(occurrence("x", "n"), at(6)), Some(Write::Create(_))));
    }

    #[test]
    fn many_similar_messages_become_one_event() {
        let mut correlator = correlator();
        let mut created = 0;
        for i in 0..20 {
            match correlator.take(occurrence("x", &format!("try {i}")), at(i)) {
                Some(Write::Create(_)) => created += 1,
                Some(Write::Count { event, .. }) => {
                    let message = event.message.unwrap();
                    assert!(message.starts_with("(combined from similar events): try "));
                }
                None => panic!("within the burst"),
            }
        }
        assert_eq!(created, 10);
    }

    #[test]
    fn a_flood_about_one_object_is_held_back() {
        let mut correlator = correlator();
        let mut written = 0;
        for _ in 0..100 {
            written += usize::from(correlator.take(occurrence("x", "m"), at(0)).is_some());
        }
        assert_eq!(written, 25);
        assert!(correlator.take(occurrence("y", "m"), at(0)).is_some(), "others are not held back");
        assert!(correlator.take(occurrence("x", "m"), at(299)).is_none());
        assert!(correlator.take(occurrence("x", "m"), at(301)).is_some());
    }

    #[test]
    fn caches_and_messages_are_bounded() {
        let mut correlator = correlator();
        for i in 0..(ENTRIES_MAX + 10) {
            correlator.take(occurrence(&format!("p{i}"), &"é".repeat(2000)), at(i as i64));
        }
        assert_eq!(correlator.known.len(), ENTRIES_MAX);
        assert_eq!(correlator.messages.len(), ENTRIES_MAX);
        assert_eq!(correlator.buckets.len(), ENTRIES_MAX);
        let longest = correlator.known.values().map(|k| k.event.message.as_ref().unwrap().len());
        assert_eq!(longest.max(), Some(MESSAGE_BYTES_MAX));
    }
}
