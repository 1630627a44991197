//! What to do for one ReplicaSet or ReplicationController. PURE.
//!
//! Source of behaviour: kubernetes pkg/controller/replicaset (which runs both kinds), v1.36.

use std::sync::Arc;

use informer::{Action, Object, reference};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::deletion_order;
use super::replicated::{Replicated, Wanted};
use crate::controller::{Announcement, Context, Failure, Plan, Step};
use crate::owner::{claim, controller_reference};
use crate::pods;

/// Most pods created or deleted by one plan (upstream's burst).
const BURST: usize = 500;

pub(super) fn plan<K: Replicated>(
    set: &K,
    candidates: &[Arc<Pod>],
    siblings: &[Arc<Pod>],
    context: &Context,
) -> Plan {
    let Some(wanted) = set.wanted() else { return Plan::nothing() };
    // Finished pods neither count nor are adopted; pods being deleted are only reported.
    let candidates: Vec<_> =
        candidates.iter().filter(|pod| !pods::is_finished(pod)).cloned().collect();
    let claimed = claim(set, &wanted.selector, &candidates);
    let mut plan = Plan::of(claimed.actions);
    let (active, terminating): (Vec<_>, Vec<_>) =
        claimed.owned.into_iter().partition(|pod| pods::is_active(pod));

    let status = status(set, &wanted, &active, terminating.len(), context);
    let status =
        (set.status().as_ref() != Some(&status)).then(|| Step::from(set.update_status(status)));
    let pods = if set.is_terminating() {
        Vec::new()
    } else {
        adjust(set, &wanted, active.clone(), siblings, context.now)
    };
    // Pods first, for they are what somebody waits for; but after a failure the status first, or
    // the next failure would keep it from being told.
    if context.failure.is_some() {
        plan.steps.extend(status);
        plan.steps.extend(pods);
    } else {
        plan.steps.extend(pods);
        plan.steps.extend(status);
    }

    let waits =
        active.iter().filter_map(|pod| pods::available_in(pod, wanted.min_ready_secs, context.now));
    if let Some(wait) = waits.filter(|wait| !wait.is_zero()).min() {
        plan.again_after(wait);
    }
    plan
}

/// Creates what is missing, deletes what is too much.
fn adjust<K: Replicated>(
    set: &K,
    wanted: &Wanted<'_>,
    active: Vec<Arc<Pod>>,
    siblings: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<Step> {
    if let Some(missing) = wanted.replicas.checked_sub(active.len()) {
        let Some(template) = wanted.template else { return Vec::new() };
        let namespace = set.meta().namespace.as_deref().unwrap_or("");
        let pod = pods::from_template(template, namespace, controller_reference(set));
        let announcement = Announcement {
            regarding: reference(set),
            done: ("SuccessfulCreate", "Created pod: {name}".into()),
            failed: Some(("FailedCreate", "Error creating: {error}".into())),
        };
        let step = Step::announced(Action::create(&pod), announcement);
        return vec![step; missing.min(BURST)];
    }
    let too_many = (active.len() - wanted.replicas).min(BURST);
    deletion_order(active, siblings, now)
        .into_iter()
        .take(too_many)
        .map(|pod| {
            let announcement = Announcement {
                regarding: reference(set),
                done: ("SuccessfulDelete", "Deleted pod: {name}".into()),
                failed: Some(("FailedDelete", "Error deleting: {error}".into())),
            };
            Step::announced(Action::delete::<Pod>(pod.key(), pod.uid()), announcement)
        })
        .collect()
}

fn status<K: Replicated>(
    set: &K,
    wanted: &Wanted<'_>,
    active: &[Arc<Pod>],
    terminating: usize,
    context: &Context,
) -> ReplicaSetStatus {
    let template = wanted.template.and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|meta| meta.labels.as_ref());
    let has_template_labels = |pod: &Pod| {
        template_labels.is_none_or(|wanted| {
            let labels = pod.metadata.labels.as_ref();
            wanted.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
        })
    };
    let available = |pod: &Pod| pods::is_available(pod, wanted.min_ready_secs, context.now);
    let known = set.status().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(active, |_| true),
        fully_labeled_replicas: nonzero(count(active, has_template_labels)),
        ready_replicas: nonzero(count(active, pods::is_ready)),
        available_replicas: nonzero(count(active, available)),
        terminating_replicas: K::REPORTS_TERMINATING
            .then(|| i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.meta().generation.or(known.observed_generation),
        conditions: conditions(known.conditions, context),
    }
}

fn count(pods: &[Arc<Pod>], matches: impl Fn(&Pod) -> bool) -> i32 {
    let count = pods.iter().filter(|pod| matches(pod)).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Upstream leaves zero counts out of the JSON.
fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// `ReplicaFailure` tells of pods that could not be created or deleted.
fn conditions(
    known: Option<Vec<ReplicaSetCondition>>,
    context: &Context,
) -> Option<Vec<ReplicaSetCondition>> {
    const KIND: &str = "ReplicaFailure";
    let mut conditions = known.unwrap_or_default();
    let reason = context.failure.as_ref().and_then(|failure| reason(failure));
    match (reason, conditions.iter().any(|condition| condition.type_ == KIND)) {
        (Some(reason), false) => conditions.push(ReplicaSetCondition {
            type_: KIND.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: context.failure.as_ref().map(|failure| failure.message.clone()),
            last_transition_time: Some(Time(context.now)),
        }),
        (None, true) => conditions.retain(|condition| condition.type_ != KIND),
        // As upstream, the first failure's text stays until pods can be made again.
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Failures that only mean "planned from an old view" are no condition of the set.
fn reason(failure: &Failure) -> Option<&'static str> {
    match (failure.verb, failure.code) {
        (_, 404 | 409) => None,
        ("create", _) => Some("FailedCreate"),
        ("delete", _) => Some("FailedDelete"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
