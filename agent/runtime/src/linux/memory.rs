//! What the agent remembers of sandboxes and containers. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::record::{ContainerRecord, SandboxRecord};
use crate::{ContainerSeen, ContainerState, SandboxSeen};

#[derive(Default)]
pub(super) struct Memory {
    /// By pod UID.
    pub(super) sandboxes: BTreeMap<String, Arc<SandboxRecord>>,
    /// By container id.
    containers: BTreeMap<String, Container>,
}

/// A container. Its state is changed by its watching task only.
#[derive(Clone)]
pub(super) struct Container {
    pub(super) record: Arc<ContainerRecord>,
    pub(super) state: watch::Sender<ContainerState>,
}

impl Container {
    pub(super) fn new(record: ContainerRecord, state: ContainerState) -> Self {
        Self { record: Arc::new(record), state: watch::Sender::new(state) }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Running { .. })
    }

    pub(super) fn is_exited(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Exited(_))
    }
}

impl Memory {
    pub(super) fn container(&self, id: &str) -> Option<Container> {
        self.containers.get(id).cloned()
    }

    pub(super) fn insert(&mut self, container: Container) {
        self.containers.insert(container.record.spec.id.clone(), container);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// The containers of a pod.
    pub(super) fn of_pod(&self, pod_uid: &str) -> Vec<Container> {
        self.containers
            .values()
            .filter(|container| container.record.spec.pod_uid == pod_uid)
            .cloned()
            .collect()
    }

    /// Everything, sandboxes by pod UID, containers by age.
    pub(super) fn seen(&self) -> Vec<SandboxSeen> {
        let mut containers: BTreeMap<&str, Vec<ContainerSeen>> = BTreeMap::new();
        for container in self.containers.values() {
            let record = &container.record;
            containers.entry(&record.spec.pod_uid).or_default().push(ContainerSeen {
                spec: record.spec.clone(),
                state: container.state.borrow().clone(),
                created_at_nanos: record.created_at_nanos,
            });
        }
        self.sandboxes
            .iter()
            .map(|(uid, sandbox)| {
                let mut containers = containers.remove(uid.as_str()).unwrap_or_default();
                containers.sort_by(|left, right| {
                    (left.created_at_nanos, &left.spec.id)
                        .cmp(&(right.created_at_nanos, &right.spec.id))
                });
                SandboxSeen {
                    spec: sandbox.spec.clone(),
                    netns: sandbox.namespaces.network.clone(),
                    containers,
                    created_at_nanos: sandbox.created_at_nanos,
                }
            })
            .collect()
    }
}
