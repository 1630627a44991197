//! What to do next for a pod. PURE.
//!
//! `plan` names every step that can be taken now; steps that are under way are in
//! [`PodSeen::in_flight`] and not named again. The worker starts the steps side by side and plans
//! again when any of them ends or anything else changes, so a plan never waits: volumes, sandbox
//! and images of a new pod are prepared at the same time, and its containers start as soon as the
//! last of these is there.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go
//! `computePodActions`, kuberuntime_container.go `computeInitContainerActions`, v1.36.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerSeen, ContainerState, Resources};

use crate::observe::{Operation, PodSeen, Prepared};
use crate::pod::{Kind, Listed, PodExt};
use crate::record::Ended;
use crate::restart::{
    is_initialized, is_started, mains_begun, next_attempt, next_backoff_secs, outcome, restarts,
    retry_at,
};
use crate::spec::resources::container_resources;

/// Annotation of a container: the image its pod asked for.
pub(crate) const IMAGE_WANTED: &str = "skeg.dev/image-wanted";
/// A failed pull is reported as such for this long, then as back-off.
pub(crate) const ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);
/// Sidecars get at least this long to end, however long the other containers took.
const SIDECAR_GRACE_MIN_SECS: i64 = 2;

/// What the pod is to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Run until its containers are done.
    Run,
    /// Stop.
    Stop {
        /// When stopping began.
        since: Timestamp,
        /// Seconds its containers get from then on.
        grace_secs: i64,
        /// Also remove everything, because the pod is deleted.
        remove: bool,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Note that the pod is over before its time.
    End(Ended),
    /// Set up volumes, or bring their content up to date.
    PrepareVolumes,
    /// Make the sandbox and connect it.
    CreateSandbox,
    /// Find or pull the image of a container.
    PullImage {
        /// Container name.
        container: String,
    },
    /// Start a container.
    Start {
        /// Container name.
        container: String,
        /// Number of the attempt, from 0.
        attempt: u32,
        /// What [`crate::restart::BACKOFF`] shall say of it.
        backoff_secs: i64,
    },
    /// Run hooks, signal, wait, kill.
    Stop {
        /// Container name.
        container: String,
        /// Container id.
        id: String,
        /// Text for the Event.
        message: String,
        /// Seconds from now until it is killed.
        grace_secs: i64,
    },
    /// Remove an ended container that nobody asks for any more.
    RemoveContainer {
        /// Container id.
        id: String,
    },
    /// Change limits in place.
    Resize {
        /// Container id.
        id: String,
        /// The new limits.
        resources: Resources,
    },
    /// Give addresses and host ports back.
    Release,
    /// Remove the sandbox, the volumes and all files.
    RemoveAll,
    /// Tell the API that nothing is left.
    Forget,
}

impl Step {
    /// What is under way while the step is taken; `None` for those that take no time.
    pub(crate) fn operation(&self) -> Option<Operation> {
        Some(match self {
            Self::End(_) => return None,
            Self::PrepareVolumes => Operation::Volumes,
            Self::CreateSandbox => Operation::Sandbox,
            Self::PullImage { container } => Operation::Image(container.clone()),
            Self::Start { container, .. } => Operation::Start(container.clone()),
            Self::Stop { id, .. } => Operation::Stop(id.clone()),
            Self::RemoveContainer { id } => Operation::Remove(id.clone()),
            Self::Resize { id, .. } => Operation::Resize(id.clone()),
            Self::Release => Operation::Release,
            Self::RemoveAll => Operation::RemoveAll,
            Self::Forget => Operation::Forget,
        })
    }
}

/// What to do now, and when to plan again if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) wake_at: Option<Timestamp>,
}

/// Plans for a pod.
pub(crate) fn plan(pod: &Pod, intent: Intent, seen: &PodSeen, now: Timestamp) -> Plan {
    let mut planner = Planner { pod, seen, now, containers: pod.listed(), plan: Plan::default() };
    match intent {
        Intent::Stop { since, grace_secs, remove } => {
            let deadline = since.saturating_add(SignedDuration::from_secs(grace_secs));
            let deadline = deadline.unwrap_or(Timestamp::MAX);
            if planner.wind_down(deadline, true) {
                planner.clear_away(remove);
            }
        }
        Intent::Run => {
            if outcome(pod, seen).is_some() {
                let grace = SignedDuration::from_secs(pod.grace_secs());
                let deadline = now.saturating_add(grace).unwrap_or(Timestamp::MAX);
                if planner.wind_down(deadline, false) {
                    planner.clear_away(false);
                }
            } else {
                planner.run();
            }
        }
    }
    planner.drop_old_attempts();
    planner.plan
}

struct Planner<'a> {
    pod: &'a Pod,
    seen: &'a PodSeen,
    now: Timestamp,
    containers: Vec<Listed<'a>>,
    plan: Plan,
}

impl Planner<'_> {
    fn add(&mut self, step: Step) {
        let busy = step.operation().is_some_and(|operation| self.seen.is_doing(&operation));
        if !busy {
            self.plan.steps.push(step);
        }
    }

    fn wake(&mut self, at: Timestamp) {
        let earlier = self.plan.wake_at.is_none_or(|known| at < known);
        if earlier {
            self.plan.wake_at = Some(at);
        }
    }

    /// Whether something that failed may be tried again; if not yet, plans to be woken.
    fn is_due(&mut self, at: Timestamp) -> bool {
        let due = at <= self.now;
        if !due {
            self.wake(at);
        }
        due
    }

    fn run(&mut self) {
        if self.is_past_deadline() {
            return;
        }
        self.prepare();
        self.watch_running();
        let containers = std::mem::take(&mut self.containers);
        if self.initialize(&containers) {
            self.run_mains(&containers);
        }
        for container in containers.iter().filter(|c| c.kind == Kind::Ephemeral) {
            if self.seen.latest(container.name()).is_none() {
                self.bring_up(container, true);
            }
        }
        self.containers = containers;
    }

    /// `activeDeadlineSeconds` counts from the status' start time.
    fn is_past_deadline(&mut self) -> bool {
        let Some(secs) = PodExt::spec(self.pod).active_deadline_seconds else { return false };
        let Some(start) = self.pod.start_time() else { return false };
        let deadline = start.saturating_add(SignedDuration::from_secs(secs));
        if !self.is_due(deadline.unwrap_or(Timestamp::MAX)) {
            return false;
        }
        self.add(Step::End(Ended {
            reason: "DeadlineExceeded".into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
            rejected: false,
            grace_secs: None,
        }));
        true
    }

    /// Volumes and sandbox.
    fn prepare(&mut self) {
        let volumes_due = match &self.seen.volumes {
            Prepared::No => true,
            Prepared::Yes(()) => self.seen.volumes_stale,
            Prepared::Failed(_) if self.seen.volumes_stale => true,
            Prepared::Failed(problem) => {
                let at = problem.retry_at;
                self.is_due(at)
            }
        };
        if volumes_due {
            self.add(Step::PrepareVolumes);
        }
        if !self.has_sandbox() {
            let at = self.seen.sandbox_problem.as_ref().map(|problem| problem.retry_at);
            if at.is_none_or(|at| self.is_due(at)) {
                self.add(Step::CreateSandbox);
            }
        }
    }

    fn has_sandbox(&self) -> bool {
        let connected = self.pod.is_host_network() || !self.seen.addresses.is_empty();
        self.seen.sandbox.is_some() && connected
    }

    /// Kills what probes want killed or what has another image now; changes limits.
    fn watch_running(&mut self) {
        let containers = std::mem::take(&mut self.containers);
        for container in &containers {
            let Some(latest) = self.seen.latest(container.name()) else { continue };
            if !matches!(latest.state, ContainerState::Running { .. }) {
                continue;
            }
            if let Some(condemned) = self.seen.condemned.get(&latest.spec.id) {
                let grace_secs = condemned.grace_secs.unwrap_or(self.pod.grace_secs());
                self.stop(latest, condemned.message.clone(), grace_secs);
                continue;
            }
            let wanted = latest.spec.annotations.get(IMAGE_WANTED);
            let is_ephemeral = container.kind == Kind::Ephemeral;
            if !is_ephemeral && wanted.is_some_and(|wanted| wanted != container.image()) {
                let message =
                    format!("Container {} definition changed, will be restarted", container.name());
                self.stop(latest, message, self.pod.grace_secs());
                continue;
            }
            self.resize(container, latest);
        }
        self.containers = containers;
    }

    fn resize(&mut self, container: &Listed<'_>, latest: &ContainerSeen) {
        let wanted = container_resources(&container.spec);
        let id = &latest.spec.id;
        let actual = self.seen.resized.get(id).unwrap_or(&latest.spec.resources);
        let same = wanted.cpu_shares == actual.cpu_shares
            && wanted.cpu_quota_micros == actual.cpu_quota_micros
            && wanted.memory_bytes == actual.memory_bytes;
        if !same && container.kind != Kind::Ephemeral {
            self.add(Step::Resize { id: id.clone(), resources: wanted });
        }
    }

    fn stop(&mut self, container: &ContainerSeen, message: String, grace_secs: i64) {
        let (name, id) = (container.spec.name.clone(), container.spec.id.clone());
        self.add(Step::Stop { container: name, id, message, grace_secs });
    }

    /// Runs init containers in order and keeps sidecars running. Returns whether the main
    /// containers may run.
    fn initialize(&mut self, containers: &[Listed<'_>]) -> bool {
        let over = mains_begun(self.pod, self.seen);
        for container in containers {
            let name = container.name();
            let state = self.seen.latest(name).map(|latest| &latest.state);
            match container.kind {
                Kind::Init if over => {}
                Kind::Init => match state {
                    Some(ContainerState::Exited(exit)) if exit.code == 0 => {}
                    Some(ContainerState::Exited(_)) | None => {
                        self.bring_up(container, true);
                        return false;
                    }
                    Some(ContainerState::Created | ContainerState::Running { .. }) => return false,
                },
                Kind::Sidecar => {
                    if !matches!(state, Some(ContainerState::Running { .. })) {
                        self.bring_up(container, true);
                    }
                    let starting = self.seen.is_doing(&Operation::PostStart(name.to_owned()));
                    if !over && (!is_started(container, self.seen) || starting) {
                        return false;
                    }
                }
                Kind::Main | Kind::Ephemeral => {}
            }
        }
        debug_assert!(is_initialized(self.pod, self.seen), "the two agree on initialisation");
        true
    }

    /// Starts main containers one after the other: one that is on its way for the first time, or
    /// whose postStart hook runs, holds back those behind it; one that failed does not. Images are
    /// prepared meanwhile.
    fn run_mains(&mut self, containers: &[Listed<'_>]) {
        let mut open = true;
        for container in containers.iter().filter(|c| c.kind == Kind::Main) {
            let name = container.name();
            match self.seen.latest(name).map(|latest| &latest.state) {
                Some(ContainerState::Running { .. }) => {}
                Some(ContainerState::Created) => open = false,
                Some(ContainerState::Exited(exit)) => {
                    if restarts(self.pod, container, exit.code) {
                        self.bring_up(container, open);
                    }
                }
                None => {
                    self.bring_up(container, open);
                    let failed = matches!(self.seen.images.get(name), Some(Prepared::Failed(_)))
                        || self.seen.start_problems.contains_key(name);
                    open &= failed;
                }
            }
            open &= !self.seen.is_doing(&Operation::Start(name.to_owned()))
                && !self.seen.is_doing(&Operation::PostStart(name.to_owned()));
        }
    }

    /// Takes the next step towards a running container.
    fn bring_up(&mut self, container: &Listed<'_>, may_start: bool) {
        let name = container.name();
        let latest = self.seen.latest(name);
        if matches!(latest.map(|l| &l.state), Some(ContainerState::Created)) {
            return;
        }
        if let Some((ended, ContainerState::Exited(exit))) = latest.map(|l| (l, &l.state))
            && !self.is_due(retry_at(ended, exit))
        {
            return;
        }
        if self.seen.is_doing(&Operation::Start(name.to_owned())) {
            return;
        }
        match self.seen.images.get(name) {
            None | Some(Prepared::No) => self.add(Step::PullImage { container: name.to_owned() }),
            Some(Prepared::Failed(problem)) => {
                if self.is_due(problem.retry_at) {
                    self.add(Step::PullImage { container: name.to_owned() });
                } else {
                    let shown_until = problem.failed_at.saturating_add(ERROR_SHOWN);
                    self.is_due(shown_until.unwrap_or(Timestamp::MAX));
                }
            }
            Some(Prepared::Yes(_)) => {
                let problem = self.seen.start_problems.get(name);
                let due = problem.is_none_or(|problem| self.is_due(problem.retry_at));
                let ready = matches!(self.seen.volumes, Prepared::Yes(())) && self.has_sandbox();
                if may_start && due && ready {
                    self.add(Step::Start {
                        container: name.to_owned(),
                        attempt: next_attempt(self.pod, self.seen, name),
                        backoff_secs: next_backoff_secs(latest),
                    });
                }
            }
        }
    }

    /// Stops main containers, then sidecars from the last to the first, all by `deadline`. Returns
    /// whether nothing runs and nothing is about to.
    fn wind_down(&mut self, deadline: Timestamp, all: bool) -> bool {
        let left_secs = deadline.duration_since(self.now).as_secs().max(0);
        let sidecar = |name: &str| {
            self.containers.iter().position(|c| c.kind == Kind::Sidecar && c.name() == name)
        };
        let mut alive: Vec<(Option<usize>, ContainerSeen)> = Vec::new();
        for container in self.seen.alive() {
            alive.push((sidecar(&container.spec.name), container.clone()));
        }
        let mains: Vec<_> = alive.iter().filter(|(place, _)| place.is_none()).collect();
        for (_, container) in &mains {
            let message = format!("Stopping container {}", container.spec.name);
            self.stop(container, message, left_secs);
        }
        if mains.is_empty()
            && let Some((_, last)) = alive.iter().max_by_key(|(place, _)| *place)
        {
            let message = format!("Stopping container {}", last.spec.name);
            let least = if all { left_secs.max(SIDECAR_GRACE_MIN_SECS) } else { left_secs };
            self.stop(last, message, least);
        }
        let starting = self.seen.in_flight.iter().any(|operation| {
            matches!(
                operation,
                Operation::Start(_) | Operation::Sandbox | Operation::Volumes | Operation::Stop(_)
            )
        });
        alive.is_empty() && !starting
    }

    /// Gives back what a pod holds that does not run any more.
    fn clear_away(&mut self, remove: bool) {
        let holds = !self.seen.addresses.is_empty() || self.seen.sandbox.is_some();
        if !self.seen.record.released && holds {
            self.add(Step::Release);
            return;
        }
        if !remove || self.seen.is_doing(&Operation::Release) {
            return;
        }
        if !self.seen.gone {
            self.add(Step::RemoveAll);
        } else {
            self.add(Step::Forget);
        }
    }

    /// Of each container the last attempt is kept, and beside a running one the attempt before it,
    /// for its state and log.
    fn drop_old_attempts(&mut self) {
        let sandbox = self.seen.sandbox.iter();
        let names: std::collections::BTreeSet<&str> = sandbox
            .flat_map(|sandbox| &sandbox.containers)
            .map(|container| container.spec.name.as_str())
            .collect();
        for name in names {
            let attempts = self.seen.attempts(name);
            let ended = |c: &ContainerSeen| matches!(c.state, ContainerState::Exited(_));
            let kept = if attempts.last().is_some_and(|last| ended(last)) { 1 } else { 2 };
            let old = attempts.len().saturating_sub(kept);
            for container in attempts[..old].iter().filter(|container| ended(container)) {
                self.add(Step::RemoveContainer { id: container.spec.id.clone() });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
