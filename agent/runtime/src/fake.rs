//! A runtime in memory, for tests of its users: containers run until the test ends them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::broadcast;

use crate::{
    ContainerSeen, ContainerSpec, ContainerState, ExecSession, ExecSpec, Exit, Resources, Runtime,
    RuntimeError, SandboxSeen, SandboxSpec, Streams, Usage,
};

const CHANGES_MAX: usize = 256;

/// What the runtime was asked to do, in order: tests compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A sandbox was made.
    CreateSandbox(String),
    /// A sandbox was removed.
    RemoveSandbox(String),
    /// A container was started: name, attempt.
    Start(String, u32),
    /// A signal was sent: container id, signal.
    Signal(String, i32),
    /// A container was removed: id.
    Remove(String),
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, SandboxSeen>,
    calls: Vec<Call>,
    exec_codes: BTreeMap<Vec<String>, i32>,
    start_errors: BTreeMap<String, String>,
    now_nanos: i128,
}

/// A runtime in memory. SIGKILL ends a container with 137, SIGTERM with 0.
pub struct FakeRuntime {
    state: Mutex<State>,
    changes: broadcast::Sender<String>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: broadcast::Sender::new(CHANGES_MAX) }
    }
}

impl FakeRuntime {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn changed(&self, pod_uid: &str) {
        // Nobody has to listen.
        let _listeners = self.changes.send(pod_uid.to_owned());
    }

    /// The time that containers start and end at, in nanoseconds since 1970.
    pub fn set_now(&self, nanos: i128) {
        self.state().now_nanos = nanos;
    }

    /// Starting a container of this name fails with this reason.
    pub fn fail_start(&self, name: &str, reason: &str) {
        self.state().start_errors.insert(name.into(), reason.into());
    }

    /// What an exec of these arguments exits with; 0 otherwise.
    pub fn set_exec_code(&self, args: &[&str], code: i32) {
        let args = args.iter().map(ToString::to_string).collect();
        self.state().exec_codes.insert(args, code);
    }

    /// What was asked so far; forgets it.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// Ends the running attempt of a container by name.
    pub fn exit(&self, pod_uid: &str, name: &str, code: i32) {
        let mut state = self.state();
        let now_nanos = state.now_nanos;
        let sandbox = state.sandboxes.get_mut(pod_uid);
        for container in sandbox.into_iter().flat_map(|sandbox| &mut sandbox.containers) {
            if container.spec.name == name {
                end(container, code, None, now_nanos);
            }
        }
        drop(state);
        self.changed(pod_uid);
    }

    fn find<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut ContainerSeen, i128) -> T,
    ) -> Result<(T, String), RuntimeError> {
        let mut state = self.state();
        let now_nanos = state.now_nanos;
        let mut all = state.sandboxes.values_mut().flat_map(|sandbox| &mut sandbox.containers);
        let found = all.find(|container| container.spec.id == id);
        let container =
            found.ok_or_else(|| RuntimeError::NotFound { what: "container", id: id.into() })?;
        let pod_uid = container.spec.pod_uid.clone();
        Ok((work(container, now_nanos), pod_uid))
    }
}

fn end(container: &mut ContainerSeen, code: i32, signal: Option<i32>, now_nanos: i128) {
    let ContainerState::Running { started_at_nanos, .. } = container.state else { return };
    container.state = ContainerState::Exited(Exit {
        code,
        signal,
        oom_killed: false,
        start_error: None,
        started_at_nanos,
        finished_at_nanos: now_nanos,
    });
}

impl Runtime for FakeRuntime {
    fn create_sandbox<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, RuntimeError>> {
        let netns = (!spec.host_network).then(|| PathBuf::from("/fake/netns").join(&spec.pod_uid));
        let mut state = self.state();
        if !state.sandboxes.contains_key(&spec.pod_uid) {
            state.calls.push(Call::CreateSandbox(spec.pod_uid.clone()));
            let created_at_nanos = state.now_nanos;
            let seen = SandboxSeen {
                spec: spec.clone(),
                netns: netns.clone(),
                containers: Vec::new(),
                created_at_nanos,
            };
            state.sandboxes.insert(spec.pod_uid.clone(), seen);
        }
        drop(state);
        self.changed(&spec.pod_uid);
        ready(Ok(netns)).boxed()
    }

    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let mut state = self.state();
        if state.sandboxes.remove(pod_uid).is_some() {
            state.calls.push(Call::RemoveSandbox(pod_uid.into()));
        }
        drop(state);
        self.changed(pod_uid);
        ready(Ok(())).boxed()
    }

    fn start_container<'a>(
        &'a self,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let mut state = self.state();
        state.calls.push(Call::Start(spec.name.clone(), spec.attempt));
        let now_nanos = state.now_nanos;
        let failure = state.start_errors.get(&spec.name).cloned();
        let Some(sandbox) = state.sandboxes.get_mut(&spec.pod_uid) else {
            let id = spec.pod_uid.clone();
            return ready(Err(RuntimeError::NotFound { what: "sandbox", id })).boxed();
        };
        let running = ContainerState::Running { pid: 1000, started_at_nanos: now_nanos };
        let failed = failure.clone().map(|reason| {
            ContainerState::Exited(Exit {
                code: 128,
                signal: None,
                oom_killed: false,
                start_error: Some(reason),
                started_at_nanos: 0,
                finished_at_nanos: now_nanos,
            })
        });
        sandbox.containers.push(ContainerSeen {
            spec: spec.clone(),
            state: failed.unwrap_or(running),
            created_at_nanos: now_nanos,
        });
        drop(state);
        self.changed(&spec.pod_uid);
        let outcome = match failure {
            None => Ok(()),
            Some(reason) => Err(RuntimeError::Start { id: spec.id.clone(), reason }),
        };
        ready(outcome).boxed()
    }

    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.state().calls.push(Call::Signal(id.into(), signal));
        let code = if signal == libc::SIGKILL { 137 } else { 0 };
        let by = (signal == libc::SIGKILL).then_some(signal);
        let outcome = self.find(id, |container, now_nanos| end(container, code, by, now_nanos));
        let outcome = outcome.map(|((), pod_uid)| self.changed(&pod_uid));
        ready(outcome).boxed()
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let mut state = self.state();
        state.calls.push(Call::Remove(id.into()));
        for sandbox in state.sandboxes.values_mut() {
            sandbox.containers.retain(|container| container.spec.id != id);
        }
        ready(Ok(())).boxed()
    }

    fn update_resources<'a>(
        &'a self,
        id: &'a str,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let outcome = self.find(id, |container, _| container.spec.resources = resources.clone());
        ready(outcome.map(drop)).boxed()
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<SandboxSeen>, RuntimeError>> {
        let seen = self.state().sandboxes.values().cloned().collect();
        ready(Ok(seen)).boxed()
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
    ) -> BoxFuture<'a, Result<ExecSession, RuntimeError>> {
        let code = self.state().exec_codes.get(&spec.args).copied().unwrap_or(0);
        let streams = Streams { stdin: None, stdout: None, stderr: None };
        let outcome = self.find(id, |_, _| ());
        let outcome = outcome.map(|_| ExecSession { streams, exit: ready(Ok(code)).boxed() });
        ready(outcome).boxed()
    }

    fn attach<'a>(
        &'a self,
        id: &'a str,
        _stdin: bool,
    ) -> BoxFuture<'a, Result<Streams, RuntimeError>> {
        let streams = Streams { stdin: None, stdout: None, stderr: None };
        ready(self.find(id, |_, _| ()).map(|_| streams)).boxed()
    }

    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>> {
        ready(self.find(id, |_, _| Usage::default()).map(|(usage, _)| usage)).boxed()
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        ready(self.find(id, |_, _| ()).map(drop)).boxed()
    }
}
