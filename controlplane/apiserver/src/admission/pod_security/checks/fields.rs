//! What breaks the baseline: ways out of the container.

use std::collections::BTreeSet;

use objects::ObjectExt;
use serde_json::Value;

use super::{Pod, Violation, containers, plural, quoted, setters, violation};

/// Capabilities that containers have anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls of a pod's own, in the order in which they were found to be safe.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// SELinux types of containers, in the same order.
const SE_LINUX_TYPES: [&str; 4] =
    ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// A non-null field of a security context.
pub(super) fn of_context<'a>(holder: &'a Value, field: &str) -> Option<&'a Value> {
    holder.at(&["securityContext", field]).filter(|value| !value.is_null())
}

pub(super) fn is_safe_profile(profile: &Value) -> bool {
    matches!(profile.str_at(&["type"]), "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let profile = of_context(holder, "appArmorProfile");
        let profile = profile.filter(|profile| !is_safe_profile(profile));
        values.extend(profile.map(|profile| profile.str_at(&["type"]).to_owned()));
        profile.is_some()
    };
    let pod_bad = bad(pod.spec);
    let names = pod.named(|container| bad(container));
    let annotations: BTreeSet<String> = pod
        .metadata
        .map_at(&["annotations"])
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| {
            let safe =
                value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR_ANNOTATION) && !safe
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters(pod_bad, &names).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let what: Vec<&str> = values.iter().chain(&annotations).map(String::as_str).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", what.len());
    let detail =
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(what));
    violation(reason, detail)
}

pub(super) fn added_capabilities(pod: Pod<'_>) -> Option<Violation> {
    let mut unusual = BTreeSet::new();
    let names = pod.named(|container| {
        let before = container.list_at(&["securityContext", "capabilities", "add"]);
        let added: Vec<&str> = before
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !DEFAULT_CAPABILITIES.contains(name))
            .collect();
        unusual.extend(added.iter().copied());
        !added.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers(&names), quoted(unusual));
    let detail = format!("{who} must not include {what} in securityContext.capabilities.add");
    violation("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec.bool_at(&[field]) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_paths(pod: Pod<'_>) -> Option<Violation> {
    let volumes = pod.spec.list_at(&["volumes"]).iter();
    let names: Vec<&str> = volumes
        .filter(|volume| volume.at(&["hostPath"]).is_some_and(|path| !path.is_null()))
        .map(|volume| volume.str_at(&["name"]))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{word} {}", quoted(names)))
}

pub(super) fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = pod.named(|container| {
        let taken = container.list_at(&["ports"]).iter();
        let taken: Vec<String> = taken
            .filter_map(|port| port.i64_at(&["hostPort"]).filter(|port| *port != 0))
            .map(|port| port.to_string())
            .collect();
        let bad = !taken.is_empty();
        ports.extend(taken);
        bad
    });
    if names.is_empty() {
        return None;
    }
    let (uses, noun) =
        (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports: Vec<String> = ports.into_iter().collect();
    violation("hostPort", format!("{} {uses} {noun} {}", containers(&names), ports.join(", ")))
}

pub(super) fn probed_hosts(pod: Pod<'_>) -> Option<Violation> {
    const PROBES: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = BTreeSet::new();
    let mut names = pod.named(|container| {
        let mut bad = false;
        for probe in PROBES.iter().filter_map(|path| container.at(path)) {
            for kind in ["httpGet", "tcpSocket"] {
                let host = probe.str_at(&[kind, "host"]);
                if !host.is_empty() {
                    hosts.insert(host);
                    bad = true;
                }
            }
        }
        bad
    });
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    names.dedup();
    let uses = plural("uses", "use", names.len());
    let noun = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = format!("{} {uses} {noun} {}", containers(&names), quoted(hosts));
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let names =
        pod.named(|container| container.bool_at(&["securityContext", "privileged"]) == Some(true));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = pod.named(|container| {
        let kind = container.str_at(&["securityContext", "procMount"]);
        let bad = !matches!(kind, "" | "Default");
        if bad {
            kinds.insert(kind);
        }
        bad
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (containers(&names), quoted(kinds));
    violation("procMount", format!("{who} must not set securityContext.procMount to {what}"))
}

/// `types` is how many of the types are known to be safe.
pub(super) fn se_linux(pod: Pod<'_>, types: usize) -> Option<Violation> {
    let (mut bad_types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |holder: &Value| {
        let Some(options) = of_context(holder, "seLinuxOptions") else { return false };
        let kind = options.str_at(&["type"]);
        let bad_type = !kind.is_empty() && !SE_LINUX_TYPES[..types].contains(&kind);
        if bad_type {
            bad_types.insert(kind.to_owned());
        }
        let sets = |field: &str| !options.str_at(&[field]).is_empty();
        user |= sets("user");
        role |= sets("role");
        bad_type || sets("user") || sets("role")
    };
    let pod_bad = bad(pod.spec);
    let names = pod.named(|container| bad(container));
    let who = setters(pod_bad, &names)?;
    let mut what = Vec::new();
    if !bad_types.is_empty() {
        let word = plural("type", "types", bad_types.len());
        what.push(format!("{word} {}", quoted(bad_types.iter().map(String::as_str))));
    }
    if user {
        what.push("user may not be set".into());
    }
    if role {
        what.push("role may not be set".into());
    }
    let what = what.join("; ");
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

/// The form before version 1.19.
pub(super) fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let keys = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned()).chain(
        pod.containers().map(|one| format!("{SECCOMP_ANNOTATION}{}", one.str_at(&["name"]))),
    );
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = pod.metadata.at(&["annotations", &key])?.as_str()?;
            let safe = matches!(value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!safe).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    violation("seccompProfile", format!("forbidden {word} {}", forbidden.join(", ")))
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |holder: &Value| {
        let profile = of_context(holder, "seccompProfile");
        let profile = profile.filter(|profile| !is_safe_profile(profile));
        values.extend(profile.map(|profile| profile.str_at(&["type"]).to_owned()));
        profile.is_some()
    };
    let pod_bad = bad(pod.spec);
    let names = pod.named(|container| bad(container));
    let who = setters(pod_bad, &names)?;
    let what = quoted(values.iter().map(String::as_str));
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {what}"),
    )
}

/// `safe` is how many of the sysctls are known to be safe.
pub(super) fn sysctls(pod: Pod<'_>, safe: usize) -> Option<Violation> {
    let set = pod.spec.list_at(&["securityContext", "sysctls"]).iter();
    let unsafe_ones: Vec<&str> = set
        .map(|sysctl| sysctl.str_at(&["name"]))
        .filter(|name| !SAFE_SYSCTLS[..safe].contains(name))
        .collect();
    if unsafe_ones.is_empty() {
        return None;
    }
    violation("forbidden sysctls", unsafe_ones.join(", "))
}

pub(super) fn host_process(pod: Pod<'_>) -> Option<Violation> {
    let bad = |holder: &Value| {
        holder.bool_at(&["securityContext", "windowsOptions", "hostProcess"]) == Some(true)
    };
    let who = setters(bad(pod.spec), &pod.named(|container| bad(container)))?;
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
