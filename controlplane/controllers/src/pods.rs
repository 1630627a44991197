//! Facts about pods that several controllers use.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// `status.phase`, `""` when absent.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// Whether its containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts towards a replica count: neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// A condition of the pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the `Ready` condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when the pod is ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long until the pod has been ready for `min_ready_secs`; zero if it has, `None` if it is not
/// ready.
pub fn available_in(pod: &Pod, min_ready_secs: i32, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    let min_ready_secs = u64::try_from(min_ready_secs).unwrap_or(0);
    if min_ready_secs == 0 {
        return Some(Duration::ZERO);
    }
    // Ready without a time: as upstream, not known to be available.
    let ready_for = now.duration_since(ready_since(pod)?);
    let wanted = Duration::from_secs(min_ready_secs);
    Some(wanted.saturating_sub(ready_for.try_into().unwrap_or(Duration::ZERO)))
}

/// Whether the pod has been ready for `min_ready_secs`.
pub fn is_available(pod: &Pod, min_ready_secs: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_secs, now) == Some(Duration::ZERO)
}

/// The pod's node, `""` while it has none.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

/// Most restarts of any of its containers.
pub fn restarts_max(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or(&[]);
    containers.iter().map(|container| container.restart_count).max().unwrap_or(0)
}

/// A pod made from a template for an owner; the server completes its name.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_string()),
            generate_name: Some(format!("{}-", owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
