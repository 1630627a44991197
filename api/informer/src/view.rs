//! A shared, indexed, typed snapshot of what a list and watch have seen.
//!
//! Readers get `Arc`s and never wait for the network. One writer feeds it: [`crate::reflect()`], or
//! a test. Changes are announced on a bounded channel; a reader that falls behind is told to look
//! at everything again, so no change is ever missed for good.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use objects::{ObjectKey, Revision};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::Object;
use crate::announce::{Announcements, Announcer, Heard};

/// Changes that a reader may lag behind before it is told to resync: the pods of a full rollout of
/// a thousand replicas (create, bind, run, ready) fit.
const CHANGES_MAX: usize = 4096;

/// The function of an [`Index`]: the values under which an object is found.
type Values<K> = fn(&K) -> Vec<String>;

/// A named way to find objects by a derived value, such as pods by node.
#[derive(Debug, Clone, Copy)]
pub struct Index<K> {
    name: &'static str,
    values: Values<K>,
}

impl<K> Index<K> {
    /// An index called `name`; `values` gives the values under which an object is found.
    pub const fn new(name: &'static str, values: Values<K>) -> Self {
        Self { name, values }
    }
}

/// Name of the index made by [`by_owner_uid`].
pub const OWNER_UID: &str = "owner-uid";

/// The index that finds objects by the uid of any of their owners.
pub const fn by_owner_uid<K: Object>() -> Index<K> {
    Index::new(OWNER_UID, |object| {
        let owners = object.meta().owner_references.as_deref().unwrap_or(&[]);
        owners.iter().map(|owner| owner.uid.clone()).collect()
    })
}

/// How far a view has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The revision up to which everything has been seen.
    pub revision: Revision,
    /// Whether the first list is complete.
    pub synced: bool,
}

/// One thing that happened to a view.
#[derive(Debug)]
pub enum Change<K> {
    /// An object came (`old` is `None`), changed, or went (`new` is `None`).
    Object {
        /// Which object.
        key: ObjectKey,
        /// Before.
        old: Option<Arc<K>>,
        /// After.
        new: Option<Arc<K>>,
    },
    /// Anything may have changed: look at the whole view again.
    Resync,
}

// Derived `Clone` would ask for `K: Clone`, which only the `Arc`s need.
impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Resync => Self::Resync,
            Self::Object { key, old, new } => {
                Self::Object { key: key.clone(), old: old.clone(), new: new.clone() }
            }
        }
    }
}

#[derive(Debug)]
struct State<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// One map per registered index, in the same order.
    indexed: Vec<HashMap<String, BTreeSet<ObjectKey>>>,
}

#[derive(Debug)]
struct Shared<K> {
    indexes: Vec<Index<K>>,
    state: RwLock<State<K>>,
    progress: watch::Sender<Progress>,
    changes: Announcer<Change<K>>,
}

/// A shared snapshot of the objects of one kind; clones share it.
#[derive(Debug)]
pub struct View<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for View<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Object> View<K> {
    /// An empty, unsynced view and its writer.
    pub fn new(indexes: Vec<Index<K>>) -> (Self, ViewWriter<K>) {
        let indexed = indexes.iter().map(|_| HashMap::new()).collect();
        let shared = Arc::new(Shared {
            indexes,
            state: RwLock::new(State { objects: BTreeMap::new(), indexed }),
            progress: watch::Sender::new(Progress::default()),
            changes: Announcer::new(CHANGES_MAX),
        });
        (Self { shared: Arc::clone(&shared) }, ViewWriter { shared })
    }

    /// A synced view that never changes; what tests of pure plans are given.
    pub fn fixed(objects: impl IntoIterator<Item = K>, indexes: Vec<Index<K>>) -> Self {
        let (view, writer) = Self::new(indexes);
        writer.replace(objects.into_iter().map(Arc::new).collect(), Revision(1));
        view
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.state.read().objects.get(key).cloned()
    }

    /// Every object, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.shared.state.read();
        let from = Bound::Included(ObjectKey::new(namespace, ""));
        let range = state.objects.range((from, Bound::Unbounded));
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, o)| o.clone()).collect()
    }

    /// The objects found under `value` in the index called `index`, by namespace and name.
    ///
    /// # Panics
    /// If no such index was registered: that is a mistake in the program.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let at = self.shared.indexes.iter().position(|known| known.name == index);
        let at = at.unwrap_or_else(|| panic!("the view has no index {index:?}"));
        let state = self.shared.state.read();
        let keys = state.indexed[at].get(value);
        keys.into_iter().flatten().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision up to which everything has been seen.
    pub fn revision(&self) -> Revision {
        self.shared.progress.borrow().revision
    }

    /// Whether the first list is complete.
    pub fn synced(&self) -> bool {
        self.shared.progress.borrow().synced
    }

    /// Waits until the first list is complete; returns at once if it is, and also when the writer
    /// is gone (shutdown).
    pub async fn wait_synced(&self) {
        self.wait(|progress| progress.synced).await;
    }

    /// Waits until the view has seen `revision`; also returns when the writer is gone (shutdown).
    pub async fn wait_revision(&self, revision: Revision) {
        self.wait(|progress| progress.revision >= revision).await;
    }

    async fn wait(&self, reached: impl FnMut(&Progress) -> bool) {
        // The view itself holds a sender, so this cannot fail; callers bound it by their shutdown.
        let mut progress = self.shared.progress.subscribe();
        drop(progress.wait_for(reached).await);
    }

    /// A receiver of [`Progress`], for waiting on conditions that only a look at the view answers.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Changes from now on. The first one is always [`Change::Resync`], so that a reader has one
    /// code path for "start" and "fell behind".
    pub fn changes(&self) -> Changes<K> {
        Changes { announcements: self.shared.changes.subscribe() }
    }
}

/// A reader's place in a view's changes.
#[derive(Debug)]
pub struct Changes<K> {
    announcements: Announcements<Change<K>>,
}

impl<K: Object> Changes<K> {
    /// The next change; `None` once the view and its writer are gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change<K>> {
        Some(match self.announcements.next().await? {
            Heard::Item(change) => change,
            Heard::Missed => Change::Resync,
        })
    }
}

/// The one writer of a view.
#[derive(Debug)]
pub struct ViewWriter<K> {
    shared: Arc<Shared<K>>,
}

impl<K: Object> ViewWriter<K> {
    /// Whether anybody still holds the view.
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Replaces everything by a complete list taken at `revision`; the view is synced after it.
    pub fn replace(&self, objects: Vec<Arc<K>>, revision: Revision) {
        let mut fresh: BTreeMap<_, _> = objects.into_iter().map(|o| (o.key(), o)).collect();
        let known: Vec<ObjectKey> = self.shared.state.read().objects.keys().cloned().collect();
        for key in known {
            if !fresh.contains_key(&key) {
                self.set(key, None);
            }
        }
        while let Some((key, object)) = fresh.pop_first() {
            self.set(key, Some(object));
        }
        self.advance(revision, true);
    }

    /// Takes in a new version of an object.
    pub fn apply(&self, object: K) {
        let revision = Revision(object.revision());
        self.set(object.key(), Some(Arc::new(object)));
        self.advance(revision, false);
    }

    /// Takes in that an object went away at `revision`.
    pub fn remove(&self, key: ObjectKey, revision: Revision) {
        self.set(key, None);
        self.advance(revision, false);
    }

    /// Takes in that nothing else happened up to `revision`.
    pub fn advance_to(&self, revision: Revision) {
        self.advance(revision, false);
    }

    fn set(&self, key: ObjectKey, new: Option<Arc<K>>) {
        let mut state = self.shared.state.write();
        let old = match &new {
            Some(object) => state.objects.insert(key.clone(), Arc::clone(object)),
            None => state.objects.remove(&key),
        };
        let same_version = match (&old, &new) {
            (Some(old), Some(new)) => old.revision() == new.revision() && new.revision() != 0,
            (None, None) => true,
            _ => false,
        };
        if same_version {
            return;
        }
        for (index, indexed) in self.shared.indexes.iter().zip(&mut state.indexed) {
            for value in old.iter().flat_map(|object| (index.values)(object)) {
                if let Some(keys) = indexed.get_mut(&value) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        indexed.remove(&value);
                    }
                }
            }
            for value in new.iter().flat_map(|object| (index.values)(object)) {
                indexed.entry(value).or_default().insert(key.clone());
            }
        }
        // Said under the lock, so that changes are announced in the order in which they are seen.
        self.shared.changes.announce(&Change::Object { key, old, new });
    }

    fn advance(&self, revision: Revision, synced: bool) {
        self.shared.progress.send_modify(|progress| {
            progress.revision = progress.revision.max(revision);
            progress.synced |= synced;
        });
    }
}

#[cfg(test)]
mod tests;
