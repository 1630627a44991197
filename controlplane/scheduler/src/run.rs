//! The loop: observe, decide, act. One task owns the snapshot and the queue; writes run beside it.
//!
//! Nothing waits for a tick: a pod is decided on as soon as the view shows it, and its node counts
//! as taken from then on, while the binding is still on its way.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use informer::{ActionError, EventRecorder, Object};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use objects::ObjectKey;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info, info_span, warn};

use crate::act::Act;
use crate::filters::Filter;
use crate::observe::{
    AFTER_A_POD_CAME, AFTER_A_POD_LEFT, ALL, Seen, Versions, Views, changed_minds,
};
use crate::plan::{Decision, schedule};
use crate::pod::PodInfo;
use crate::queue::Queue;
use crate::snapshot::Snapshot;

/// Writes under way. A binding takes about as long as an fsync; more of them at once only wait for
/// each other in the store's group commit.
const WRITES_MAX: usize = 256;

/// What the scheduler has to be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pods that ask for this scheduler are taken: `default-scheduler`.
    pub scheduler_name: String,
}

/// Schedules pods until `shutdown`.
pub async fn run(config: Config, client: Client, views: Views, shutdown: CancellationToken) {
    let name = config.scheduler_name.clone();
    let recorder = EventRecorder::new(client.clone(), &name, None, shutdown.clone());
    let scheduler = Scheduler {
        config,
        act: Act { client, recorder },
        snapshot: Snapshot::default(),
        queue: Queue::default(),
        assumed: BTreeMap::new(),
        writes: JoinSet::new(),
        views,
    };
    let work = scheduler.work().instrument(info_span!("scheduler"));
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

/// How a write beside the loop ended.
enum Written {
    /// A binding, and whether it worked.
    Binding(Arc<PodInfo>, Result<(), Box<ActionError>>),
    /// A verdict or an eviction; nothing depends on it.
    Told,
}

struct Scheduler {
    config: Config,
    act: Act,
    snapshot: Snapshot,
    queue: Queue,
    /// Pods that have been given a node that the view does not show yet, with their uid.
    assumed: BTreeMap<ObjectKey, String>,
    writes: JoinSet<Written>,
    views: Views,
}

impl Scheduler {
    async fn work(mut self) {
        let mut changes = self.views.changes();
        self.views.wait_synced().await;
        loop {
            // All that is known is taken in before the next decision.
            while let Some(seen) = changes.next().now_or_never() {
                let Some(seen) = seen else { return };
                self.take_in(seen);
            }
            self.queue.promote(Instant::now());
            while let Some(written) = self.writes.try_join_next() {
                self.finish(written);
            }
            if self.writes.len() < WRITES_MAX
                && let Some(pod) = self.queue.pop()
            {
                self.decide(pod);
                // Lets the writes begin, and other tasks run between decisions.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.queue.next_due();
            tokio::select! {
                seen = changes.next() => match seen {
                    Some(seen) => self.take_in(seen),
                    None => return,
                },
                Some(written) = self.writes.join_next() => self.finish(written),
                () = sleep_until(due) => {}
            }
        }
    }

    fn take_in(&mut self, seen: Seen) {
        let now = Instant::now();
        match seen {
            Seen::Resync => self.look_again(now),
            Seen::Pod(versions) => self.take_in_pod(versions, now),
            Seen::Node((key, old, new)) => {
                let filters = changed_minds(old.as_deref(), new.as_deref());
                match new {
                    Some(node) => self.snapshot.set_node(node),
                    None => self.snapshot.remove_node(&key.name),
                }
                if !filters.is_empty() {
                    self.queue.wake(&filters, now);
                }
            }
            Seen::Namespace((key, old, new)) => {
                let labels = |ns: &k8s_openapi::api::core::v1::Namespace| {
                    ns.metadata.labels.clone().unwrap_or_default()
                };
                if old.as_deref().map(labels) != new.as_deref().map(labels) {
                    self.queue.wake(&[Filter::InterPodAffinity], now);
                }
                match new {
                    Some(new) => self.snapshot.namespaces.insert(key.name, labels(&new)),
                    None => self.snapshot.namespaces.remove(&key.name),
                };
            }
            Seen::Volume((key, _, new)) => {
                match new {
                    Some(new) => self.snapshot.volumes.insert(key.name, new),
                    None => self.snapshot.volumes.remove(&key.name),
                };
                self.queue.wake(&[Filter::Volumes], now);
            }
            Seen::Claim((key, _, new)) => {
                match new {
                    Some(new) => self.snapshot.claims.insert(key, new),
                    None => self.snapshot.claims.remove(&key),
                };
                self.queue.wake(&[Filter::Volumes], now);
            }
        }
    }

    /// Starts over from the views. What is on its way stays assumed.
    fn look_again(&mut self, now: Instant) {
        debug!("looking at everything again");
        let before = std::mem::take(&mut self.snapshot);
        for node in self.views.nodes.list() {
            self.snapshot.set_node(node);
        }
        for namespace in self.views.namespaces.list() {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            self.snapshot.namespaces.insert(namespace.key().name, labels);
        }
        for volume in self.views.volumes.list() {
            self.snapshot.volumes.insert(volume.key().name, volume);
        }
        for claim in self.views.claims.list() {
            self.snapshot.claims.insert(claim.key(), claim);
        }
        let queued = std::mem::take(&mut self.queue);
        drop(queued);
        let assumed: Vec<ObjectKey> = self.assumed.keys().cloned().collect();
        for key in assumed {
            if let (Some(pod), Some(node)) = (before.placed_pod(&key), before.place_of(&key)) {
                self.snapshot.place(Arc::clone(pod), node);
            }
        }
        for pod in self.views.pods.list() {
            self.take_in_pod((pod.key(), None, Some(pod)), now);
        }
        self.queue.wake(&ALL, now);
    }

    fn take_in_pod(&mut self, (key, old, new): Versions<Pod>, now: Instant) {
        let new = new.filter(|pod| !is_finished(pod));
        let Some(pod) = new else { return self.drop_pod(&key, now) };
        // Another pod of the same name: first let go of the one before it.
        if old.is_some_and(|old| old.uid() != pod.uid()) {
            self.drop_pod(&key, now);
        }
        if node_name(&pod).is_empty() {
            self.take_in_pending(key, pod, now);
            return;
        }
        self.assumed.remove(&key);
        self.queue.remove(&key);
        let node = node_name(&pod).to_string();
        let known = self.snapshot.placed_pod(&key);
        let came = known.is_none_or(|known| known.labels() != pod.metadata.labels.as_ref());
        let resized = known.is_some_and(|known| known.pod.spec != pod.spec);
        self.snapshot.place(Arc::new(PodInfo::new(pod)), &node);
        if came {
            self.queue.wake(&AFTER_A_POD_CAME, now);
        }
        if resized {
            self.queue.wake(&AFTER_A_POD_LEFT, now);
        }
    }

    fn take_in_pending(&mut self, key: ObjectKey, pod: Arc<Pod>, now: Instant) {
        // Its node is decided; only the view does not show it yet.
        if self.assumed.get(&key).is_some_and(|uid| uid == pod.uid()) {
            return;
        }
        let spec = pod.spec.as_ref();
        let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref());
        let is_ours = scheduler.is_none_or(|name| name == self.config.scheduler_name);
        let is_gated = spec
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        if !is_ours || is_gated || pod.is_terminating() {
            self.queue.remove(&key);
            return;
        }
        let status = pod.status.as_ref();
        let nominated = status.and_then(|status| status.nominated_node_name.clone());
        let info = Arc::new(PodInfo::new(pod));
        if let Some(node) = nominated.filter(|node| !node.is_empty()) {
            self.snapshot.nominate(Arc::clone(&info), &node);
        }
        self.queue.add(info, now);
    }

    fn drop_pod(&mut self, key: &ObjectKey, now: Instant) {
        self.assumed.remove(key);
        self.queue.remove(key);
        if self.snapshot.remove_pod(key).is_some() {
            self.queue.wake(&AFTER_A_POD_LEFT, now);
        }
    }

    fn decide(&mut self, pod: Arc<PodInfo>) {
        let _span = debug_span!("schedule", pod = %pod.key).entered();
        let budgets = self.views.disruption_budgets();
        match schedule(&self.snapshot, &pod, &budgets, seed(&pod)) {
            Decision::Bind { node, feasible } => {
                debug!(node, feasible, "decided");
                self.snapshot.place(Arc::clone(&pod), &node);
                self.assumed.insert(pod.key.clone(), pod.uid().to_string());
                let act = self.act.clone();
                let span = info_span!("bind", pod = %pod.key);
                let write = async move {
                    let result = act.bind(&pod, &node).await.map_err(Box::new);
                    Written::Binding(pod, result)
                };
                self.writes.spawn(write.instrument(span));
            }
            Decision::Unschedulable(diagnosis) => {
                info!(pod = %pod.key, reason = diagnosis.message(), "no node");
                self.queue.park(&pod.key, diagnosis.filters(), Instant::now());
                if let Some(eviction) = &diagnosis.eviction {
                    self.snapshot.nominate(Arc::clone(&pod), &eviction.node);
                }
                let act = self.act.clone();
                let write = async move {
                    if let Some(eviction) = &diagnosis.eviction {
                        act.evict(&pod, eviction).await;
                    }
                    act.tell(&pod, &diagnosis).await;
                    Written::Told
                };
                self.writes.spawn(write.instrument(info_span!("verdict")));
            }
        }
    }

    fn finish(&mut self, written: Result<Written, tokio::task::JoinError>) {
        let written = written.expect("writes neither panic nor are they cancelled");
        let Written::Binding(pod, Err(error)) = written else { return };
        let now = Instant::now();
        if self.assumed.get(&pod.key).is_none_or(|uid| uid != pod.uid()) {
            return; // The view has shown since what became of it.
        }
        warn!(pod = %pod.key, error = &*error as &dyn std::error::Error, "binding failed");
        self.assumed.remove(&pod.key);
        if self.snapshot.remove_pod(&pod.key).is_some() {
            self.queue.wake(&AFTER_A_POD_LEFT, now);
        }
        // What the view shows decides what to do with it: nothing, if it is bound or gone.
        match self.views.pods.get(&pod.key) {
            Some(current) if node_name(&current).is_empty() => {
                self.take_in_pod((pod.key.clone(), None, Some(current)), now);
                self.queue.retry(&pod.key, now);
            }
            current => self.take_in_pod((pod.key.clone(), None, current), now),
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Breaks ties the same way for the same pod.
fn seed(pod: &PodInfo) -> u64 {
    let mut hasher = DefaultHasher::new();
    pod.uid().hash(&mut hasher);
    hasher.finish()
}
