//! Config maps and secrets that pods of this node refer to, each watched on its own, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use informer::{Change, Object, Source, View, reflect};
use kube::Client;
use objects::ObjectKey;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// How long a first look at an object may take. Without an answer the pod is tried again later.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Called with the UID of each pod that uses an object which has changed.
pub(crate) type OnChange = Arc<dyn Fn(&str) + Send + Sync>;

struct Entry<K> {
    view: View<K>,
    users: BTreeSet<String>,
    stop: CancellationToken,
}

/// The watched objects of one kind.
pub(crate) struct Watched<K> {
    client: Client,
    shutdown: CancellationToken,
    on_change: OnChange,
    entries: Arc<Mutex<BTreeMap<ObjectKey, Entry<K>>>>,
}

/// An object could not be looked up in time.
#[derive(Debug, thiserror::Error)]
#[error("timed out waiting for {kind} {key}")]
pub(crate) struct LookTimeout {
    kind: &'static str,
    key: ObjectKey,
}

impl<K: Object + k8s_openapi::Resource> Watched<K> {
    pub(crate) fn new(client: Client, shutdown: CancellationToken, on_change: OnChange) -> Self {
        Self { client, shutdown, on_change, entries: Arc::default() }
    }

    /// Says which objects a pod uses from now on. Watches begin and end accordingly.
    pub(crate) fn uses(&self, pod_uid: &str, keys: &BTreeSet<ObjectKey>) {
        let mut entries = self.entries.lock();
        for key in keys {
            let entry = entries.entry(key.clone()).or_insert_with(|| self.start(key));
            entry.users.insert(pod_uid.to_owned());
        }
        entries.retain(|key, entry| {
            if !keys.contains(key) {
                entry.users.remove(pod_uid);
            }
            if entry.users.is_empty() {
                entry.stop.cancel();
            }
            !entry.users.is_empty()
        });
    }

    fn start(&self, key: &ObjectKey) -> Entry<K> {
        let stop = self.shutdown.child_token();
        let fields = format!("metadata.name={}", key.name);
        let source = Source::of::<K>().namespace(&key.namespace).fields(&fields);
        let view = reflect(self.client.clone(), source, Vec::new(), stop.clone());
        let mut changes = view.changes();
        let (entries, on_change) = (Arc::clone(&self.entries), Arc::clone(&self.on_change));
        let (key, stopped) = (key.clone(), stop.clone());
        let span = tracing::info_span!("watched", kind = K::KIND, %key);
        let task = async move {
            loop {
                let change = tokio::select! {
                    () = stopped.cancelled() => return,
                    change = changes.next() => change,
                };
                let Some(change) = change else { return };
                if matches!(change, Change::Resync) {
                    continue;
                }
                let users: Vec<String> = {
                    let entries = entries.lock();
                    entries.get(&key).into_iter().flat_map(|e| e.users.iter().cloned()).collect()
                };
                for user in users {
                    on_change(&user);
                }
            }
        };
        tokio::spawn(task.instrument(span));
        Entry { view, users: BTreeSet::new(), stop }
    }

    /// The object as of now; waits for the first look at it.
    pub(crate) async fn get(&self, key: &ObjectKey) -> Result<Option<Arc<K>>, LookTimeout> {
        let view = self.entries.lock().get(key).map(|entry| entry.view.clone());
        let timeout = || LookTimeout { kind: K::KIND, key: key.clone() };
        let view = view.ok_or_else(timeout)?;
        if tokio::time::timeout(FIRST_LOOK, view.wait_synced()).await.is_err() {
            return Err(timeout());
        }
        Ok(view.get(key))
    }

    /// The object as last seen, without waiting.
    pub(crate) fn known(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.entries.lock().get(key)?.view.get(key)
    }
}
