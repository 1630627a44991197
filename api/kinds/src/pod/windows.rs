//! Validation of what pods may say about operating systems, Windows above all: such pods run
//! nowhere here, but their manifests are checked alike.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::security::each_container;
use crate::check;
use crate::read::{Read, part};

/// Largest credential specification: 64 KiB.
const CREDENTIAL_MAX: usize = 64 * 1024;

/// Checks `windowsOptions`.
pub(crate) fn check_options(options: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(options) = options else { return };
    if let Some(name) = options.text_opt("gmsaCredentialSpecName") {
        check::subdomain(errors, &path.child("gmsaCredentialSpecName"), name);
    }
    if let Some(spec) = options.text_opt("gmsaCredentialSpec") {
        let here = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid_str(&here, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIAL_MAX {
            errors.invalid_str(&here, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = options.text_opt("runAsUserName") {
        for fault in user_name_faults(name) {
            errors.invalid_str(&path.child("runAsUserName"), name, fault);
        }
    }
}

fn user_name_faults(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    if name.matches('\\').count() > 1 {
        return vec!["runAsUserName cannot contain more than one backslash"];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut faults = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= 256) {
        faults.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_netbios(domain) && !is_dns(domain)) {
        faults.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        faults.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        faults.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        faults.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        faults.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    faults
}

fn is_netbios(name: &str) -> bool {
    let banned = |c: char| "\\/:*?\"<>|".contains(c);
    (1..=15).contains(&name.chars().count()) && !name.starts_with('.') && !name.contains(banned)
}

fn is_dns(name: &str) -> bool {
    name.split('.').all(|label| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        label.len() <= 63
            && edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Checks that either all containers are host processes or none.
pub(crate) fn check_host_process(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let pod = part(spec, &["securityContext", "windowsOptions"]).flag_opt("hostProcess");
    let (mut all, mut host) = (0, 0);
    each_container(spec, path, |container, path| {
        all += 1;
        let own = part(container, &["securityContext", "windowsOptions"]).flag_opt("hostProcess");
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let here = path.child("securityContext").child("windowsOptions");
            errors.invalid(&here.child("hostProcess"), &json!(own), &detail);
        }
        host += i32::from(own.or(pod).unwrap_or(false));
    });
    if host == 0 {
        return;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be \
                      HostProcess containers";
        errors.invalid_str(path, "", detail);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), &json!(false), detail);
    }
}

/// Checks `os` and what does not go with it.
pub(crate) fn check_os(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(os) = spec.field("os") else { return };
    match os.text("name") {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => check_linux(spec, path, errors),
        "windows" => check_windows(spec, path, errors),
        other => errors.not_supported(&path.child("os"), &json!(other), &["linux", "windows"]),
    }
}

fn check_linux(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut check = |owner: &Value, path: &FieldPath| {
        if part(owner, &["securityContext"]).field("windowsOptions").is_some() {
            let detail = "windows options cannot be set for a linux pod";
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), detail);
        }
    };
    check(spec, path);
    each_container(spec, path, check);
}

fn check_windows(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let detail = "cannot be set for a windows pod";
    let security = part(spec, &["securityContext"]);
    let in_security = [
        "appArmorProfile",
        "seLinuxOptions",
        "",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "shareProcessNamespace",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    for key in in_security {
        match key {
            "" => {
                if spec.field("hostUsers").is_some() {
                    errors.forbidden(&path.child("hostUsers"), detail);
                }
                for key in ["hostPID", "hostIPC"].iter().filter(|key| spec.flag(key)) {
                    errors.forbidden(&path.child(key), detail);
                }
            }
            "shareProcessNamespace" if spec.field(key).is_some() => {
                errors.forbidden(&path.child(key), detail);
            }
            key if security.field(key).is_some() => {
                errors.forbidden(&path.child("securityContext").child(key), detail);
            }
            _ => {}
        }
    }
    let keys = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    each_container(spec, path, |container, path| {
        let security = part(container, &["securityContext"]);
        for key in keys.iter().filter(|key| security.field(key).is_some()) {
            errors.forbidden(&path.child("securityContext").child(key), detail);
        }
    });
}
