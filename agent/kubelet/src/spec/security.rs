//! What a container may do: capabilities, seccomp, the rest of its security context. PURE.
//!
//! Source of behaviour: kubernetes pkg/securitycontext/util.go and containerd's
//! `oci.WithDefaultCapabilities`.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{PodSecurityContext, SeccompProfile, SecurityContext};
use runtime::Seccomp;

/// Capabilities of a container that asks for nothing. Source: containerd `defaultUnixCaps`.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability of Linux 5.9 and later.
const ALL: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// The capabilities of a container, sorted.
pub(crate) fn capabilities(context: Option<&SecurityContext>) -> Vec<String> {
    if context.and_then(|context| context.privileged) == Some(true) {
        return ALL.iter().map(ToString::to_string).collect();
    }
    let asked = context.and_then(|context| context.capabilities.as_ref());
    let named = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| full_name(name)).collect()
    };
    let add = named(asked.and_then(|asked| asked.add.as_ref()));
    let drop = named(asked.and_then(|asked| asked.drop.as_ref()));
    let is_all = |list: &[String]| list.iter().any(|name| name == "CAP_ALL");
    let mut granted: BTreeSet<String> = if is_all(&add) {
        ALL.iter().map(ToString::to_string).collect()
    } else if is_all(&drop) {
        BTreeSet::new()
    } else {
        DEFAULT.iter().map(ToString::to_string).collect()
    };
    // As containerd: additions go before drops, so that naming one in both drops it.
    granted.extend(add.into_iter().filter(|name| name != "CAP_ALL"));
    for name in &drop {
        granted.remove(name);
    }
    granted.into_iter().collect()
}

fn full_name(name: &str) -> String {
    let name = name.to_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// Whether `no_new_privs` is set: only if escalation was ruled out.
pub(crate) fn no_new_privileges(context: Option<&SecurityContext>) -> bool {
    let Some(context) = context else { return false };
    let adds_admin = context.capabilities.as_ref().is_some_and(|capabilities| {
        let mut added = capabilities.add.iter().flatten();
        added.any(|name| full_name(name) == "CAP_SYS_ADMIN")
    });
    let is_privileged = context.privileged == Some(true);
    context.allow_privilege_escalation == Some(false) && !is_privileged && !adds_admin
}

/// The seccomp profile; without any the container is unconfined, as upstream's default is.
pub(crate) fn seccomp(
    pod: &PodSecurityContext,
    container: Option<&SecurityContext>,
    profiles_dir: &Path,
) -> Seccomp {
    if container.and_then(|context| context.privileged) == Some(true) {
        return Seccomp::Unconfined;
    }
    let own = container.and_then(|context| context.seccomp_profile.as_ref());
    let profile: Option<&SeccompProfile> = own.or(pod.seccomp_profile.as_ref());
    match profile.map(|profile| (profile.type_.as_str(), &profile.localhost_profile)) {
        Some(("RuntimeDefault", _)) => Seccomp::RuntimeDefault,
        Some(("Localhost", Some(name))) => Seccomp::Localhost(profiles_dir.join(name)),
        _ => Seccomp::Unconfined,
    }
}

/// Sysctls that every pod may set: they are namespaced, and harm nobody else. Source: kubernetes
/// pkg/kubelet/sysctl/safe_sysctls.go, v1.36 on kernels of 6.x.
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

/// Whether a pod may set a sysctl. `unsafe_allowed` holds names and `prefix*`.
pub(crate) fn is_sysctl_allowed(name: &str, unsafe_allowed: &[String]) -> bool {
    let name = name.replace('/', ".");
    SAFE_SYSCTLS.contains(&name.as_str())
        || unsafe_allowed.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *allowed == name,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(value: serde_json::Value) -> SecurityContext {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(capabilities(None).len(), DEFAULT.len());
        for (add, drop, wanted) in [
            (json!(["NET_ADMIN"]), json!(["ALL"]), vec!["CAP_NET_ADMIN"]),
            (json!([]), json!(["all"]), vec![]),
            (json!(["CAP_NET_ADMIN"]), json!(["ALL", "NET_ADMIN"]), vec![]),
        ] {
            let context = context(json!({"capabilities": {"add": add, "drop": drop}}));
            assert_eq!(capabilities(Some(&context)), wanted);
        }
        let all = context(json!({"capabilities": {"add": ["ALL"], "drop": ["NET_RAW"]}}));
        assert_eq!(capabilities(Some(&all)).len(), ALL.len() - 1);
        assert_eq!(capabilities(Some(&context(json!({"privileged": true})))).len(), ALL.len());
    }

    #[test]
    fn escalation_and_seccomp() {
        let no = context(json!({"allowPrivilegeEscalation": false}));
        assert!(no_new_privileges(Some(&no)) && !no_new_privileges(None));
        let pod: PodSecurityContext =
            serde_json::from_value(json!({"seccompProfile": {"type": "RuntimeDefault"}})).unwrap();
        let dir = Path::new("/p");
        assert_eq!(seccomp(&pod, None, dir), Seccomp::RuntimeDefault);
        let own = context(
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}),
        );
        assert_eq!(seccomp(&pod, Some(&own), dir), Seccomp::Localhost("/p/a/b.json".into()));
    }

    #[test]
    fn sysctls() {
        let allowed = ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned()];
        for (name, wanted) in [
            ("net.ipv4.tcp_syncookies", true),
            ("kernel.msgmax", true),
            ("net/core/somaxconn", true),
            ("kernel.panic", false),
        ] {
            assert_eq!(is_sysctl_allowed(name, &allowed), wanted, "{name}");
        }
    }
}
