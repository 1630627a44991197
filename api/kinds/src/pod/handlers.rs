//! Validation of probes and lifecycle hooks.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::check;
use crate::read::Read;

const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// Signals that can be named as a container's stop signal on Linux, sorted as they are listed.
const STOP_SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Checks a container's three probes.
pub(crate) fn check_probes(container: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.field(kind) else { continue };
        let here = path.child(kind);
        check_probe(probe, &here, errors);
        if kind == "readinessProbe" {
            if let Some(grace) = probe.field("terminationGracePeriodSeconds") {
                let here = here.child("terminationGracePeriodSeconds");
                errors.invalid(&here, grace, "must not be set for readinessProbes");
            }
        } else if probe.int("successThreshold") != Some(1) {
            let count = probe.int("successThreshold").unwrap_or(0);
            errors.invalid(&here.child("successThreshold"), &json!(count), "must be 1");
        }
    }
}

fn check_probe(probe: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_handler(probe, &PROBE_HANDLERS, None, path, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        check::nonnegative(errors, &path.child(key), probe.int(key).unwrap_or(0));
    }
    if let Some(grace) = probe.int("terminationGracePeriodSeconds").filter(|grace| *grace <= 0) {
        let here = path.child("terminationGracePeriodSeconds");
        errors.invalid(&here, &json!(grace), "must be greater than 0");
    }
}

/// Checks a container's `lifecycle`. `grace_secs` is the pod's grace period, `os` its system.
pub(crate) fn check_lifecycle(
    lifecycle: &Value,
    grace_secs: Option<i64>,
    os: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = lifecycle.field(hook) {
            check_handler(handler, &HOOK_HANDLERS, grace_secs, &path.child(hook), errors);
        }
    }
    if let Some(signal) = lifecycle.text_opt("stopSignal") {
        let here = path.child("stopSignal");
        match os {
            "" => {
                let detail = "may not be set for containers with empty `spec.os.name`";
                errors.forbidden(&here, detail);
            }
            "windows" => check::one_of(errors, &here, signal, &["SIGKILL", "SIGTERM"]),
            "linux" => check::one_of(errors, &here, signal, STOP_SIGNALS),
            _ => {}
        }
    }
}

fn check_handler(
    handler: &Value,
    kinds: &[&str],
    grace_secs: Option<i64>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = handler.field(kind) else { continue };
        let here = path.child(kind);
        if found {
            errors.forbidden(&here, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if action.items("command").is_empty() {
                    errors.required(&here.child("command"), "");
                }
            }
            "httpGet" => check_http_get(action, &here, errors),
            "sleep" => check_sleep(action, grace_secs, &here, errors),
            _ => check::port(errors, &here.child("port"), action.field("port")),
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn check_http_get(get: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, get, path, "path");
    check::port(errors, &path.child("port"), get.field("port"));
    check::one_of(errors, &path.child("scheme"), get.text("scheme"), &["HTTP", "HTTPS"]);
    for header in get.items("httpHeaders") {
        let name = header.text("name");
        check::faults(errors, &path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

fn check_sleep(sleep: &Value, grace_secs: Option<i64>, path: &FieldPath, errors: &mut FieldErrors) {
    let secs = sleep.int("seconds").unwrap_or(0);
    if let Some(grace) = grace_secs.filter(|grace| secs < 0 || secs > *grace) {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(path, &json!(secs), &detail);
    }
}
