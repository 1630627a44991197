//! Hands pods to their workers, from the API, from the runtime and from static manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use informer::{Change, EventType, View};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use runtime::SandboxSeen;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::act::{blocking, whole};
use crate::admission::{Room, admit};
use crate::context::Context;
use crate::pod::PodExt;
use crate::record::{PodRecord, recorded_uids};
use crate::volumes::unmount::remove_tree;
use crate::worker::{Handle, Published, Worker};

/// The workers of this node, for those who need to find a pod.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<String, Arc<Handle>>>);

impl Registry {
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Handle>> {
        self.0.lock().get(uid).cloned()
    }

    /// Every pod, by uid.
    pub(crate) fn all(&self) -> Vec<(String, Published)> {
        let handles: Vec<_> =
            self.0.lock().iter().map(|(uid, handle)| (uid.clone(), Arc::clone(handle))).collect();
        handles.into_iter().map(|(uid, handle)| (uid, handle.published())).collect()
    }

    /// The pod of that name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Published> {
        let all = self.all().into_iter().map(|(_, published)| published);
        let mut named = all.filter(|p| p.pod.namespace() == namespace && p.pod.name() == name);
        // While a pod is going away another of its name may have come: the new one counts.
        let first = named.next()?;
        Some(named.fold(first, |a, b| if a.pod.is_deleted() { b } else { a }))
    }
}

/// Where pods are handed out.
pub(crate) struct Pods {
    context: Arc<Context>,
    registry: Arc<Registry>,
    view: View<Pod>,
    workers: JoinSet<String>,
    /// Pods that are done with here, until the view has seen them go.
    finished: BTreeSet<String>,
}

impl Pods {
    pub(crate) fn new(context: Arc<Context>, registry: Arc<Registry>, view: View<Pod>) -> Self {
        Self { context, registry, view, workers: JoinSet::new(), finished: BTreeSet::new() }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        let shutdown = self.context.shutdown.clone();
        let mut runtime_changes = self.context.deps.runtime.changes();
        let mut node_changes = self.context.node.changes();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.view.wait_synced() => {}
        }
        while let Err(error) = self.context.observer.look().await {
            tracing::warn!(error = whole(&error), "runtime not seen, looking again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
        self.adopt().await;
        let mut changes = self.view.changes();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                change = changes.next() => match change {
                    None => break,
                    Some(Change::Resync) => self.resync(),
                    Some(Change::Object { old, new, .. }) => self.changed(old, new),
                },
                changed = runtime_changes.recv() => self.runtime_changed(changed),
                Some(_) = node_changes.next() => self.wake_waiting(),
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => {
                    match ended {
                        Ok(uid) => self.ended(uid),
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        Err(_) => {}
                    }
                }
            }
        }
        // Workers end by themselves; what they have begun in the runtime is finished first.
        while self.workers.join_next().await.is_some() {}
    }

    /// Takes over what an earlier agent left: its sandboxes go on; what no pod owns is removed.
    async fn adopt(&mut self) {
        let in_api: BTreeSet<String> =
            self.view.list().iter().map(|pod| pod.uid().to_owned()).collect();
        let mut in_runtime = BTreeSet::new();
        for sandbox in self.context.observer.all() {
            let uid = sandbox.spec.pod_uid.clone();
            in_runtime.insert(uid.clone());
            if !in_api.contains(&uid) {
                let record = PodRecord::load(&self.context.config.data_dir, &uid);
                let pod = record.pod.clone().unwrap_or_else(|| stand_in(&sandbox));
                if !pod.is_static() {
                    tracing::info!(pod = %pod.key(), uid, "its pod is gone: stopping it");
                    self.start(Arc::new(pod), false, record);
                }
            }
        }
        for uid in recorded_uids(&self.context.config.data_dir) {
            if in_api.contains(&uid) || in_runtime.contains(&uid) {
                continue;
            }
            let folder = self.context.pod_dir(&uid);
            let removed = blocking(move || remove_tree(&folder)).await;
            match removed {
                Ok(()) => tracing::info!(uid, "removed what a pod had left"),
                Err(error) => tracing::warn!(uid, %error, "what a pod left is not removed"),
            }
        }
    }

    fn resync(&mut self) {
        let mut present = BTreeSet::new();
        for pod in self.view.list() {
            present.insert(pod.uid().to_owned());
            self.take(pod);
        }
        let known: Vec<String> = self.registry.0.lock().keys().cloned().collect();
        for uid in known.iter().filter(|uid| !present.contains(*uid)) {
            if let Some(handle) = self.registry.get(uid)
                && !handle.published().pod.is_static()
            {
                handle.deliver_gone();
            }
        }
        self.finished.retain(|uid| present.contains(uid));
    }

    fn changed(&mut self, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>) {
        let replaced = match (&old, &new) {
            (Some(old), Some(new)) => old.uid() != new.uid(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(old) = old.filter(|_| replaced) {
            self.finished.remove(old.uid());
            if let Some(handle) = self.registry.get(old.uid()) {
                handle.deliver_gone();
            }
        }
        if let Some(new) = new {
            self.take(new);
        }
    }

    /// Hands a version of a pod to its worker, which is made if there is none.
    fn take(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().to_owned();
        // The mirror of a static pod is written, never read.
        if pod.is_mirror() || self.finished.contains(&uid) {
            return;
        }
        if let Some(handle) = self.registry.get(&uid) {
            handle.deliver(pod);
            return;
        }
        let mut record = PodRecord::load(&self.context.config.data_dir, &uid);
        let is_new = record.pod.is_none() && self.context.observer.known(&uid).is_none();
        if is_new && !pod.is_deleted() && !is_final(&pod) {
            self.admit(&pod, &mut record);
        }
        self.start(pod, true, record);
    }

    /// Refuses the pod if there is no room for it.
    fn admit(&self, pod: &Arc<Pod>, record: &mut PodRecord) {
        let others = self.registry.all().into_iter().map(|(_, published)| published);
        let running = |published: &Published| {
            !matches!(published.status.phase.as_deref(), Some("Succeeded" | "Failed"))
        };
        let others: Vec<Arc<Pod>> = others.filter(running).map(|published| published.pod).collect();
        let node = self.context.node_object();
        let room = Room {
            node: node.as_deref(),
            allocatable: self.context.machine.allocatable(self.context.config.reserved),
            pods_max: self.context.config.pods_max,
            unsafe_sysctls: &self.context.config.unsafe_sysctls,
        };
        if let Err(ended) = admit(pod, &others, &room) {
            let (reason, message) = (&ended.reason, &ended.message);
            self.context.event(pod, None, EventType::Warning, reason, message);
            record.ended = Some(ended);
            record.stopping_since = Some(Timestamp::now());
        }
    }

    fn start(&mut self, pod: Arc<Pod>, in_api: bool, record: PodRecord) {
        let uid = pod.uid().to_owned();
        let span =
            tracing::info_span!(parent: None, "pod", ns = pod.namespace(), name = pod.name(), uid);
        let handle = Arc::new(Handle::new(Arc::clone(&pod)));
        self.registry.0.lock().insert(uid.clone(), Arc::clone(&handle));
        let worker = Worker::new(Arc::clone(&self.context), handle, pod, in_api, record);
        self.workers.spawn(
            async move {
                worker.run().await;
                uid
            }
            .instrument(span),
        );
    }

    fn ended(&mut self, uid: String) {
        self.registry.0.lock().remove(&uid);
        let in_view = self.view.list().iter().any(|pod| pod.uid() == uid);
        if in_view {
            self.finished.insert(uid);
        }
    }

    fn runtime_changed(&self, changed: Result<String, broadcast::error::RecvError>) {
        match changed {
            Ok(uid) => {
                if let Some(handle) = self.registry.get(&uid) {
                    handle.runtime_changed();
                }
            }
            // Some were missed: everybody looks.
            Err(_) => {
                for handle in self.registry.0.lock().values() {
                    handle.runtime_changed();
                }
            }
        }
    }

    /// The node has changed: pods that wait for an address range may go on.
    fn wake_waiting(&self) {
        for handle in self.registry.0.lock().values() {
            if handle.published().sandbox.is_none() {
                handle.runtime_changed();
            }
        }
    }
}

fn is_final(pod: &Pod) -> bool {
    let phase = PodExt::status(pod).and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod of which nothing but its sandbox is known.
fn stand_in(sandbox: &SandboxSeen) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(sandbox.spec.pod_name.clone()),
            namespace: Some(sandbox.spec.pod_namespace.clone()),
            uid: Some(sandbox.spec.pod_uid.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { host_network: Some(sandbox.spec.host_network), ..PodSpec::default() }),
        status: None,
    }
}
