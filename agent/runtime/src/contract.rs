//! The contract with the kubelet: plain data, the errors, and the trait [`Runtime`].

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use futures::future::BoxFuture;

/// What is shared by the containers of a pod.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SandboxSpec {
    /// UID of the pod: the sandbox's identity.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Host name in the UTS namespace.
    pub hostname: String,
    /// Uses the node's network namespace.
    pub host_network: bool,
    /// Uses the node's PID namespace.
    pub host_pid: bool,
    /// Uses the node's IPC namespace.
    pub host_ipc: bool,
    /// The containers share one PID namespace.
    pub share_process_namespace: bool,
    /// Kernel parameters set in the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, relative to the node's cgroup root: `burstable/podUID`.
    pub cgroup: String,
    /// Limits of the pod's cgroup.
    pub resources: Resources,
}

/// Limits and weights of a cgroup; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    /// CPU weight in cgroup v1 shares (2..=262144); converted for v2.
    pub cpu_shares: Option<u64>,
    /// CPU quota in microseconds per period.
    pub cpu_quota_micros: Option<i64>,
    /// CPU period in microseconds.
    pub cpu_period_micros: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<i64>,
    /// Most processes.
    pub pids: Option<i64>,
    /// Huge page limits: page size (`2MB`) to bytes.
    pub hugepages_bytes: BTreeMap<String, u64>,
}

/// One mount into a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// Path on the node (a folder or a file).
    pub source: PathBuf,
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Read-only.
    pub read_only: bool,
    /// Read-only also for submounts.
    pub recursive_read_only: bool,
    /// `private`, `rslave` (HostToContainer) or `rshared` (Bidirectional).
    pub propagation: String,
}

/// A device made available in a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Path on the node.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: PathBuf,
    /// Any of `rwm`.
    pub permissions: String,
}

/// A seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile in OCI's JSON form on the node.
    Localhost(PathBuf),
}

/// One container, fully resolved: nothing here refers to the API any more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerSpec {
    /// Identity, unique per attempt: 64 hex digits.
    pub id: String,
    /// The sandbox it joins.
    pub pod_uid: String,
    /// Container name in the pod.
    pub name: String,
    /// Restart count of this attempt, from 0.
    pub attempt: u32,
    /// Mounted root file system.
    pub rootfs: PathBuf,
    /// Full argument vector, not empty.
    pub args: Vec<String>,
    /// Environment in order, `NAME=value`.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Has a terminal.
    pub tty: bool,
    /// Keeps stdin open for attach.
    pub stdin: bool,
    /// Closes stdin after the first attach ends.
    pub stdin_once: bool,
    /// All capabilities, all devices, no masking.
    pub privileged: bool,
    /// Effective capabilities, `CAP_` names.
    pub capabilities: Vec<String>,
    /// Read-only root file system.
    pub read_only_rootfs: bool,
    /// Sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// Leaves /proc unmasked (`procMount: Unmasked`).
    pub unmasked_proc: bool,
    /// Seccomp profile.
    pub seccomp: Seccomp,
    /// Mounts besides the standard ones.
    pub mounts: Vec<Mount>,
    /// Devices besides the standard ones.
    pub devices: Vec<Device>,
    /// `oom_score_adj`, clamped to what the agent may set.
    pub oom_score_adj: i32,
    /// Cgroup, relative to the node's cgroup root: `burstable/podUID/ID`.
    pub cgroup: String,
    /// Limits.
    pub resources: Resources,
    /// CRI log file.
    pub log_path: PathBuf,
    /// Rotates the log at this size.
    pub log_max_bytes: u64,
    /// Keeps this many log files.
    pub log_max_files: u32,
    /// Free-form record kept with the container (the kubelet's own, such as a spec hash).
    pub annotations: BTreeMap<String, String>,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// The spec it was made from.
    pub spec: ContainerSpec,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Unix time in nanoseconds at which it was created.
    pub created_at_nanos: i128,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not yet started.
    Created,
    /// Running.
    Running {
        /// PID of its first process, in the node's PID namespace.
        pid: i32,
        /// Unix time in nanoseconds.
        started_at_nanos: i128,
    },
    /// Ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal for a signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel's OOM killer struck in its cgroup.
    pub oom_killed: bool,
    /// Why it could not start, if it could not.
    pub start_error: Option<String>,
    /// Unix time in nanoseconds; 0 if it never started.
    pub started_at_nanos: i128,
    /// Unix time in nanoseconds.
    pub finished_at_nanos: i128,
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSeen {
    /// The spec it was made from.
    pub spec: SandboxSpec,
    /// Its network namespace; `None` for the node's.
    pub netns: Option<PathBuf>,
    /// Its containers, all attempts that have not been removed.
    pub containers: Vec<ContainerSeen>,
    /// Unix time in nanoseconds.
    pub created_at_nanos: i128,
}

/// A process to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Full argument vector.
    pub args: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With stdin.
    pub stdin: bool,
}

/// The near ends of a process's streams. With a terminal only `stdin` and `stdout` are there, both
/// the terminal's master side, and `resize` works on it.
#[derive(Debug)]
pub struct Streams {
    /// Written to the process.
    pub stdin: Option<OwnedFd>,
    /// Read from the process.
    pub stdout: Option<OwnedFd>,
    /// Read from the process.
    pub stderr: Option<OwnedFd>,
}

/// A process started by exec. Dropping it kills the process and all its descendants.
pub struct ExecSession {
    /// Its streams.
    pub streams: Streams,
    /// Resolves to the exit code.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// CPU, memory and processes used by a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory that cannot be reclaimed at once, in bytes.
    pub working_set_bytes: u64,
    /// Processes.
    pub pids: u64,
}

/// What went wrong in the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The sandbox or container does not exist.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its identity.
        id: String,
    },
    /// The container is not running.
    #[error("container {id} is not running")]
    NotRunning {
        /// Its identity.
        id: String,
    },
    /// The container's process could not be started; the text is meant for the pod's status.
    #[error("start container {id}: {reason}")]
    Start {
        /// Its identity.
        id: String,
        /// Why.
        reason: String,
    },
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// The operation in words.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A shim answered nonsense or not at all.
    #[error("talk to the shim of container {id}: {reason}")]
    Shim {
        /// The container.
        id: String,
        /// What happened.
        reason: String,
    },
}

/// The container runtime, as the kubelet sees it. Every operation is idempotent: making what exists
/// and removing what is gone succeed.
pub trait Runtime: Send + Sync + 'static {
    /// Makes the pod's cgroup and namespaces. Returns the network namespace's path.
    fn create_sandbox<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, RuntimeError>>;
    /// Kills whatever still runs in the sandbox, removes its containers, namespaces and cgroup.
    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Creates and starts a container. `Err(Start)` leaves it behind as `Exited`.
    fn start_container<'a>(
        &'a self,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Sends a signal to the container's first process; `SIGKILL` goes to its whole cgroup.
    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Removes a container that has ended (one that runs is killed first). Its log stays.
    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Changes the limits of a running container in place.
    fn update_resources<'a>(
        &'a self,
        id: &'a str,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Everything there is on this node, in a stable order.
    fn observe(&self) -> BoxFuture<'_, Result<Vec<SandboxSeen>, RuntimeError>>;
    /// Pod UIDs in which something has changed since; lagging receivers must call `observe`.
    fn changes(&self) -> tokio::sync::broadcast::Receiver<String>;
    /// Runs a process in a container.
    fn exec<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
    ) -> BoxFuture<'a, Result<ExecSession, RuntimeError>>;
    /// Joins the streams of the container's first process; several may be attached at once.
    fn attach<'a>(
        &'a self,
        id: &'a str,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Streams, RuntimeError>>;
    /// What a container uses now.
    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>>;
    /// Makes a log file be reopened or rotated now.
    fn reopen_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;
}
