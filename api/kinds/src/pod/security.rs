//! Validation of security contexts.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::resources::CONTAINER_LISTS;
use super::windows::check_options as check_windows_options;
use crate::check;
use crate::read::Read;

/// Largest user and group id.
const ID_MAX: i64 = i32::MAX as i64;
/// Longest sysctl name, in bytes.
const SYSCTL_MAX: usize = 253;
/// The fields of a container's security context in the order in which Go prints them, with the
/// names that Go gives them.
const PRINTED: [(&str, &str); 12] = [
    ("capabilities", "Capabilities"),
    ("privileged", "Privileged"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("windowsOptions", "WindowsOptions"),
    ("runAsUser", "RunAsUser"),
    ("runAsGroup", "RunAsGroup"),
    ("runAsNonRoot", "RunAsNonRoot"),
    ("readOnlyRootFilesystem", "ReadOnlyRootFilesystem"),
    ("allowPrivilegeEscalation", "AllowPrivilegeEscalation"),
    ("procMount", "ProcMount"),
    ("seccompProfile", "SeccompProfile"),
    ("appArmorProfile", "AppArmorProfile"),
];

/// Walks over all containers of a pod with their paths.
pub(crate) fn each_container(
    spec: &Value,
    path: &FieldPath,
    mut visit: impl FnMut(&Value, &FieldPath),
) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        debug_assert!(CONTAINER_LISTS.contains(&list));
        for (index, container) in spec.items(list).iter().enumerate() {
            visit(container, &path.child(list).index(index));
        }
    }
}

/// Checks a pod's `securityContext`.
pub(crate) fn check_pod(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(security) = spec.field("securityContext") else { return };
    let path = path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = security.int(key) {
            check::range(errors, &path.child(key), id, 0, ID_MAX);
        }
    }
    for (index, id) in security.items("supplementalGroups").iter().enumerate() {
        let here = path.child("supplementalGroups").index(index);
        check::range(errors, &here, id.as_i64().unwrap_or(0), 0, ID_MAX);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), &json!(true), detail);
    }
    check_sysctls(spec, security, &path.child("sysctls"), errors);
    if let Some(policy) = security.text_opt("fsGroupChangePolicy") {
        let here = path.child("fsGroupChangePolicy");
        check::one_of(errors, &here, policy, &["Always", "OnRootMismatch"]);
    }
    check_seccomp(security.field("seccompProfile"), &path.child("seccompProfile"), errors);
    check_windows_options(security.field("windowsOptions"), &path.child("windowsOptions"), errors);
    check_apparmor(security.field("appArmorProfile"), &path.child("appArmorProfile"), errors);
    if let Some(policy) = security.text_opt("supplementalGroupsPolicy") {
        let here = path.child("supplementalGroupsPolicy");
        check::one_of(errors, &here, policy, &["Merge", "Strict"]);
    }
    if let Some(policy) = security.text_opt("seLinuxChangePolicy") {
        let here = path.child("seLinuxChangePolicy");
        check::one_of(errors, &here, policy, &["MountOption", "Recursive"]);
    }
}

fn is_sysctl_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |text: &str| {
        let bytes = text.as_bytes();
        match (bytes.first(), bytes.last()) {
            (Some(first), Some(last)) => {
                edge(*first)
                    && edge(*last)
                    && bytes.iter().all(|b| edge(*b) || matches!(b, b'-' | b'_'))
            }
            _ => false,
        }
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// The namespace that isolates a sysctl: `net`, `ipc`, or none known.
fn sysctl_namespace(name: &str) -> &'static str {
    let dotted = name.replace('/', ".");
    let ipc_names = ["kernel.sem"];
    if dotted.starts_with("net.") {
        "net"
    } else if ipc_names.contains(&dotted.as_str())
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|head| dotted.starts_with(head))
    {
        "ipc"
    } else {
        ""
    }
}

fn check_sysctls(spec: &Value, security: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, sysctl) in security.items("sysctls").iter().enumerate() {
        let here = path.index(index).child("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.required(&here, "");
        } else if !is_sysctl_name(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid_str(&here, name, detail);
        } else if seen.contains(&name) {
            errors.duplicate(&here, &json!(name));
        }
        match sysctl_namespace(name) {
            "net" if spec.flag("hostNetwork") => {
                let detail = "may not be specified when 'hostNetwork' is true";
                errors.invalid_str(&here, name, detail);
            }
            "ipc" if spec.flag("hostIPC") => {
                let detail = "may not be specified when 'hostIPC' is true";
                errors.invalid_str(&here, name, detail);
            }
            _ => {}
        }
        seen.push(name);
    }
}

fn check_seccomp(profile: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(profile) = profile else { return };
    let kind = profile.text("type");
    let here = path.child("type");
    match kind {
        "" => errors.required(&here, "type is required when seccompProfile is set"),
        _ => check::one_of(errors, &here, kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    let here = path.child("localhostProfile");
    match (kind, profile.text_opt("localhostProfile")) {
        ("Localhost", None) => {
            errors.required(&here, "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(file)) => check::descending_path(errors, &here, file),
        (_, Some(file)) => {
            let printed = json!({"Type": kind, "LocalhostProfile": file});
            errors.invalid(&here, &printed, "can only be set when seccomp type is Localhost");
        }
        (_, None) => {}
    }
}

fn check_apparmor(profile: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(profile) = profile else { return };
    let here = path.child("localhostProfile");
    let file = profile.text_opt("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match profile.text("type") {
        "" => {
            let detail = "type is required when appArmorProfile is set";
            errors.required(&path.child("type"), detail);
        }
        "Localhost" => match file {
            None => errors.required(&here, missing),
            Some(file) => {
                if file.trim() != file {
                    errors.invalid_str(&here, file, "must not be padded with whitespace");
                } else if file.is_empty() {
                    errors.required(&here, missing);
                }
                // PATH_MAX less the terminating zero.
                if file.len() > 4095 {
                    errors.too_long(&here, 4095);
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = file {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.invalid_str(&here, file, detail);
            }
        }
        other => {
            let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.not_supported(&path.child("type"), &json!(other), &supported);
        }
    }
}

/// A container's security context as Go prints it: all fields, capitalised, in order.
fn printed(security: &Value) -> String {
    let fields: Vec<String> = PRINTED
        .iter()
        .map(|(key, name)| format!("\"{name}\":{}", security.get(key).unwrap_or(&Value::Null)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Checks a container's `securityContext`.
pub(crate) fn check_container(
    security: &Value,
    host_users: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    for key in ["runAsUser", "runAsGroup"] {
        if let Some(id) = security.int(key) {
            check::range(errors, &path.child(key), id, 0, ID_MAX);
        }
    }
    if let Some(mount) = security.text_opt("procMount") {
        let here = path.child("procMount");
        check::one_of(errors, &here, mount, &["Default", "Unmasked"]);
        if host_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.invalid_str(&here, mount, detail);
        }
    }
    check_seccomp(security.field("seccompProfile"), &path.child("seccompProfile"), errors);
    if security.flag_opt("allowPrivilegeEscalation") == Some(false) {
        let mut conflict = |detail: &str| {
            errors.invalid(path, &Value::Null, detail);
            errors.0.last_mut().expect("added above").value = printed(security);
        };
        if security.flag("privileged") {
            conflict("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = crate::read::part(security, &["capabilities"]).texts("add");
        if added.contains(&"CAP_SYS_ADMIN") {
            conflict(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                 CAP_SYS_ADMIN",
            );
        }
    }
    check_windows_options(security.field("windowsOptions"), &path.child("windowsOptions"), errors);
    check_apparmor(security.field("appArmorProfile"), &path.child("appArmorProfile"), errors);
}
