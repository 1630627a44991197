//! Sandboxes: making and taking down.

use std::path::PathBuf;
use std::sync::Arc;

use super::{KILL_LIMIT, LinuxRuntime, Shared, at, blocking};
use crate::record::{SandboxRecord, now_nanos};
use crate::sandbox::{self, SandboxError};
use crate::spec::{Namespaces, PidNamespace};
use crate::{Resources, RuntimeError, SandboxSpec};

impl From<SandboxError> for RuntimeError {
    fn from(error: SandboxError) -> Self {
        Self::Io { operation: error.operation, path: error.path, source: error.source }
    }
}

impl LinuxRuntime {
    pub(super) async fn make_sandbox(
        &self,
        spec: &SandboxSpec,
    ) -> Result<Option<PathBuf>, RuntimeError> {
        if let Some(known) = self.shared.memory().sandboxes.get(&spec.pod_uid) {
            return Ok(known.namespaces.network.clone());
        }
        let (shared, wanted) = (self.shared.clone(), spec.clone());
        let record = blocking(move || shared.build_sandbox(wanted)).await?;
        let network = record.namespaces.network.clone();
        self.shared.memory().sandboxes.insert(spec.pod_uid.clone(), Arc::new(record));
        self.shared.changed(&spec.pod_uid);
        Ok(network)
    }

    pub(super) async fn take_down_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let Some(sandbox) = self.shared.memory().sandboxes.get(pod_uid).cloned() else {
            return Ok(());
        };
        let containers = self.shared.memory().of_pod(pod_uid);
        let removals = containers.iter().map(|container| self.remove(&container.record.spec.id));
        // All of them, even if one fails.
        for removed in futures::future::join_all(removals).await {
            removed?;
        }
        let shared = self.shared.clone();
        blocking(move || shared.clear_sandbox(&sandbox)).await?;
        self.shared.memory().sandboxes.remove(pod_uid);
        self.shared.changed(pod_uid);
        Ok(())
    }
}

impl Shared {
    /// Makes the pod's cgroup and namespaces. Blocks.
    fn build_sandbox(&self, spec: SandboxSpec) -> Result<SandboxRecord, RuntimeError> {
        let folder = self.sandbox_folder(&spec.pod_uid);
        // What an earlier attempt has left half done.
        sandbox::remove(&folder)?;
        std::fs::create_dir_all(&folder).map_err(at("create", folder.clone()))?;
        let group = self.tree.group(&spec.cgroup);
        group.create(&spec.resources).map_err(at("create cgroup", group.path.clone()))?;
        let pinned = sandbox::make(&folder, &spec)?;
        let pid = if spec.host_pid {
            PidNamespace::Node
        } else if spec.share_process_namespace {
            PidNamespace::Shared(self.build_holder(&spec, &folder)?)
        } else {
            PidNamespace::Private
        };
        let record = SandboxRecord {
            namespaces: Namespaces {
                network: pinned.network,
                ipc: pinned.ipc,
                uts: pinned.uts,
                pid,
            },
            shm: pinned.shm,
            created_at_nanos: now_nanos(),
            spec,
        };
        record.write(&folder).map_err(at("write", folder))?;
        Ok(record)
    }

    /// Starts PID 1 of the pod in a cgroup below the pod's, and pins its namespace.
    fn build_holder(
        &self,
        spec: &SandboxSpec,
        folder: &std::path::Path,
    ) -> Result<PathBuf, RuntimeError> {
        let group = self.tree.group(&format!("{}/sandbox", spec.cgroup));
        group.create(&Resources::default()).map_err(at("create cgroup", group.path.clone()))?;
        let pid =
            self.zygote.holder(group.unified.clone()).map_err(at("start the holder of", folder))?;
        group.add(pid).map_err(at("add a process to cgroup", group.path.clone()))?;
        Ok(sandbox::pin_holder(folder, pid)?)
    }

    /// Removes what [`Self::build_sandbox`] has made. Blocks.
    pub(super) fn clear_sandbox(&self, sandbox: &SandboxRecord) -> Result<(), RuntimeError> {
        let group = self.tree.group(&sandbox.spec.cgroup);
        group.kill();
        sandbox::remove(&self.sandbox_folder(&sandbox.spec.pod_uid))?;
        group.remove(KILL_LIMIT).map_err(at("remove cgroup", group.path.clone()))
    }
}
