//! What is known of a pod besides its object, and the shared look at the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use images::Image;
use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::{ContainerSeen, ContainerState, Resources, Runtime, RuntimeError, SandboxSeen};

use crate::record::{PodRecord, Probed};

/// Something that went wrong with a pod and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Reason for the status, such as `ErrImagePull`.
    pub(crate) reason: String,
    /// Text for people.
    pub(crate) message: String,
    /// When it last failed.
    pub(crate) failed_at: Timestamp,
    /// Not tried again before this time.
    pub(crate) retry_at: Timestamp,
    /// Failures in a row.
    pub(crate) failures: u32,
}

/// How far something is that is prepared for a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Prepared<T> {
    /// Not tried.
    #[default]
    No,
    /// Done.
    Yes(T),
    /// Failed.
    Failed(Problem),
}

/// What is under way for a pod. A pod never has two of the same at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Volumes are set up or brought up to date.
    Volumes,
    /// The sandbox is made and connected.
    Sandbox,
    /// The image of a container is looked for or pulled.
    Image(String),
    /// A container is started.
    Start(String),
    /// A container's postStart hook runs.
    PostStart(String),
    /// A container (id) is stopped.
    Stop(String),
    /// A container (id) is removed.
    Remove(String),
    /// Limits of a container (id) are changed.
    Resize(String),
    /// Addresses are given back.
    Release,
    /// Everything of the pod is removed.
    RemoveAll,
    /// The status is written.
    Status,
    /// The API is told that nothing is left of the pod.
    Forget,
}

/// Why a probe wants a container killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    /// Text for the Event.
    pub(crate) message: String,
    /// The probe's own grace period.
    pub(crate) grace_secs: Option<i64>,
}

/// Everything that `plan` and `status` know of a pod besides its object.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodSeen {
    /// What the runtime has.
    pub(crate) sandbox: Option<SandboxSeen>,
    /// Addresses that the network has given.
    pub(crate) addresses: Vec<IpAddr>,
    /// Last failure to make or connect the sandbox.
    pub(crate) sandbox_problem: Option<Problem>,
    /// Volumes.
    pub(crate) volumes: Prepared<()>,
    /// Something that volumes are made from has changed.
    pub(crate) volumes_stale: bool,
    /// Images by container, from a look or pull that no start has used yet.
    pub(crate) images: BTreeMap<String, Prepared<Image>>,
    /// Last failure to make a container's spec or to start it.
    pub(crate) start_problems: BTreeMap<String, Problem>,
    /// Probe results by container id.
    pub(crate) probed: BTreeMap<String, Probed>,
    /// Containers (ids) that a probe or a failed hook wants killed.
    pub(crate) condemned: BTreeMap<String, Condemned>,
    /// Limits that were set in place, by container id.
    pub(crate) resized: BTreeMap<String, Resources>,
    /// Last termination messages, by container id.
    pub(crate) messages: BTreeMap<String, String>,
    /// Operations under way.
    pub(crate) in_flight: BTreeSet<Operation>,
    /// What is on disk.
    pub(crate) record: PodRecord,
    /// Everything of the pod is gone from this node.
    pub(crate) gone: bool,
}

impl PodSeen {
    /// All attempts of a container, oldest first.
    pub(crate) fn attempts(&self, name: &str) -> Vec<&ContainerSeen> {
        let all = self.sandbox.iter().flat_map(|sandbox| &sandbox.containers);
        let mut own: Vec<_> = all.filter(|container| container.spec.name == name).collect();
        own.sort_by_key(|container| container.spec.attempt);
        own
    }

    /// The last attempt of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerSeen> {
        self.attempts(name).pop()
    }

    /// Containers that have not ended.
    pub(crate) fn alive(&self) -> Vec<&ContainerSeen> {
        let all = self.sandbox.iter().flat_map(|sandbox| &sandbox.containers);
        all.filter(|container| !matches!(container.state, ContainerState::Exited(_))).collect()
    }

    /// Whether this is under way.
    pub(crate) fn is_doing(&self, operation: &Operation) -> bool {
        self.in_flight.contains(operation)
    }

    /// What probes found of a container; what this agent does not know yet, the last one knew.
    pub(crate) fn probed(&self, id: &str) -> Probed {
        let now = self.probed.get(id).copied().unwrap_or_default();
        let before = self.record.probed.get(id).copied().unwrap_or_default();
        Probed { ready: now.ready.or(before.ready), started: now.started.or(before.started) }
    }

    /// The pod's addresses, also when they have been given back.
    pub(crate) fn known_addresses(&self) -> &[IpAddr] {
        if self.addresses.is_empty() { &self.record.addresses } else { &self.addresses }
    }
}

/// Shares looks at the runtime: all that ask while one look is under way are answered by the next
/// one, so that a burst of a hundred pods costs a few looks and not a hundred.
pub(crate) struct Observer {
    runtime: Arc<dyn Runtime>,
    latest: Mutex<Look>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Look {
    /// Counts looks begun.
    begun: u64,
    /// Number of the look that `sandboxes` is from.
    finished: u64,
    sandboxes: BTreeMap<String, Arc<SandboxSeen>>,
}

impl Observer {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        let (latest, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { runtime, latest, turn }
    }

    /// Looks at everything; the look begins after this call.
    pub(crate) async fn look(&self) -> Result<(), RuntimeError> {
        let asked_at = self.latest.lock().begun;
        let turn = self.turn.lock().await;
        let number = {
            let mut latest = self.latest.lock();
            if latest.finished > asked_at {
                // A look began and ended while this one waited for its turn.
                return Ok(());
            }
            latest.begun += 1;
            latest.begun
        };
        let seen = self.runtime.observe().await?;
        let sandboxes =
            seen.into_iter().map(|sandbox| (sandbox.spec.pod_uid.clone(), Arc::new(sandbox)));
        let mut latest = self.latest.lock();
        latest.sandboxes = sandboxes.collect();
        latest.finished = number;
        drop(latest);
        drop(turn);
        Ok(())
    }

    /// The sandbox of a pod, as of now.
    pub(crate) async fn pod(&self, uid: &str) -> Result<Option<Arc<SandboxSeen>>, RuntimeError> {
        self.look().await?;
        Ok(self.known(uid))
    }

    /// The sandbox of a pod, as of the last look.
    pub(crate) fn known(&self, uid: &str) -> Option<Arc<SandboxSeen>> {
        self.latest.lock().sandboxes.get(uid).cloned()
    }

    /// Every sandbox, as of the last look.
    pub(crate) fn all(&self) -> Vec<Arc<SandboxSeen>> {
        self.latest.lock().sandboxes.values().cloned().collect()
    }
}
