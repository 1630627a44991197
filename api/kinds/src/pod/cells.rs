//! The cells of `kubectl get pods`.
//!
//! Source of behaviour: kubernetes `pkg/printers/internalversion`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{ObjectExt, conditions, facts};
use serde_json::{Value, json};

use crate::cells::{self, NONE};
use crate::kind::Cell;
use crate::read::{Read, part};

/// What a pod's container statuses come to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    /// When a container last ended before it was started again; empty if never.
    last_restart: String,
}

impl Summary {
    fn count(&mut self, status: &Value) {
        self.restarts += status.int("restartCount").unwrap_or(0);
        let finished = status.str_at(&["lastState", "terminated", "finishedAt"]);
        // Times in canonical form order as texts do.
        if finished > self.last_restart.as_str() {
            self.last_restart = finished.to_string();
        }
    }
}

/// The cells of a row.
pub(crate) fn cells(pod: &Value, now: Timestamp) -> Vec<Cell> {
    let summary = summarize(pod);
    let restarts = if summary.restarts != 0 && !summary.last_restart.is_empty() {
        let ago = cells::since(&summary.last_restart, now);
        format!("{} ({ago} ago)", summary.restarts)
    } else {
        summary.restarts.to_string()
    };
    let status = part(pod, &["status"]);
    let ip = status.items("podIPs").first().map_or("", |ip| ip.text("ip"));
    vec![
        cells::name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        cells::age(pod, now),
        cells::or_none(ip),
        cells::or_none(pod.str_at(&["spec", "nodeName"])),
        cells::or_none(status.text("nominatedNodeName")),
        readiness_gates(pod),
    ]
}

fn readiness_gates(pod: &Value) -> Cell {
    let gates = pod.list_at(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return json!(NONE);
    }
    let known = pod.list_at(&["status", "conditions"]);
    let holding =
        gates.iter().filter(|gate| conditions::is_true(known, gate.text("conditionType"))).count();
    json!(format!("{holding}/{}", gates.len()))
}

fn summarize(pod: &Value) -> Summary {
    let status = part(pod, &["status"]);
    let (phase, own_reason) = (status.text("phase"), status.text("reason"));
    let init_specs = pod.list_at(&["spec", "initContainers"]);
    let sidecars = init_specs.iter().filter(|container| facts::is_sidecar(container)).count();
    let mut summary = Summary {
        ready: 0,
        total: pod.list_at(&["spec", "containers"]).len() + sidecars,
        reason: if own_reason.is_empty() { phase } else { own_reason }.to_string(),
        restarts: 0,
        last_restart: String::new(),
    };
    let all_conditions = status.items("conditions");
    let gated = conditions::get(all_conditions, "PodScheduled")
        .is_some_and(|condition| condition.text("reason") == "SchedulingGated");
    if gated {
        summary.reason = "SchedulingGated".to_string();
    }
    let initializing = summarize_init(pod, init_specs, &mut summary);
    if !initializing || conditions::is_true(all_conditions, "Initialized") {
        summarize_main(pod, init_specs, &mut summary);
    }
    if !pod.deletion_timestamp().is_empty() {
        if own_reason == "NodeLost" {
            summary.reason = "Unknown".to_string();
        } else if !facts::is_terminal(pod) {
            summary.reason = "Terminating".to_string();
        }
    }
    summary
}

/// Goes through the init containers; says whether one of them is still at work.
fn summarize_init(pod: &Value, specs: &[Value], summary: &mut Summary) -> bool {
    for (index, status) in pod.list_at(&["status", "initContainerStatuses"]).iter().enumerate() {
        summary.count(status);
        let state = part(status, &["state"]);
        let terminated = state.field("terminated");
        if terminated.is_some_and(|end| end.int("exitCode") == Some(0)) {
            continue;
        }
        let sidecar = specs
            .iter()
            .find(|spec| spec.text("name") == status.text("name"))
            .is_some_and(facts::is_sidecar);
        if sidecar && status.flag("started") {
            summary.ready += usize::from(status.flag("ready"));
            continue;
        }
        let waiting = part(state, &["waiting"]).text("reason");
        summary.reason = if let Some(end) = terminated {
            format!("Init:{}", end_reason(end))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        return true;
    }
    false
}

fn end_reason(end: &Value) -> String {
    let (reason, signal) = (end.text("reason"), end.int("signal").unwrap_or(0));
    if !reason.is_empty() {
        reason.to_string()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", end.int("exitCode").unwrap_or(0))
    }
}

/// Goes through the main containers. Restarts are theirs and the sidecars'.
fn summarize_main(pod: &Value, init_specs: &[Value], summary: &mut Summary) {
    summary.restarts = 0;
    summary.last_restart = String::new();
    let status = part(pod, &["status"]);
    for init in status.items("initContainerStatuses") {
        let spec = init_specs.iter().find(|spec| spec.text("name") == init.text("name"));
        if spec.is_some_and(facts::is_sidecar) {
            summary.count(init);
        }
    }
    let (mut running, mut error_reason) = (false, String::new());
    for container in status.items("containerStatuses").iter().rev() {
        summary.count(container);
        let state = part(container, &["state"]);
        let waiting = part(state, &["waiting"]).text("reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_string();
        } else if let Some(end) = state.field("terminated") {
            summary.reason = end_reason(end);
            if end.int("exitCode").unwrap_or(0) != 0 {
                error_reason.clone_from(&summary.reason);
            }
        } else if container.flag("ready") && state.field("running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if running && conditions::is_true(status.items("conditions"), "Ready") {
            summary.reason = "Running".to_string();
        } else if !error_reason.is_empty() {
            summary.reason = error_reason;
        } else if running {
            summary.reason = "NotReady".to_string();
        }
    }
}
