//! Containers: starting, watching, signalling, removing.

use std::io;
use std::os::fd::OwnedFd;

use tokio::sync::watch;
use tracing::Instrument;

use super::connect::Connection;
use super::memory::Container;
use super::{KILL_LIMIT, LinuxRuntime, Shared, at, blocking, no_container};
use crate::record::{self, ContainerRecord, SandboxRecord, now_nanos};
use crate::shim::failed_start;
use crate::shim::protocol::{Reply, Request};
use crate::spec::named_in;
use crate::{ContainerSpec, ContainerState, Exit, Resources, RuntimeError, Usage, seccomp};

/// Exit code of a container whose shim was killed: what the kernel would say of the container.
const SHIM_KILLED_CODE: i32 = 137;

impl LinuxRuntime {
    pub(super) async fn start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let (container, new) = self.remember(spec)?;
        if new {
            // In a task of its own: a caller that stops waiting must not leave it half started.
            let (runtime, container) = (self.clone(), container.clone());
            tokio::spawn(async move {
                let permit = runtime.shared.starts.acquire().await;
                let permit = permit.expect("the semaphore is never closed");
                runtime.launch(&container).await;
                await_start(&container).await;
                drop(permit);
            });
        }
        match await_start(&container).await {
            ContainerState::Exited(Exit {
                start_error: Some(reason), started_at_nanos: 0, ..
            }) => Err(RuntimeError::Start { id: spec.id.clone(), reason }),
            _ => Ok(()),
        }
    }

    /// Notes the container before anything is made; says whether it is new.
    fn remember(&self, spec: &ContainerSpec) -> Result<(Container, bool), RuntimeError> {
        let mut memory = self.shared.memory();
        if let Some(known) = memory.container(&spec.id) {
            return Ok((known, false));
        }
        let sandbox = memory
            .sandboxes
            .get(&spec.pod_uid)
            .ok_or_else(|| RuntimeError::NotFound { what: "sandbox", id: spec.pod_uid.clone() })?;
        let record = self.shared.record(spec, sandbox);
        let container = Container::new(record, ContainerState::Created);
        memory.insert(container.clone());
        Ok((container, true))
    }

    /// Has the shim forked, or notes why that is impossible.
    async fn launch(&self, container: &Container) {
        let shared = self.shared.clone();
        let record = (*container.record).clone();
        let prepared = blocking(move || shared.prepare(record)).await;
        let connected = prepared.and_then(|fd| Connection::new(fd).map_err(|e| e.to_string()));
        match connected {
            Ok(connection) => self.watch(container.clone(), connection),
            Err(reason) => {
                let exit = failed_start(reason);
                let folder = self.shared.container_folder(&container.record.spec.id);
                let written = exit.clone();
                // Without the file the next agent finds the container as never started, which is
                // as true.
                let _lost = blocking(move || record::write_exit(&folder, &written)).await;
                self.shared.enter(container, ContainerState::Exited(exit));
            }
        }
    }

    /// Follows the container's life in a task of its own.
    pub(super) fn watch(&self, container: Container, connection: Connection) {
        let shared = self.shared.clone();
        let spec = &container.record.spec;
        let span = tracing::info_span!("container", name = %spec.name, id = %spec.id);
        tokio::spawn(
            async move {
                while let Ok(Some((reply, _))) = connection.reply().await {
                    if let Some(state) = state(reply) {
                        shared.enter(&container, state);
                    }
                }
                if !container.is_exited() {
                    let for_thread = (shared.clone(), container.clone());
                    let exit = blocking(move || for_thread.0.bury(&for_thread.1.record)).await;
                    shared.enter(&container, ContainerState::Exited(exit));
                }
            }
            .instrument(span),
        );
    }

    pub(super) async fn send_signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let container = self.known(id)?;
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: id.to_owned() });
        }
        if signal == libc::SIGKILL {
            blocking(move || container.record.group.kill()).await;
            return Ok(());
        }
        self.ask(id, Request::Signal { signal }).await
    }

    pub(super) async fn rotate_log(&self, id: &str) -> Result<(), RuntimeError> {
        if self.known(id)?.is_running() { self.ask(id, Request::ReopenLog).await } else { Ok(()) }
    }

    /// A request that is answered by done or refused.
    async fn ask(&self, id: &str, request: Request) -> Result<(), RuntimeError> {
        let folder = self.shared.container_folder(id);
        let failed = |reason: String| RuntimeError::Shim { id: id.to_owned(), reason };
        let connection = match Connection::ask(folder, request, Vec::new()).await {
            Ok(connection) => connection,
            // The shim has ended, and with it the container.
            Err(_) if self.known(id).is_ok_and(|container| container.is_exited()) => {
                return Err(RuntimeError::NotRunning { id: id.to_owned() });
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        match connection.reply().await {
            Ok(Some((Reply::Done, _))) => Ok(()),
            Ok(Some((Reply::Refused { reason }, _))) => Err(failed(reason)),
            Ok(Some((reply, _))) => Err(failed(format!("unexpected {reply:?}"))),
            Ok(None) => Err(RuntimeError::NotRunning { id: id.to_owned() }),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    pub(super) async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(container) = self.shared.memory().container(id) else { return Ok(()) };
        if !container.is_exited() {
            await_start(&container).await;
            let record = container.record.clone();
            blocking(move || record.group.kill()).await;
            await_exit(&container).await.map_err(|_elapsed| RuntimeError::Shim {
                id: id.to_owned(),
                reason: format!("no exit within {} s of SIGKILL", KILL_LIMIT.as_secs()),
            })?;
        }
        let (shared, record) = (self.shared.clone(), container.record.clone());
        blocking(move || shared.clear(&record)).await?;
        self.shared.memory().remove(id);
        self.shared.changed(&container.record.spec.pod_uid);
        Ok(())
    }

    pub(super) async fn update(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError> {
        let container = self.known(id)?;
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: id.to_owned() });
        }
        let resources = resources.clone();
        let path = container.record.group.path.clone();
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || {
            container.record.group.set(&resources).map_err(at("set limits of cgroup", path))?;
            // So that the next agent, and the next update, know what is in force.
            let mut record = (*container.record).clone();
            record.spec.resources = resources;
            let folder = shared.container_folder(&id);
            record.write(&folder).map_err(at("write", folder))?;
            let updated =
                Container { record: std::sync::Arc::new(record), state: container.state.clone() };
            shared.memory().insert(updated);
            Ok(())
        })
        .await
    }

    pub(super) async fn read_usage(&self, id: &str) -> Result<Usage, RuntimeError> {
        let container = self.known(id)?;
        let path = container.record.group.path.clone();
        blocking(move || container.record.group.usage()).await.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                RuntimeError::NotRunning { id: id.to_owned() }
            } else {
                at("read cgroup", path)(error)
            }
        })
    }

    pub(super) fn known(&self, id: &str) -> Result<Container, RuntimeError> {
        self.shared.memory().container(id).ok_or_else(|| no_container(id))
    }
}

impl Shared {
    fn record(&self, spec: &ContainerSpec, sandbox: &SandboxRecord) -> ContainerRecord {
        ContainerRecord {
            spec: spec.clone(),
            namespaces: sandbox.namespaces.clone(),
            hostname: sandbox.spec.hostname.clone(),
            shm: sandbox.shm.clone(),
            group: self.tree.group(&spec.cgroup),
            filter: None,
            created_at_nanos: now_nanos(),
        }
    }

    /// Makes everything the shim needs and has it forked. Blocks. The error is for the pod's status.
    fn prepare(&self, mut record: ContainerRecord) -> Result<OwnedFd, String> {
        let spec = &record.spec;
        if spec.args.is_empty() {
            return Err("no command specified".to_owned());
        }
        let folder = self.container_folder(&spec.id);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("create {}: {error}", folder.display()))?;
        if let Some(parent) = spec.log_path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| format!("create {}: {error}", parent.display()))?;
        }
        let capabilities = named_in(spec);
        let filters = self.config.run_dir.join("seccomp");
        record.filter = seccomp::filter(&filters, &spec.seccomp, &capabilities)
            .map_err(|error| error.to_string())?;
        record.group.create(&spec.resources).map_err(|error| error.to_string())?;
        record.write(&folder).map_err(|error| format!("write the container's record: {error}"))?;
        self.zygote.shim(folder).map_err(|error| format!("start the shim: {error}"))
    }

    /// Notes a new state and tells everybody.
    pub(super) fn enter(&self, container: &Container, state: ContainerState) {
        let changed = container.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
        if changed {
            self.changed(&container.record.spec.pod_uid);
        }
    }

    /// How a container ended whose shim does not answer any more. If the shim was killed, the
    /// container's processes are orphans that nobody could wait for: they are killed too.
    pub(super) fn bury(&self, record: &ContainerRecord) -> Exit {
        let folder = self.container_folder(&record.spec.id);
        if let Ok(Some(exit)) = record::read_exit(&folder) {
            return exit;
        }
        let had_processes = !record.group.processes().is_empty();
        record.group.kill();
        record.group.wait_empty(KILL_LIMIT);
        let exit = Exit {
            code: SHIM_KILLED_CODE,
            signal: had_processes.then_some(libc::SIGKILL),
            oom_killed: record.group.oom_kills() > 0,
            start_error: Some("the container's shim was killed".to_owned()),
            // When it started was only known to the shim; it did start if it had processes.
            started_at_nanos: if had_processes { record.created_at_nanos } else { 0 },
            finished_at_nanos: now_nanos(),
        };
        if let Err(error) = record::write_exit(&folder, &exit) {
            tracing::warn!(%error, folder = %folder.display(), "failed to write exit.json");
        }
        exit
    }

    /// Removes the cgroup and the folder of a container that has ended.
    fn clear(&self, record: &ContainerRecord) -> Result<(), RuntimeError> {
        record.group.remove(KILL_LIMIT).map_err(at("remove cgroup", record.group.path.clone()))?;
        let folder = self.container_folder(&record.spec.id);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn state(reply: Reply) -> Option<ContainerState> {
    match reply {
        Reply::Created => Some(ContainerState::Created),
        Reply::Started { pid, at_nanos } => {
            Some(ContainerState::Running { pid, started_at_nanos: at_nanos })
        }
        Reply::Exited(exit) => Some(ContainerState::Exited(exit)),
        _ => None,
    }
}

/// Waits until the container has started or failed to.
async fn await_start(container: &Container) -> ContainerState {
    await_state(container, |state| *state != ContainerState::Created).await
}

async fn await_exit(container: &Container) -> Result<(), tokio::time::error::Elapsed> {
    let exited = await_state(container, |state| matches!(state, ContainerState::Exited(_)));
    tokio::time::timeout(KILL_LIMIT, exited).await.map(|_| ())
}

async fn await_state(
    container: &Container,
    reached: impl FnMut(&ContainerState) -> bool,
) -> ContainerState {
    let mut states: watch::Receiver<ContainerState> = container.state.subscribe();
    states.wait_for(reached).await.expect("the sender is borrowed").clone()
}
