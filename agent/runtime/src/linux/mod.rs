//! The real runtime: what the agent does, and what it remembers.
//!
//! The truth is in the run folder and in the kernel; [`Memory`] is a copy of it, filled by
//! [`adopt`] at the start and kept up by one watching task per container. Work on files and
//! namespaces is done on blocking threads; what is forked is forked by the zygote.

mod adopt;
mod connect;
mod containers;
mod exec;
mod memory;
mod sandboxes;
mod zygote_client;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, broadcast};

use crate::cgroup::{Layout, Tree};
use crate::{
    ContainerSpec, ExecSession, ExecSpec, Resources, Runtime, RuntimeError, SandboxSeen,
    SandboxSpec, Streams, Usage,
};
use memory::Memory;
use zygote_client::ZygoteClient;

/// Changes a slow receiver may miss before it has to observe anew. A burst is one per container,
/// and a node has a few hundred.
const CHANGES_MAX: usize = 1024;
/// How long processes may take to vanish after SIGKILL, before that is an error. Only the kernel's
/// own work (tearing down memory, network file systems) takes time here.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Where the runtime keeps its things, and what it is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// State that ends with the machine's run: `/run/skeg/runtime`. Only this runtime's.
    pub run_dir: PathBuf,
    /// The node's cgroup, relative to the hierarchies' roots: `/skeg-NODE`.
    pub cgroup_root: PathBuf,
    /// The node's folder in the v2 hierarchy, where socket programs are attached; `None`: the one
    /// named like `cgroup_root`. Only read beside cgroup v1.
    pub cgroup2_root: Option<PathBuf>,
    /// The binary that calls [`crate::maybe_run_shim`]: `/proc/self/exe`.
    pub executable: PathBuf,
    /// Containers being started at the same time; more would only wait for each other.
    pub parallel_starts_max: usize,
}

/// Containers by libcontainer, each behind a shim.
#[derive(Clone)]
pub struct LinuxRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    layout: Layout,
    tree: Tree,
    zygote: ZygoteClient,
    memory: Mutex<Memory>,
    changes: broadcast::Sender<String>,
    starts: Semaphore,
}

impl LinuxRuntime {
    /// Starts the zygote and takes over what an earlier agent has left running. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// The run folder cannot be made or read, there are no control groups, or the zygote does not
    /// start.
    pub async fn open(config: Config) -> Result<Self, RuntimeError> {
        let shared = blocking(move || Shared::open(config)).await?;
        let runtime = Self { shared: Arc::new(shared) };
        runtime.adopt().await?;
        Ok(runtime)
    }

    /// Which control groups were found, in words.
    pub fn cgroup_layout(&self) -> String {
        self.shared.layout.describe()
    }
}

impl Shared {
    fn open(config: Config) -> Result<Self, RuntimeError> {
        for folder in ["containers", "sandboxes", "seccomp"] {
            let folder = config.run_dir.join(folder);
            std::fs::create_dir_all(&folder).map_err(at("create", folder))?;
        }
        let layout = Layout::detect().map_err(at("read", "/sys/fs/cgroup"))?;
        let tree =
            Tree::new(layout.clone(), config.cgroup_root.clone(), config.cgroup2_root.clone());
        let zygote = ZygoteClient::start(config.executable.clone())
            .map_err(at("start the zygote", config.executable.clone()))?;
        Ok(Self {
            layout,
            tree,
            zygote,
            memory: Mutex::new(Memory::default()),
            changes: broadcast::Sender::new(CHANGES_MAX),
            starts: Semaphore::new(config.parallel_starts_max.max(1)),
            config,
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nothing panics while it holds the lock")
    }

    /// Tells everybody that something in the pod has changed.
    fn changed(&self, pod_uid: &str) {
        // Nobody has to listen.
        let _listeners = self.changes.send(pod_uid.to_owned());
    }

    fn container_folder(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("containers").join(id)
    }

    fn sandbox_folder(&self, pod_uid: &str) -> PathBuf {
        self.config.run_dir.join("sandboxes").join(pod_uid)
    }
}

impl Runtime for LinuxRuntime {
    fn create_sandbox<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, RuntimeError>> {
        self.make_sandbox(spec).boxed()
    }

    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.take_down_sandbox(pod_uid).boxed()
    }

    fn start_container<'a>(
        &'a self,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.start(spec).boxed()
    }

    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.send_signal(id, signal).boxed()
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.remove(id).boxed()
    }

    fn update_resources<'a>(
        &'a self,
        id: &'a str,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.update(id, resources).boxed()
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<SandboxSeen>, RuntimeError>> {
        let seen = self.shared.memory().seen();
        futures::future::ready(Ok(seen)).boxed()
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.shared.changes.subscribe()
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
    ) -> BoxFuture<'a, Result<ExecSession, RuntimeError>> {
        self.run_exec(id, spec).boxed()
    }

    fn attach<'a>(
        &'a self,
        id: &'a str,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Streams, RuntimeError>> {
        self.join_streams(id, stdin).boxed()
    }

    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>> {
        self.read_usage(id).boxed()
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.rotate_log(id).boxed()
    }
}

/// An I/O error with what was done to what.
fn at(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> RuntimeError {
    let path = path.as_ref().to_path_buf();
    move |source| RuntimeError::Io { operation, path, source }
}

fn no_container(id: &str) -> RuntimeError {
    RuntimeError::NotFound { what: "container", id: id.to_owned() }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
