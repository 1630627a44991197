//! Conditions of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{View, counts};
use crate::pod::{Kind, PodExt};

/// What a condition comes to.
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { holds: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

/// The kubelet's own conditions in upstream's order, then those of others as they were.
pub(super) fn conditions(
    view: &View<'_>,
    status: &PodStatus,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or("");
    let containers = containers_ready(view, phase, init, main);
    let ready = ready(view, &containers, phase);
    let connected = view.seen.sandbox.is_some()
        && (view.pod.is_host_network() || !view.seen.addresses.is_empty());
    let sandbox = Verdict { holds: connected, reason: "", message: String::new() };
    let own = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(view, phase, init)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::yes()),
    ];
    let before = view.before.conditions.as_deref().unwrap_or(&[]);
    let names: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
    let foreign = before.iter().filter(|known| !names.contains(&known.type_.as_str())).cloned();
    let mut all: Vec<PodCondition> =
        own.iter().map(|(name, verdict)| condition(view, before, name, verdict)).collect();
    all.extend(foreign);
    all
}

fn condition(
    view: &View<'_>,
    before: &[PodCondition],
    name: &str,
    verdict: &Verdict,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let known = before.iter().find(|known| known.type_ == name);
    let same = known.filter(|known| known.status == status);
    let since = same.and_then(|known| known.last_transition_time.clone());
    PodCondition {
        last_transition_time: since.or(Some(Time(view.now))),
        message: Some(verdict.message.clone()).filter(|message| !message.is_empty()),
        reason: Some(verdict.reason.to_owned()).filter(|reason| !reason.is_empty()),
        status: status.to_owned(),
        type_: name.to_owned(),
        observed_generation: view.pod.generation(),
        ..PodCondition::default()
    }
}

fn finished(phase: &str) -> Option<Verdict> {
    match phase {
        "Succeeded" => Some(Verdict::no("PodCompleted", String::new())),
        "Failed" => Some(Verdict::no("PodFailed", String::new())),
        _ => None,
    }
}

fn initialized(view: &View<'_>, phase: &str, init: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict { reason: "PodCompleted", ..Verdict::yes() },
        "Running" => return Verdict::yes(),
        _ => {}
    }
    let containers = view.pod.listed();
    let done = |status: &&ContainerStatus| {
        let kind = containers.iter().find(|c| c.name() == status.name).map(|c| c.kind);
        match kind {
            Some(Kind::Sidecar) => status.started == Some(true),
            _ => status.ready,
        }
    };
    let missing: Vec<&str> =
        init.iter().filter(|status| !done(status)).map(|status| status.name.as_str()).collect();
    if missing.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with incomplete status: [{}]", missing.join(" "));
    Verdict::no("ContainersNotInitialized", message)
}

fn containers_ready(
    view: &View<'_>,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Verdict {
    if let Some(verdict) = finished(phase) {
        return verdict;
    }
    let containers = view.pod.listed();
    let counted = containers.iter().filter(|container| counts(container.kind));
    let ready =
        |name: &str| init.iter().chain(main).any(|status| status.name == name && status.ready);
    let unready: Vec<&str> = counted.map(|c| c.name()).filter(|name| !ready(name)).collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::no("ContainersNotReady", message)
}

fn ready(view: &View<'_>, containers: &Verdict, phase: &str) -> Verdict {
    if !containers.holds {
        return finished(phase)
            .unwrap_or_else(|| Verdict::no(containers.reason, containers.message.clone()));
    }
    let before = view.before.conditions.as_deref().unwrap_or(&[]);
    let gates = PodExt::spec(view.pod).readiness_gates.as_deref().unwrap_or(&[]);
    let mut problems = Vec::new();
    for gate in gates {
        let name = &gate.condition_type;
        match before.iter().find(|known| known.type_ == *name).map(|c| c.status.as_str()) {
            Some("True") => {}
            Some(_) => problems.push(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but False"
            )),
            None => problems.push(format!(
                "corresponding condition of pod readiness gate \"{name}\" does not exist."
            )),
        }
    }
    if problems.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ReadinessGatesNotReady", problems.join(", "))
}
