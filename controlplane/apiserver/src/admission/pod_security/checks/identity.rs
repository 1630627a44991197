//! What breaks the restricted level: being more than an ordinary process.

use std::collections::BTreeSet;

use objects::ObjectExt;
use serde_json::Value;

use super::fields::{self, is_safe_profile, of_context};
use super::{Pod, Violation, containers, plural, quoted, setters, violation};

/// Volumes that reach nothing outside the cluster.
const FREE_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn escalation(pod: Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| {
        container.bool_at(&["securityContext", "allowPrivilegeEscalation"]) != Some(false)
    });
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    let keeping = pod.named(|container| {
        let dropped = container.list_at(&["securityContext", "capabilities", "drop"]);
        !dropped.iter().any(|name| name == "ALL")
    });
    let mut forbidden = BTreeSet::new();
    let adding = pod.named(|container| {
        let added = container.list_at(&["securityContext", "capabilities", "add"]).iter();
        let added: Vec<&str> =
            added.filter_map(Value::as_str).filter(|name| *name != "NET_BIND_SERVICE").collect();
        forbidden.extend(added.iter().copied());
        !added.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), quoted(forbidden));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub(super) fn volumes(pod: Pod<'_>) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in pod.spec.list_at(&["volumes"]) {
        let set = volume.as_object().into_iter().flatten();
        let sources: Vec<&str> = set
            .filter(|(key, value)| key.as_str() != "name" && !value.is_null())
            .map(|(key, _)| key.as_str())
            .collect();
        if sources.iter().any(|kind| FREE_VOLUMES.contains(kind)) {
            continue;
        }
        names.push(volume.str_at(&["name"]));
        kinds.insert(sources.first().copied().unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let (who, uses) =
        (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let noun = plural("restricted volume type", "restricted volume types", kinds.len());
    violation(
        "restricted volume types",
        format!("{who} {} {uses} {noun} {}", quoted(names), quoted(kinds)),
    )
}

pub(super) fn run_as_non_root(pod: Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let said = |holder: &Value| holder.bool_at(&["securityContext", "runAsNonRoot"]);
    let of_pod = said(pod.spec);
    let as_root = pod.named(|container| said(container) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &as_root) {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation(REASON, detail);
    }
    let silent = pod.named(|container| said(container).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    let who = containers(&silent);
    violation(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub(super) fn run_as_user(pod: Pod<'_>) -> Option<Violation> {
    let is_root = |holder: &Value| holder.i64_at(&["securityContext", "runAsUser"]) == Some(0);
    let who = setters(is_root(pod.spec), &pod.named(|container| is_root(container)))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    let wrong = fields::seccomp(pod);
    if wrong.is_some() {
        return wrong;
    }
    let of_pod = of_context(pod.spec, "seccompProfile").is_some_and(is_safe_profile);
    let silent =
        pod.named(|container| of_context(container, "seccompProfile").is_none() && !of_pod);
    if silent.is_empty() {
        return None;
    }
    let who = containers(&silent);
    violation(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\""
        ),
    )
}
