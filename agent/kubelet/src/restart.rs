//! Whether and when containers run again, and when a pod is finished. PURE.
//!
//! Source of behaviour: kubernetes pkg/kubelet/container/helpers.go `ShouldContainerBeRestarted`
//! and pkg/kubelet/kuberuntime/kuberuntime_manager.go `doBackOff`, v1.36.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use runtime::{ContainerSeen, ContainerState, Exit};

use crate::observe::PodSeen;
use crate::pod::{Kind, Listed, PodExt, timestamp};

/// Wait after the second exit in a row.
const BACKOFF_FIRST_SECS: i64 = 10;
/// Longest wait.
const BACKOFF_MAX_SECS: i64 = 300;
/// A container that ran this long starts again at the first wait.
const BACKOFF_RESET_SECS: i64 = 600;

/// Annotation of a container: seconds to wait after its end before the next attempt. Kept with the
/// container, so that back-off goes on over a restart of the agent.
pub(crate) const BACKOFF: &str = "skeg.dev/backoff-secs";

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
}

/// Seconds from the end of this attempt to the next one. The first restart is immediate.
pub(crate) fn backoff_secs(ended: &ContainerSeen, exit: &Exit) -> i64 {
    let ran_nanos = match exit.started_at_nanos {
        0 => 0,
        started => exit.finished_at_nanos - started,
    };
    if ran_nanos >= i128::from(BACKOFF_RESET_SECS) * 1_000_000_000 {
        return 0;
    }
    let noted = ended.spec.annotations.get(BACKOFF).and_then(|text| text.parse().ok());
    noted.unwrap_or(0).clamp(0, BACKOFF_MAX_SECS)
}

/// What [`BACKOFF`] says of the attempt that follows this one.
pub(crate) fn next_backoff_secs(before: Option<&ContainerSeen>) -> i64 {
    let Some((ended, ContainerState::Exited(exit))) = before.map(|c| (c, &c.state)) else {
        return 0;
    };
    match backoff_secs(ended, exit) {
        0 => BACKOFF_FIRST_SECS,
        secs => (secs * 2).min(BACKOFF_MAX_SECS),
    }
}

/// When a container that ended may run again.
pub(crate) fn retry_at(ended: &ContainerSeen, exit: &Exit) -> Timestamp {
    let finished = timestamp(exit.finished_at_nanos).unwrap_or(Timestamp::UNIX_EPOCH);
    let wait = SignedDuration::from_secs(backoff_secs(ended, exit));
    finished.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// Whether a container that ended with this code runs again.
pub(crate) fn restarts(pod: &Pod, container: &Listed<'_>, code: i32) -> bool {
    match container.kind {
        Kind::Ephemeral => return false,
        Kind::Sidecar => return true,
        Kind::Init if code == 0 => return false,
        Kind::Init | Kind::Main => {}
    }
    if let Some(restart) = rule(&container.spec, code) {
        return restart;
    }
    let policy = container.spec.restart_policy.as_deref().unwrap_or(pod.restart_policy());
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// What the first matching restart rule says.
fn rule(container: &Container, code: i32) -> Option<bool> {
    let rules = container.restart_policy_rules.as_deref().unwrap_or(&[]);
    let matching = rules.iter().find(|rule| {
        let Some(on) = &rule.exit_codes else { return false };
        let listed = on.values.as_ref().is_some_and(|values| values.contains(&code));
        match on.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })?;
    Some(matches!(matching.action.as_str(), "Restart" | "RestartAllContainers"))
}

/// The status of a container in the API, whichever list it is in.
pub(crate) fn api_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = PodExt::status(pod)?;
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// Whether a container ran on this node and left nothing behind: the node was rebooted, or somebody
/// removed it.
pub(crate) fn is_lost(pod: &Pod, seen: &PodSeen, name: &str) -> bool {
    seen.latest(name).is_none()
        && api_status(pod, name)
            .is_some_and(|status| status.container_id.as_ref().is_some_and(|id| !id.is_empty()))
}

/// The number of the next attempt. It goes on counting when nothing is left of the earlier ones.
pub(crate) fn next_attempt(pod: &Pod, seen: &PodSeen, name: &str) -> u32 {
    if let Some(latest) = seen.latest(name) {
        return latest.spec.attempt + 1;
    }
    if is_lost(pod, seen, name) {
        let count = api_status(pod, name).map_or(0, |status| status.restart_count);
        return u32::try_from(count).unwrap_or(0) + 1;
    }
    0
}

/// The exit of the last attempt, if it has ended.
pub(crate) fn last_exit<'a>(seen: &'a PodSeen, name: &str) -> Option<&'a Exit> {
    match &seen.latest(name)?.state {
        ContainerState::Exited(exit) => Some(exit),
        ContainerState::Created | ContainerState::Running { .. } => None,
    }
}

/// Whether a main container was ever started in this sandbox: then initialisation is over for good.
pub(crate) fn mains_begun(pod: &Pod, seen: &PodSeen) -> bool {
    let mut mains = pod.listed().into_iter().filter(|container| container.kind == Kind::Main);
    mains.any(|container| seen.latest(container.name()).is_some())
}

/// Whether a container runs and its startup probe, if any, has succeeded.
pub(crate) fn is_started(container: &Listed<'_>, seen: &PodSeen) -> bool {
    let Some(latest) = seen.latest(container.name()) else { return false };
    if !matches!(latest.state, ContainerState::Running { .. }) {
        return false;
    }
    container.spec.startup_probe.is_none() || seen.probed(&latest.spec.id).started.unwrap_or(false)
}

/// Whether all init containers have done their part.
pub(crate) fn is_initialized(pod: &Pod, seen: &PodSeen) -> bool {
    let finished = |container: &Listed<'_>| match container.kind {
        Kind::Init => last_exit(seen, container.name()).is_some_and(|exit| exit.code == 0),
        Kind::Sidecar => is_started(container, seen),
        Kind::Main | Kind::Ephemeral => true,
    };
    mains_begun(pod, seen) || pod.listed().iter().all(finished)
}

/// How the pod ended; `None` while it still has something to do.
pub(crate) fn outcome(pod: &Pod, seen: &PodSeen) -> Option<Outcome> {
    // A phase that was final stays: containers of finished pods may be gone.
    match PodExt::status(pod).and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => return Some(Outcome::Succeeded),
        Some("Failed") => return Some(Outcome::Failed),
        _ => {}
    }
    if seen.record.ended.is_some() {
        return Some(Outcome::Failed);
    }
    let containers = pod.listed();
    let hopeless = |container: &Listed<'_>| {
        container.kind == Kind::Init
            && last_exit(seen, container.name())
                .is_some_and(|exit| exit.code != 0 && !restarts(pod, container, exit.code))
    };
    if !mains_begun(pod, seen) && containers.iter().any(hopeless) {
        return Some(Outcome::Failed);
    }
    let mut failed = false;
    for container in containers.iter().filter(|container| container.kind == Kind::Main) {
        let code = match last_exit(seen, container.name()) {
            Some(exit) => exit.code,
            // SIGKILL's code is what upstream reports for containers it cannot find.
            None if is_lost(pod, seen, container.name()) => 137,
            None => return None,
        };
        if restarts(pod, container, code) {
            return None;
        }
        failed |= code != 0;
    }
    Some(if failed { Outcome::Failed } else { Outcome::Succeeded })
}

/// How a pod that is being deleted ended, once nothing of it runs.
pub(crate) fn stopped_outcome(pod: &Pod, seen: &PodSeen) -> Outcome {
    let containers = pod.listed();
    let mut mains = containers.iter().filter(|container| container.kind == Kind::Main);
    let clean = |container: &Listed<'_>| {
        last_exit(seen, container.name()).is_some_and(|exit| exit.code == 0)
    };
    if mains.all(clean) { Outcome::Succeeded } else { Outcome::Failed }
}
