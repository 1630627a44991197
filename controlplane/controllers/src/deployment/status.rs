//! Status and conditions of a Deployment. PURE.
//!
//! `kubectl rollout status` and `kubectl wait --for=condition=Available` read these.
//! Source: kubernetes pkg/controller/deployment/{progress,sync}.go, v1.36.

use std::sync::Arc;
use std::time::Duration;

use informer::Object;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::revision::Sets;
use super::rolling::{Bounds, available, replicas};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Reason of a rollout that is over.
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// As upstream: a deadline of the largest integer means none.
const NO_DEADLINE: i32 = i32::MAX;

/// `status.conditions` on the way to its next version.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub(super) list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let status = deployment.status.as_ref();
        let list = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
        Self { list, now }
    }

    pub(super) fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    /// Sets a condition; if its status and reason are those it has, nothing changes. Both times
    /// are now, but the transition time stays as long as the status does.
    pub(super) fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let known = self.get(kind);
        if known.is_some_and(|c| c.status == status && c.reason.as_deref() == Some(reason)) {
            return;
        }
        self.put(kind, status, reason, message);
    }

    /// As [`Conditions::set`], but the update time becomes now in any case.
    fn put(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let known = self.get(kind).filter(|known| known.status == status);
        let since = known.and_then(|known| known.last_transition_time.clone());
        let fresh = DeploymentCondition {
            type_: kind.to_string(),
            status: status.to_string(),
            reason: Some(reason.to_string()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        self.remove(kind);
        self.list.push(fresh);
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }
}

/// The deadline, if there is one.
pub(super) fn deadline_secs(deployment: &Deployment) -> Option<i32> {
    let secs = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (secs != NO_DEADLINE).then_some(secs)
}

/// Notes that a rollout was paused or resumed, so that time spent paused does not count against
/// the deadline.
pub(super) fn note_pause(deployment: &Deployment, conditions: &mut Conditions) {
    if deadline_secs(deployment).is_none() {
        return;
    }
    let reason = conditions.get(PROGRESSING).and_then(|known| known.reason.clone());
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let noted = reason.as_deref() == Some("DeploymentPaused");
    let paused = is_paused(deployment);
    if paused && !noted {
        let message = "Deployment is paused".into();
        conditions.set(PROGRESSING, "Unknown", "DeploymentPaused", message);
    } else if !paused && noted {
        let message = "Deployment is resumed".into();
        conditions.set(PROGRESSING, "Unknown", "DeploymentResumed", message);
    }
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// The counts, and the conditions that follow from counts alone.
pub(super) fn counted(
    deployment: &Deployment,
    sets: &Sets,
    bounds: Bounds,
    mut conditions: Conditions,
) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| {
        sets.all().map(|set| count(set)).fold(0, i32::saturating_add)
    };
    let up = sum(available);
    if up >= bounds.least_available() {
        let message = "Deployment has minimum availability.".into();
        conditions.set(AVAILABLE, "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.".into();
        conditions.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
    }
    let known = deployment.status.as_ref();
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(actual)),
        updated_replicas: nonzero(sets.new.as_deref().map_or(0, actual)),
        ready_replicas: nonzero(sum(ready)),
        available_replicas: nonzero(up),
        unavailable_replicas: nonzero((sum(replicas) - up).max(0)),
        terminating_replicas: Some(sum(terminating)),
        collision_count: known.and_then(|status| status.collision_count),
        conditions: Some(conditions.list),
    }
}

fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn terminating(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// Adds what is known of the rollout's progress to a counted status.
pub(super) fn with_progress(
    deployment: &Deployment,
    sets: &Sets,
    bounds: Bounds,
    mut status: DeploymentStatus,
    now: Timestamp,
) -> DeploymentStatus {
    let list = status.conditions.take().unwrap_or_default();
    let mut conditions = Conditions { list, now };
    let known = conditions.get(PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && known.as_ref().is_some_and(|known| known.reason.as_deref() == Some(COMPLETE));
    match deadline_secs(deployment) {
        None => conditions.remove(PROGRESSING),
        Some(_) if was_complete => {}
        Some(secs) => {
            let what = match &sets.new {
                Some(set) => format!("ReplicaSet {:?}", set.key().name),
                None => format!("Deployment {:?}", deployment.key().name),
            };
            let before = deployment.status.clone().unwrap_or_default();
            if is_complete(deployment, bounds, &status) {
                let message = format!("{what} has successfully progressed.");
                conditions.set(PROGRESSING, "True", COMPLETE, message);
            } else if has_progressed(&before, &status) {
                // The update time moves with every progress: the deadline counts from it.
                let message = format!("{what} is progressing.");
                conditions.put(PROGRESSING, "True", "ReplicaSetUpdated", message);
            } else if known.as_ref().is_some_and(|known| has_timed_out(known, secs, now)) {
                let message = format!("{what} has timed out progressing.");
                conditions.set(PROGRESSING, "False", TIMED_OUT, message);
            }
        }
    }
    match failure(sets) {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            let message = failure.message.clone().unwrap_or_default();
            conditions.set(REPLICA_FAILURE, &failure.status, &reason, message);
        }
        None => conditions.remove(REPLICA_FAILURE),
    }
    status.conditions = Some(conditions.list);
    status
}

/// Whether every pod is of the new template and available.
pub(super) fn is_complete(
    deployment: &Deployment,
    bounds: Bounds,
    status: &DeploymentStatus,
) -> bool {
    let all = [status.updated_replicas, status.replicas, status.available_replicas];
    all.iter().all(|count| count.unwrap_or(0) == bounds.replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(after) > updated(before)
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn has_timed_out(progressing: &DeploymentCondition, secs: i32, now: Timestamp) -> bool {
    match progressing.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => deadline_in(progressing, secs, now).is_none(),
    }
}

/// Time until the deadline; `None` if it is past.
fn deadline_in(progressing: &DeploymentCondition, secs: i32, now: Timestamp) -> Option<Duration> {
    let since = progressing.last_update_time.as_ref().map_or(now, |time| time.0);
    let past: Duration = now.duration_since(since).try_into().unwrap_or(Duration::ZERO);
    let limit = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    limit.checked_sub(past).filter(|rest| !rest.is_zero())
}

/// When a stuck rollout has to be looked at again to find that it has timed out.
pub(super) fn look_again_in(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let secs = deadline_secs(deployment)?;
    let conditions = status.conditions.as_deref().unwrap_or(&[]);
    let progressing = conditions.iter().find(|condition| condition.type_ == PROGRESSING)?;
    if matches!(progressing.reason.as_deref(), Some(COMPLETE | TIMED_OUT)) {
        return None;
    }
    // Times in conditions are whole seconds: one more makes sure that the deadline is past.
    deadline_in(progressing, secs, now).map(|rest| rest + Duration::from_secs(1))
}

/// The failure of the new ReplicaSet, else of any.
fn failure(sets: &Sets) -> Option<&ReplicaSetCondition> {
    sets.all().find_map(|set: &Arc<ReplicaSet>| {
        let conditions = set.status.as_ref()?.conditions.as_deref()?;
        conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)
    })
}
