//! The status of one PodDisruptionBudget. PURE.
//!
//! Source of behaviour: kubernetes pkg/controller/disruption, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use informer::Action;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controller::{Plan, Step};
use crate::pods;

/// An evicted pod that is still there after this time was not deleted after all.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: Result<i32, String>,
    now: Timestamp,
) -> Plan {
    let known = budget.status.clone().unwrap_or_default();
    let (disrupted, again_after) = disrupted(&known, pods, now);
    let status = match desired(budget, pods.len(), expected) {
        Ok((expected_pods, desired_healthy)) => {
            let healthy = |pod: &&Arc<Pod>| {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                pods::is_ready(pod)
                    && pod.metadata.deletion_timestamp.is_none()
                    && !disrupted.contains_key(name)
            };
            let current_healthy = count(pods.iter().filter(healthy).count());
            let left =
                if expected_pods > 0 { (current_healthy - desired_healthy).max(0) } else { 0 };
            PodDisruptionBudgetStatus {
                current_healthy: Some(current_healthy),
                desired_healthy: Some(desired_healthy),
                expected_pods: Some(expected_pods),
                disruptions_allowed: Some(left),
                disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
                observed_generation: budget.metadata.generation,
                conditions: Some(conditions(&known, budget, Ok(left), now)),
            }
        }
        Err(why) => PodDisruptionBudgetStatus {
            disruptions_allowed: Some(0),
            observed_generation: budget.metadata.generation,
            conditions: Some(conditions(&known, budget, Err(why), now)),
            ..known.clone()
        },
    };
    let mut plan = Plan::nothing();
    if budget.status.as_ref() != Some(&status) {
        let changed = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        plan.steps.push(Step::from(Action::update_status(&changed)));
    }
    if let Some(wait) = again_after {
        plan.again_after(wait);
    }
    plan
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Evicted pods that are not gone yet, and when the first of them has had its time.
fn disrupted(
    known: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut again_after: Option<Duration> = None;
    for (name, since) in known.disrupted_pods.iter().flatten() {
        let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(name));
        let is_there = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
        let passed: Duration = now.duration_since(since.0).try_into().unwrap_or(Duration::ZERO);
        if let Some(rest) = DELETION_TIMEOUT.checked_sub(passed).filter(|_| is_there) {
            kept.insert(name.clone(), since.clone());
            again_after = Some(again_after.map_or(rest, |known| known.min(rest)));
        }
    }
    (kept, again_after)
}

/// How many pods there should be, and how many of them healthy.
fn desired(
    budget: &PodDisruptionBudget,
    pods: usize,
    expected: Result<i32, String>,
) -> Result<(i32, i32), String> {
    let Some(spec) = &budget.spec else { return Ok((count(pods), 0)) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => {
            let expected = expected?;
            Ok((expected, (expected - part(max, expected)?).max(0)))
        }
        (None, Some(IntOrString::Int(min))) => Ok((count(pods), *min)),
        (None, Some(min @ IntOrString::String(_))) => {
            let expected = expected?;
            Ok((expected, part(min, expected)?))
        }
        (None, None) => Ok((count(pods), 0)),
    }
}

/// A number, or a share of the whole rounded up.
fn part(value: &IntOrString, whole: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent: Option<i64> = text.strip_suffix('%').and_then(|text| text.parse().ok());
            let percent = percent.ok_or_else(|| format!("{text:?} is no percentage"))?;
            let part = (i64::from(whole) * percent + 99).div_euclid(100);
            Ok(i32::try_from(part).unwrap_or(i32::MAX))
        }
    }
}

fn conditions(
    known: &PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    allowed: Result<i32, String>,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let (status, reason, message) = match allowed {
        Ok(left) if left > 0 => ("True", "SufficientPods", String::new()),
        Ok(_) => ("False", "InsufficientPods", String::new()),
        Err(why) => ("False", "SyncFailed", why),
    };
    let mut conditions = known.conditions.clone().unwrap_or_default();
    let before = conditions.iter().find(|condition| condition.type_ == KIND);
    let since = before
        .filter(|condition| condition.status == status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != KIND);
    conditions.push(Condition {
        type_: KIND.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    });
    conditions
}

#[cfg(test)]
mod tests;
