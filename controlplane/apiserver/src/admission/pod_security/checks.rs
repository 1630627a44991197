//! What a pod must not do, by level and version. PURE.
//!
//! Source of behaviour: k8s.io/pod-security-admission `policy`, v1.36.

mod fields;
mod identity;

use objects::ObjectExt;
use serde_json::Value;

use super::policy::{Level, Standard};

/// A rule that a pod breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// In short.
    pub(super) reason: String,
    /// Who does what, for one pod.
    pub(super) detail: String,
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

/// The pod or template looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// Every container, those that run first first.
    fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| self.spec.list_at(&[list]))
    }

    /// The names of the containers for which something holds.
    fn named(self, holds: impl FnMut(&&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(holds).map(|one| one.str_at(&["name"])).collect()
    }

    fn is_windows(self) -> bool {
        self.spec.str_at(&["os", "name"]) == "windows"
    }

    /// Whether root in the pod is nobody on the node.
    fn has_own_users(self) -> bool {
        self.spec.bool_at(&["hostUsers"]) == Some(false)
    }
}

type Rule = fn(Pod<'_>) -> Option<Violation>;

/// A rule as it is since a minor version.
struct Check {
    id: &'static str,
    level: Level,
    since: u32,
    rule: Rule,
    /// The check of the lower level that it replaces.
    replaces: &'static str,
}

const fn baseline(id: &'static str, since: u32, rule: Rule) -> Check {
    Check { id, level: Level::Baseline, since, rule, replaces: "" }
}

const fn restricted(id: &'static str, since: u32, rule: Rule, replaces: &'static str) -> Check {
    Check { id, level: Level::Restricted, since, rule, replaces }
}

/// The versions of a check stand together, the oldest first; checks stand in the order of their
/// texts.
const CHECKS: [Check; 30] = [
    baseline("appArmorProfile", 0, fields::app_armor),
    baseline("capabilities_baseline", 0, fields::added_capabilities),
    baseline("hostNamespaces", 0, fields::host_namespaces),
    baseline("hostPathVolumes", 0, fields::host_paths),
    baseline("hostPorts", 0, fields::host_ports),
    baseline("hostProbesAndHostLifecycle", 34, fields::probed_hosts),
    baseline("privileged", 0, fields::privileged),
    baseline("procMount", 0, fields::proc_mount),
    baseline("procMount", 35, |pod| own_users_or(pod, fields::proc_mount)),
    baseline("seLinuxOptions", 0, |pod| fields::se_linux(pod, 3)),
    baseline("seLinuxOptions", 31, |pod| fields::se_linux(pod, 4)),
    baseline("seccompProfile_baseline", 0, fields::seccomp_annotations),
    baseline("seccompProfile_baseline", 19, fields::seccomp),
    baseline("sysctls", 0, |pod| fields::sysctls(pod, 5)),
    baseline("sysctls", 27, |pod| fields::sysctls(pod, 6)),
    baseline("sysctls", 29, |pod| fields::sysctls(pod, 10)),
    baseline("sysctls", 32, |pod| fields::sysctls(pod, 12)),
    baseline("windowsHostProcess", 0, fields::host_process),
    restricted("allowPrivilegeEscalation", 8, identity::escalation, ""),
    restricted("allowPrivilegeEscalation", 25, |pod| linux(pod, identity::escalation), ""),
    restricted("capabilities_restricted", 22, identity::capabilities, "capabilities_baseline"),
    restricted(
        "capabilities_restricted",
        25,
        |pod| linux(pod, identity::capabilities),
        "capabilities_baseline",
    ),
    restricted("procMount_restricted", 35, fields::proc_mount, "procMount"),
    restricted("restrictedVolumes", 0, identity::volumes, "hostPathVolumes"),
    restricted("runAsNonRoot", 0, identity::run_as_non_root, ""),
    restricted("runAsNonRoot", 35, |pod| own_users_or(pod, identity::run_as_non_root), ""),
    restricted("runAsUser", 23, identity::run_as_user, ""),
    restricted("runAsUser", 35, |pod| own_users_or(pod, identity::run_as_user), ""),
    restricted("seccompProfile_restricted", 19, identity::seccomp, "seccompProfile_baseline"),
    restricted(
        "seccompProfile_restricted",
        25,
        |pod| linux(pod, identity::seccomp),
        "seccompProfile_baseline",
    ),
];

fn linux(pod: Pod<'_>, rule: Rule) -> Option<Violation> {
    if pod.is_windows() { None } else { rule(pod) }
}

fn own_users_or(pod: Pod<'_>, rule: Rule) -> Option<Violation> {
    if pod.has_own_users() { None } else { rule(pod) }
}

/// What a pod breaks of a standard.
pub(super) fn evaluate(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let minor = standard.minor.unwrap_or(u32::MAX);
    let mut active: Vec<&Check> = Vec::new();
    for check in CHECKS.iter().filter(|check| check.level <= standard.level && check.since <= minor)
    {
        // A newer version of the same check.
        if active.last().is_some_and(|last| last.id == check.id) {
            active.pop();
        }
        active.push(check);
    }
    let replaced: Vec<&str> = active.iter().map(|check| check.replaces).collect();
    active.retain(|check| !replaced.contains(&check.id));
    active.iter().filter_map(|check| (check.rule)(pod)).collect()
}

/// Everything that is broken, in short.
pub(super) fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|one| one.reason.as_str()).collect();
    reasons.join(", ")
}

/// Everything that is broken, by whom.
pub(super) fn details(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations
        .iter()
        .map(|Violation { reason, detail }| match detail.as_str() {
            "" => reason.clone(),
            detail => format!("{reason} ({detail})"),
        })
        .collect();
    texts.join(", ")
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    items.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    let word = plural("container", "containers", names.len());
    format!("{word} {}", quoted(names.iter().copied()))
}

/// `pod and containers "a", "b"`, whichever of the two do something.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names) {
        (false, []) => None,
        (true, []) => Some("pod".into()),
        (false, names) => Some(containers(names)),
        (true, names) => Some(format!("pod and {}", containers(names))),
    }
}
