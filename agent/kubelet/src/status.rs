//! The status of a pod. PURE: from its object, what the node knows, and the status before.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kubelet_pods.go (`generateAPIPodStatus`, `getPhase`,
//! `convertToAPIContainerStatuses`) and pkg/kubelet/status/generate.go, v1.36.

mod conditions;
mod containers;
mod patch;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::observe::PodSeen;
use crate::plan::Intent;
use crate::pod::{Kind, PodExt};
use crate::restart::{Outcome, is_initialized, outcome, stopped_outcome};
use crate::spec::resources::qos;

pub(crate) use patch::patch;

/// What a status is made from.
pub(crate) struct View<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) intent: Intent,
    pub(crate) seen: &'a PodSeen,
    /// The newest status that the API is known to have.
    pub(crate) before: &'a PodStatus,
    pub(crate) host_ips: &'a [IpAddr],
    pub(crate) now: Timestamp,
}

impl View<'_> {
    /// How the pod ended: `None` while it has something to do or anything of it runs.
    fn ending(&self) -> Option<Outcome> {
        let stopping = match self.intent {
            Intent::Run => outcome(self.pod, self.seen),
            Intent::Stop { .. } => {
                outcome(self.pod, self.seen).or_else(|| Some(stopped_outcome(self.pod, self.seen)))
            }
        };
        stopping.filter(|_| self.seen.alive().is_empty() || is_final(self.before))
    }
}

fn is_final(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The whole status, with the parts that others write taken over from before.
pub(crate) fn status(view: &View<'_>) -> PodStatus {
    let (pod, seen) = (view.pod, view.seen);
    let rejected = seen.record.ended.as_ref().filter(|ended| ended.rejected);
    let mut status = view.before.clone();
    status.observed_generation = pod.generation().or(status.observed_generation);
    status.qos_class = Some(qos(pod));
    status.start_time = status.start_time.or(Some(Time(view.now)));
    let [init, main, ephemeral] = containers::statuses(view);
    status.phase = Some(phase(view, &main));
    if let Some(ended) = &seen.record.ended {
        status.reason = Some(ended.reason.clone());
        status.message = Some(ended.message.clone());
    }
    status.host_ip = view.host_ips.first().map(ToString::to_string);
    let host_ips = view.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() });
    status.host_ips = Some(host_ips.collect());
    let addresses: &[IpAddr] = if pod.is_host_network() && rejected.is_none() {
        view.host_ips
    } else {
        seen.known_addresses()
    };
    if !addresses.is_empty() {
        status.pod_ip = addresses.first().map(ToString::to_string);
        let ips = addresses.iter().map(|ip| PodIP { ip: ip.to_string() });
        status.pod_ips = Some(ips.collect());
    }
    status.conditions = Some(conditions::conditions(view, &status, &init, &main));
    let list = |statuses: Vec<ContainerStatus>| Some(statuses).filter(|list| !list.is_empty());
    status.init_container_statuses = list(init);
    status.container_statuses = list(main);
    status.ephemeral_container_statuses = list(ephemeral);
    status
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. What is final stays.
fn phase(view: &View<'_>, main: &[ContainerStatus]) -> String {
    if is_final(view.before) {
        return view.before.phase.clone().unwrap_or_default();
    }
    match view.ending() {
        Some(Outcome::Succeeded) => return "Succeeded".into(),
        Some(Outcome::Failed) => return "Failed".into(),
        None => {}
    }
    let begun = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        let last = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) || last
    };
    let has_run = view.before.phase.as_deref() == Some("Running");
    let stopping = !matches!(view.intent, Intent::Run);
    let initialized = is_initialized(view.pod, view.seen) || (stopping && has_run);
    if initialized && main.iter().all(begun) { "Running".into() } else { "Pending".into() }
}

/// Whether a container counts as ready for the pod's conditions.
fn counts(kind: Kind) -> bool {
    matches!(kind, Kind::Main | Kind::Sidecar)
}

#[cfg(test)]
mod tests;
