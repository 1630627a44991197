//! Statuses of containers.

use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use runtime::{ContainerSeen, ContainerState, Exit};

use super::View;
use crate::observe::{Prepared, Problem};
use crate::plan::{ERROR_SHOWN, Intent};
use crate::pod::{Kind, Listed, PodExt, timestamp};
use crate::restart::{
    backoff_secs, is_initialized, is_lost, is_started, outcome, restarts, retry_at,
};
use crate::spec::{IMAGE, IMAGE_ID};

/// Scheme of container ids.
const SCHEME: &str = "skeg://";

/// Statuses of init, main and ephemeral containers, each in the order of the spec.
pub(super) fn statuses(view: &View<'_>) -> [Vec<ContainerStatus>; 3] {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for listed in view.pod.listed() {
        let place = match listed.kind {
            Kind::Init | Kind::Sidecar => 0,
            Kind::Main => 1,
            Kind::Ephemeral => 2,
        };
        lists[place].push(status(view, &listed));
    }
    lists
}

fn status(view: &View<'_>, listed: &Listed<'_>) -> ContainerStatus {
    let name = listed.name();
    let seen = view.seen;
    let before = before(view, name);
    let Some(latest) = seen.latest(name) else { return unseen(view, listed, before) };
    let attempts = seen.attempts(name);
    let previous = attempts.iter().rev().nth(1).and_then(|old| terminated(view, old));
    let (state, last) = match &latest.state {
        ContainerState::Created => (waiting("ContainerCreating", ""), previous),
        ContainerState::Running { started_at_nanos, .. } => {
            let started_at = timestamp(*started_at_nanos).map(Time);
            let running = ContainerStateRunning { started_at };
            (ApiState { running: Some(running), ..ApiState::default() }, previous)
        }
        ContainerState::Exited(exit) => ended(view, listed, latest, exit, previous),
    };
    let count = i32::try_from(latest.spec.attempt).unwrap_or(i32::MAX);
    let last = last.or_else(|| {
        let known = before.filter(|before| before.restart_count == count);
        known.and_then(|before| before.last_state.as_ref()?.terminated.clone())
    });
    let annotation = |name: &str| latest.spec.annotations.get(name).cloned().unwrap_or_default();
    let running = state.running.is_some();
    ContainerStatus {
        container_id: Some(format!("{SCHEME}{}", latest.spec.id)),
        image: annotation(IMAGE),
        image_id: annotation(IMAGE_ID),
        last_state: Some(ApiState { terminated: last, ..ApiState::default() }),
        name: name.to_owned(),
        ready: is_ready(view, listed, latest),
        restart_count: count,
        started: Some(running && is_started(listed, seen)),
        allocated_resources: requests(&listed.spec),
        resources: listed
            .spec
            .resources
            .clone()
            .filter(|resources| resources.limits.is_some() || resources.requests.is_some()),
        state: Some(state),
        user: running.then(|| user(latest)),
        volume_mounts: mounts(&listed.spec),
        ..ContainerStatus::default()
    }
}

fn before<'a>(view: &View<'a>, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [
        &view.before.init_container_statuses,
        &view.before.container_statuses,
        &view.before.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status.name == name)
}

fn requests(
    container: &Container,
) -> Option<
    std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
> {
    container.resources.as_ref()?.requests.clone()
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let message = Some(message.to_owned()).filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ApiState { waiting: Some(waiting), ..ApiState::default() }
}

fn terminated_state(terminated: ContainerStateTerminated) -> ApiState {
    ApiState { terminated: Some(terminated), ..ApiState::default() }
}

/// A container that is not there: it has not begun, or nothing is left of it.
fn unseen(
    view: &View<'_>,
    listed: &Listed<'_>,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let name = listed.name();
    let fresh = ContainerStatus {
        image: listed.image().to_owned(),
        name: name.to_owned(),
        started: Some(false),
        last_state: Some(ApiState::default()),
        state: Some(reason_to_wait(view, listed)),
        allocated_resources: requests(&listed.spec),
        resources: listed
            .spec
            .resources
            .clone()
            .filter(|resources| resources.limits.is_some() || resources.requests.is_some()),
        volume_mounts: mounts(&listed.spec),
        ..ContainerStatus::default()
    };
    let Some(before) = before.filter(|_| is_lost(view.pod, view.seen, name)) else { return fresh };
    // What is final stays as it was: containers of finished pods are removed some day.
    let known = before.state.as_ref().and_then(|state| state.terminated.clone());
    let over = view.seen.gone
        || !matches!(view.intent, Intent::Run)
        || outcome(view.pod, view.seen).is_some();
    let last = known.clone().unwrap_or_else(|| ContainerStateTerminated {
        container_id: before.container_id.clone(),
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..ContainerStateTerminated::default()
    });
    if over {
        let state = Some(terminated_state(last));
        return ContainerStatus { ready: false, started: Some(false), state, ..before.clone() };
    }
    ContainerStatus {
        restart_count: before.restart_count,
        last_state: Some(terminated_state(last)),
        container_id: before.container_id.clone(),
        image_id: before.image_id.clone(),
        ..fresh
    }
}

/// Why a container that has not begun waits.
fn reason_to_wait(view: &View<'_>, listed: &Listed<'_>) -> ApiState {
    if let Some(state) = problem_state(view, listed) {
        return state;
    }
    let initialized = is_initialized(view.pod, view.seen);
    let has_init = view.pod.listed().iter().any(|c| matches!(c.kind, Kind::Init | Kind::Sidecar));
    if !initialized && has_init && listed.kind == Kind::Main
        || listed.kind != Kind::Main && view.seen.sandbox.is_some()
    {
        return waiting("PodInitializing", "");
    }
    waiting("ContainerCreating", "")
}

/// A failure to get the image or to make the container.
fn problem_state(view: &View<'_>, listed: &Listed<'_>) -> Option<ApiState> {
    let name = listed.name();
    if let Some(Prepared::Failed(problem)) = view.seen.images.get(name) {
        return Some(image_problem(view, listed, problem));
    }
    let problem = view.seen.start_problems.get(name)?;
    Some(waiting(&problem.reason, &problem.message))
}

/// A failed pull is an error at first, then a back-off.
fn image_problem(view: &View<'_>, listed: &Listed<'_>, problem: &Problem) -> ApiState {
    let fresh = view.now.duration_since(problem.failed_at) < ERROR_SHOWN;
    if problem.reason != "ErrImagePull" || fresh {
        return waiting(&problem.reason, &problem.message);
    }
    let message = format!(
        "Back-off pulling image \"{}\": {}: {}",
        listed.image(),
        problem.reason,
        problem.message
    );
    waiting("ImagePullBackOff", &message)
}

/// State and last state of a container that has ended.
fn ended(
    view: &View<'_>,
    listed: &Listed<'_>,
    latest: &ContainerSeen,
    exit: &Exit,
    previous: Option<ContainerStateTerminated>,
) -> (ApiState, Option<ContainerStateTerminated>) {
    let this = terminated(view, latest);
    let state =
        |this: Option<ContainerStateTerminated>| this.map(terminated_state).unwrap_or_default();
    let again = view.intent == Intent::Run
        && outcome(view.pod, view.seen).is_none()
        && restarts(view.pod, listed, exit.code);
    if !again {
        return (state(this), previous);
    }
    if let Some(waits) = problem_state(view, listed) {
        return (waits, this);
    }
    if retry_at(latest, exit) <= view.now {
        return (state(this), previous);
    }
    if let Some(error) = &exit.start_error
        && latest.spec.attempt == 0
    {
        return (waiting("RunContainerError", error), this);
    }
    let pod = view.pod;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(backoff_secs(latest, exit)),
        listed.name(),
        pod.name(),
        pod.namespace(),
        pod.uid(),
    );
    (waiting("CrashLoopBackOff", &message), this)
}

/// A number of seconds as Go prints a duration: `10s`, `2m40s`, `5m0s`.
fn go_duration(secs: i64) -> String {
    if secs < 60 { format!("{secs}s") } else { format!("{}m{}s", secs / 60, secs % 60) }
}

/// How an attempt ended, if it has.
fn terminated(view: &View<'_>, container: &ContainerSeen) -> Option<ContainerStateTerminated> {
    let ContainerState::Exited(exit) = &container.state else { return None };
    let reason = if exit.start_error.is_some() {
        "StartError"
    } else if exit.oom_killed {
        "OOMKilled"
    } else if exit.code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let message = exit.start_error.clone();
    let message = message.or_else(|| view.seen.messages.get(&container.spec.id).cloned());
    let started = timestamp(exit.started_at_nanos);
    Some(ContainerStateTerminated {
        container_id: Some(format!("{SCHEME}{}", container.spec.id)),
        exit_code: exit.code,
        finished_at: timestamp(exit.finished_at_nanos).map(Time),
        message: message.filter(|message| !message.is_empty()),
        reason: Some(reason.into()),
        signal: None,
        started_at: started.or(timestamp(exit.finished_at_nanos)).map(Time),
    })
}

/// Ready: an init container that is done; any other that runs, has started, and whose readiness
/// probe, if any, says so.
fn is_ready(view: &View<'_>, listed: &Listed<'_>, latest: &ContainerSeen) -> bool {
    match (&latest.state, listed.kind) {
        (ContainerState::Exited(exit), Kind::Init) => exit.code == 0,
        (ContainerState::Running { .. }, Kind::Main | Kind::Sidecar) => {
            let probed = view.seen.probed(&latest.spec.id);
            let has_probe = listed.spec.readiness_probe.is_some();
            // A container that is being stopped is probed on, as upstream does; its pod is not.
            is_started(listed, view.seen) && (!has_probe || probed.ready == Some(true))
        }
        _ => false,
    }
}

fn user(container: &ContainerSeen) -> ContainerUser {
    let spec = &container.spec;
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: i64::from(spec.uid),
            gid: i64::from(spec.gid),
            supplemental_groups: Some(
                spec.additional_gids.iter().map(|gid| i64::from(*gid)).collect(),
            ),
        }),
    }
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let statuses = mounts.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            mount_path: mount.mount_path.clone(),
            name: mount.name.clone(),
            read_only: mount.read_only,
            recursive_read_only: read_only.then(|| recursive.to_owned()),
            ..VolumeMountStatus::default()
        }
    });
    Some(statuses.collect())
}
