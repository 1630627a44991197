//! Lists and watches against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{payload, stored};
use crate::{Event, List, MemoryBackend, Options, ReadError, Store, Watch, WatchError, Write};

type State = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Create, or update, or (every third time) delete the key.
    Write { key: usize, delete: bool },
    /// Forget the past up to so many revisions ago.
    Compact { ago: u64 },
    /// Open watch number `watch` (again) at the revision it has reached, or so many ago.
    Connect { watch: usize, back: Option<u64> },
    /// Take what the watch has.
    Drain { watch: usize },
    /// List in pages of `limit`, at so many revisions ago.
    List { scope: usize, limit: usize, ago: u64 },
}

const KEYS: [&str; 8] = [
    "/pods/a/x",
    "/pods/a/x-1",
    "/pods/a/y",
    "/pods/a-b/x",
    "/pods/b/x",
    "/nodes//n",
    "a/b/c/d",
    "a/b/c/e",
];
const SCOPES: [&str; 7] = ["", "/pods/", "/pods/a/", "/pods/a/x", "/nodes//", "a/", "/nothing/"];

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..KEYS.len(), prop::bool::weighted(0.3))
            .prop_map(|(key, delete)| Step::Write { key, delete }),
        1 => (0..30_u64).prop_map(|ago| Step::Compact { ago }),
        3 => (0..SCOPES.len(), prop::option::of(0..20_u64))
            .prop_map(|(watch, back)| Step::Connect { watch, back }),
        3 => (0..SCOPES.len()).prop_map(|watch| Step::Drain { watch }),
        3 => (0..SCOPES.len(), 0..4_usize, 0..20_u64)
            .prop_map(|(scope, limit, ago)| Step::List { scope, limit, ago }),
    ];
    prop::collection::vec(step, 1..150)
}

/// A watcher that keeps a copy of its scope, as an informer does.
#[derive(Default)]
struct Watcher {
    watch: Option<Watch>,
    copy: State,
    reached: u64,
}

struct World {
    store: Store,
    /// The revision that the store began with.
    base: u64,
    /// The state at every revision, from `base`.
    states: Vec<State>,
    watchers: Vec<Watcher>,
}

fn in_scope(scope: &str, key: &str) -> bool {
    if scope.is_empty() || scope.ends_with('/') { key.starts_with(scope) } else { key == scope }
}

impl World {
    fn expected(&self, scope: &str, revision: u64) -> State {
        let state = &self.states[usize::try_from(revision - self.base).expect("small")];
        state
            .iter()
            .filter(|(k, _)| in_scope(scope, k))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    fn ago(&self, revisions: u64) -> u64 {
        self.store.revision().saturating_sub(revisions).max(self.base)
    }

    async fn write(&mut self, key: &str, delete: bool) {
        let text = self.store.revision().to_string();
        let current = self.store.get(key).map(|record| record.revision);
        let write = match (current, delete) {
            (None, _) => Write::Create(payload(&text)),
            (Some(revision), true) => Write::Delete(payload(&text), revision),
            (Some(revision), false) => Write::Update(payload(&text), revision),
        };
        let mut state = self.states.last().expect("starts with one").clone();
        let record = self.store.commit(key, write).await.expect("nobody else writes");
        if current.is_some() && delete {
            state.remove(key);
        } else {
            state.insert(key.to_owned(), stored(&text, record.revision));
        }
        self.states.push(state);
        assert_eq!(record.revision + 1 - self.base, self.states.len() as u64);
    }

    fn connect(&mut self, number: usize, back: Option<u64>) {
        let scope = SCOPES[number];
        let oldest = self.store.stats().oldest;
        let wanted = match back {
            None => self.watchers[number].reached.max(self.base),
            Some(back) => self.ago(back),
        };
        let copy = self.expected(scope, wanted);
        match self.store.watch(scope, wanted) {
            Ok(watch) => {
                assert!(wanted >= oldest);
                self.watchers[number] = Watcher { watch: Some(watch), copy, reached: wanted };
            }
            Err(error) => {
                assert_eq!(error, ReadError::Compacted { asked: wanted, oldest });
                assert!(wanted < oldest);
                let reached = self.store.revision();
                let copy = self.expected(scope, reached);
                self.watchers[number] = Watcher { watch: None, copy, reached };
            }
        }
    }

    fn drain(&mut self, number: usize) {
        let scope = SCOPES[number];
        let watcher = &mut self.watchers[number];
        let Some(watch) = &mut watcher.watch else { return };
        loop {
            match watch.try_next() {
                Ok(Some(group)) => {
                    assert!(!group.is_empty());
                    group.iter().for_each(|event| {
                        take(scope, watcher_state(&mut watcher.copy, &mut watcher.reached), event)
                    });
                }
                Ok(None) => break,
                Err(WatchError::TooSlow { reached, oldest }) => {
                    assert!(reached < oldest && reached >= watcher.reached);
                    watcher.watch = None;
                    return;
                }
                Err(WatchError::Closed) => panic!("nobody closed the store"),
            }
        }
        let progress = watch.progress();
        assert_eq!(progress, self.store.revision());
        watcher.reached = progress;
        let copy = watcher.copy.clone();
        assert_eq!(copy, self.expected(scope, progress), "{scope} at {progress}");
    }

    fn list(&self, scope: &str, limit: usize, ago: u64) {
        let revision = self.ago(ago);
        let oldest = self.store.stats().oldest;
        let mut found = State::new();
        let mut last: Option<String> = None;
        loop {
            let query = List {
                scope,
                start_after: last.as_deref(),
                limit,
                revision: Some(revision),
                count: true,
            };
            let page = match self.store.list(&query) {
                Ok(page) => page,
                Err(error) => {
                    assert_eq!(error, ReadError::Compacted { asked: revision, oldest });
                    assert!(revision < oldest);
                    return;
                }
            };
            assert!(revision >= oldest);
            assert_eq!(page.revision, revision);
            assert!(page.records.is_sorted_by(|a, b| a.key < b.key));
            for record in &page.records {
                let text = String::from_utf8(record.json.to_vec()).expect("text");
                assert_eq!(found.insert(record.key.to_string(), text), None, "no repeats");
            }
            let total = self.expected(scope, revision).len();
            assert_eq!(page.remaining, Some((total - found.len()) as u64));
            assert_eq!(page.more, found.len() < total);
            if !page.more {
                break;
            }
            last = page.records.last().map(|record| record.key.to_string());
        }
        assert_eq!(found, self.expected(scope, revision));
    }
}

fn watcher_state<'a>(copy: &'a mut State, reached: &'a mut u64) -> (&'a mut State, &'a mut u64) {
    (copy, reached)
}

fn take(scope: &str, (copy, reached): (&mut State, &mut u64), event: &Event) {
    assert!(event.revision() > *reached, "in order, without repeats");
    assert!(in_scope(scope, event.key()));
    *reached = event.revision();
    let record = event.record();
    let new = String::from_utf8(record.json.to_vec()).expect("text");
    let key = event.key().to_owned();
    let old = match event {
        Event::Created(_) | Event::Updated(..) => copy.insert(key, new),
        Event::Deleted(..) => copy.remove(&key),
    };
    let previous = event.previous().map(|r| String::from_utf8(r.json.to_vec()).expect("text"));
    assert_eq!(old, previous, "no gaps");
}

/// Carries out the steps on an empty store and on the model.
pub(super) async fn agree(store: Store, steps: Vec<Step>) {
    let watchers = SCOPES.iter().map(|_| Watcher::default()).collect();
    let base = store.revision();
    let mut world = World { store, base, states: vec![State::new()], watchers };
    for step in steps {
        match step {
            Step::Write { key, delete } => world.write(KEYS[key], delete).await,
            Step::Compact { ago } => world.store.compact(world.ago(ago)),
            Step::Connect { watch, back } => world.connect(watch, back),
            Step::Drain { watch } => world.drain(watch),
            Step::List { scope, limit, ago } => world.list(SCOPES[scope], limit, ago),
        }
    }
    (0..SCOPES.len()).for_each(|number| world.drain(number));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn lists_and_watches_agree_with_the_model(steps in steps(), history_events in 3..60_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let options = Options { history_events, ..Options::default() };
            let store = Store::open(Box::new(MemoryBackend), options).await.expect("open");
            agree(store, steps).await;
        });
    }
}
