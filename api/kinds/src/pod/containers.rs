//! Validation of containers.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use std::collections::{BTreeMap, BTreeSet};

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use super::handlers::{check_lifecycle, check_probes};
use super::resources::{check_container as check_resources, is_sidecar};
use super::security::check_container as check_security;
use super::sources::{check_env, check_env_from};
use super::volumes::Volumes;
use crate::check;
use crate::read::{Read, part};

/// What the containers of a pod share.
pub(crate) struct Surroundings<'a> {
    /// The pod's volumes.
    pub(crate) volumes: Volumes<'a>,
    /// Names of the pod's resource claims.
    pub(crate) claims: Vec<&'a str>,
    /// The pod's grace period.
    pub(crate) grace_secs: Option<i64>,
    /// The pod's operating system, empty if unsaid.
    pub(crate) os: &'a str,
    /// The pod's restart policy.
    pub(crate) restart_policy: &'a str,
    /// Whether the pod uses the host's user namespace.
    pub(crate) host_users: bool,
}

/// Fields of an ephemeral container that may not be set.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// Checks the main containers.
pub(crate) fn check_main(
    containers: &[Value],
    around: &Surroundings<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if containers.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let here = path.index(index);
        check_common(container, around, &here, errors);
        if !seen.insert(container.text("name")) {
            errors.duplicate(&here.child("name"), &json!(container.text("name")));
        }
        if let Some(lifecycle) = container.field("lifecycle") {
            let here = here.child("lifecycle");
            check_lifecycle(lifecycle, around.grace_secs, around.os, &here, errors);
        }
        check_probes(container, &here, errors);
        check_restart_policy(container, &here, errors);
    }
    check_host_ports(containers, path, errors);
}

/// Checks the init containers. `main` are the main ones, whose names are taken.
pub(crate) fn check_init(
    containers: &[Value],
    main: &[Value],
    around: &Surroundings<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut seen: BTreeSet<&str> = main.iter().map(|container| container.text("name")).collect();
    for (index, container) in containers.iter().enumerate() {
        let here = path.index(index);
        check_common(container, around, &here, errors);
        if container.field("restartPolicy").is_some() || container.is_set("restartPolicyRules") {
            check_restart_policy(container, &here, errors);
        }
        let name = container.text("name");
        if seen.contains(name) {
            errors.duplicate(&here.child("name"), &json!(name));
        } else if !name.is_empty() {
            seen.insert(name);
        }
        check_host_ports(std::slice::from_ref(container), path, errors);
        if is_sidecar(container) {
            if let Some(lifecycle) = container.field("lifecycle") {
                let here = here.child("lifecycle");
                check_lifecycle(lifecycle, around.grace_secs, around.os, &here, errors);
            }
            check_probes(container, &here, errors);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.field(key).is_some() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&here.child(key), detail);
            }
        }
        for (index, policy) in container.items("resizePolicy").iter().enumerate() {
            if policy.text("restartPolicy") == "RestartContainer" {
                let here = here.child("resizePolicy").index(index).child("restartPolicy");
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.invalid_str(&here, "RestartContainer", detail);
            }
        }
    }
}

/// Checks the ephemeral containers.
pub(crate) fn check_ephemeral(
    spec: &Value,
    around: &Surroundings<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.items(list))
        .map(|container| container.text("name"))
        .collect();
    let mut seen = others.clone();
    for (index, container) in spec.items("ephemeralContainers").iter().enumerate() {
        let here = path.index(index);
        check_common(container, around, &here, errors);
        check_image_space(container, &here, errors);
        if !seen.insert(container.text("name")) {
            errors.duplicate(&here.child("name"), &json!(container.text("name")));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&here.child("targetContainerName"), &json!(target));
        }
        let detail = "cannot be set for an Ephemeral Container";
        for key in NOT_EPHEMERAL.iter().filter(|key| container.is_set(key)) {
            errors.forbidden(&here.child(key), detail);
        }
        for (index, mount) in container.items("volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"].iter().filter(|key| mount.is_set(key)) {
                errors.forbidden(&here.child("volumeMounts").index(index).child(key), detail);
            }
        }
    }
}

/// Checks that image names have no space around them, which templates do not check.
pub(crate) fn check_image_space(container: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let image = container.text("image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid_str(&path.child("image"), image, detail);
    }
}

fn check_common(
    container: &Value,
    around: &Surroundings<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if check::required(errors, container, path, "name") {
        check::label(errors, &path.child("name"), container.text("name"));
    }
    check::required(errors, container, path, "image");
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = container.text("terminationMessagePolicy");
    check::required_one_of(errors, &path.child("terminationMessagePolicy"), policy, &policies);
    check_ports(container.items("ports"), &path.child("ports"), errors);
    check_env(container.items("env"), &path.child("env"), errors);
    check_env_from(container.items("envFrom"), &path.child("envFrom"), errors);
    check_mounts(container, &around.volumes, &path.child("volumeMounts"), errors);
    check_devices(container, &around.volumes, &path.child("volumeDevices"), errors);
    let pulls = ["Always", "IfNotPresent", "Never"];
    let policy = container.text("imagePullPolicy");
    check::required_one_of(errors, &path.child("imagePullPolicy"), policy, &pulls);
    let resources = part(container, &["resources"]);
    check_resources(resources, &around.claims, &path.child("resources"), errors);
    check_resize_policy(container, around.restart_policy, &path.child("resizePolicy"), errors);
    if let Some(security) = container.field("securityContext") {
        check_security(security, around.host_users, &path.child("securityContext"), errors);
    }
}

fn check_ports(ports: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let here = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            let faults = names::port_name(name);
            if !faults.is_empty() {
                check::faults(errors, &here.child("name"), name, faults);
            } else if !seen.insert(name) {
                errors.duplicate(&here.child("name"), &json!(name));
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(&here.child("containerPort"), ""),
            number => check::port_number(errors, &here.child("containerPort"), number),
        }
        let host_port = port.int("hostPort").unwrap_or(0);
        if host_port != 0 {
            check::port_number(errors, &here.child("hostPort"), host_port);
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = port.text("protocol");
        check::required_one_of(errors, &here.child("protocol"), protocol, &protocols);
    }
}

fn check_host_ports(containers: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        for (index, port) in container.items("ports").iter().enumerate() {
            let number = port.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                let here = path.index(at).child("ports").index(index).child("hostPort");
                errors.duplicate(&here, &json!(key));
            }
            seen.insert(key);
        }
    }
}

/// Names and paths of a container's mounts or devices.
fn places<'a>(items: &'a [Value], path: &str) -> BTreeMap<&'a str, &'a str> {
    items.iter().map(|item| (item.text("name"), item.text(path))).collect()
}

fn check_mounts(
    container: &Value,
    volumes: &Volumes<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let devices = places(container.items("volumeDevices"), "devicePath");
    let mut seen = BTreeSet::new();
    for (index, mount) in container.items("volumeMounts").iter().enumerate() {
        let here = path.index(index);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        check::required(errors, mount, &here, "name");
        if volumes.get(name).is_none() {
            errors.not_found(&here.child("name"), &json!(name));
        }
        check::required(errors, mount, &here, "mountPath");
        if !seen.insert(target) {
            errors.invalid_str(&here.child("mountPath"), target, "must be unique");
        }
        if devices.contains_key(name) {
            let detail = "must not already exist in volumeDevices";
            errors.invalid_str(&here.child("name"), name, detail);
        }
        if devices.values().any(|device| *device == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid_str(&here.child("mountPath"), target, detail);
        }
        check_mount_options(container, mount, path, &here, errors);
    }
}

/// Checks the rest of a mount; upstream reports most of it at the list (`path`).
fn check_mount_options(
    container: &Value,
    mount: &Value,
    path: &FieldPath,
    here: &FieldPath,
    errors: &mut FieldErrors,
) {
    let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !sub_path.is_empty() {
        check::descending_path(errors, &path.child("subPath"), sub_path);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid_str(&here.child("subPathExpr"), expression, detail);
        }
        check::descending_path(errors, &path.child("subPathExpr"), expression);
    }
    let propagation = mount.text_opt("mountPropagation");
    if let Some(mode) = propagation {
        let here = path.child("mountPropagation");
        check::one_of(errors, &here, mode, &["Bidirectional", "HostToContainer", "None"]);
        if mode == "Bidirectional" && !part(container, &["securityContext"]).flag("privileged") {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&here, detail);
        }
    }
    let here = path.child("recursiveReadOnly");
    match mount.text_opt("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                errors.forbidden(&here, "may only be specified when readOnly is true");
            }
            if propagation.is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&here, detail);
            }
        }
        Some(other) => {
            errors.not_supported(&here, &json!(other), &["Disabled", "Enabled", "IfPossible"]);
        }
    }
}

fn check_devices(
    container: &Value,
    volumes: &Volumes<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mounts = places(container.items("volumeMounts"), "mountPath");
    let (mut paths, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in container.items("volumeDevices").iter().enumerate() {
        let here = path.index(index);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        let (at_name, at_path) = (here.child("name"), here.child("devicePath"));
        let volume = volumes.get(name);
        check::required(errors, device, &here, "name");
        if seen.contains(name) {
            errors.invalid_str(&at_name, name, "must be unique");
        }
        match volume {
            None => errors.not_found(&at_name, &json!(name)),
            Some(volume) => {
                let block = ["persistentVolumeClaim", "ephemeral"];
                if !block.iter().any(|source| volume.field(source).is_some()) {
                    let detail = "can only use volume source type of PersistentVolumeClaim or \
                                  Ephemeral for block mode";
                    errors.invalid_str(&at_name, name, detail);
                }
            }
        }
        check::required(errors, device, &here, "devicePath");
        if paths.contains(target) {
            errors.invalid_str(&at_path, target, "must be unique");
        }
        if target.split('/').any(|step| step == "..") {
            errors.invalid_str(&at_path, target, "can not contain backsteps ('..')");
        } else {
            paths.insert(target);
        }
        if mounts.contains_key(name) {
            errors.invalid_str(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|mount| *mount == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid_str(&at_path, target, detail);
        }
        if !name.is_empty() {
            seen.insert(name);
        }
    }
}

fn check_resize_policy(
    container: &Value,
    pod_restart_policy: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut seen = BTreeSet::new();
    for (index, policy) in container.items("resizePolicy").iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&path.index(index), &json!(resource));
        }
        check::required_one_of(errors, path, resource, &["cpu", "memory"]);
        check::required_one_of(errors, path, restart, &["NotRequired", "RestartContainer"]);
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid_str(path, restart, detail);
        }
    }
}

/// Checks a container's own restart policy and its rules by exit code.
fn check_restart_policy(container: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let rules = container.items("restartPolicyRules");
    let here = path.child("restartPolicy");
    match container.text_opt("restartPolicy") {
        None if rules.is_empty() => return,
        None => errors.required(&here, "must specify restartPolicy when restart rules are used"),
        Some(policy) => check::one_of(errors, &here, policy, &["Always", "Never", "OnFailure"]),
    }
    let here = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&here, rules.len(), 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        let here = here.index(index);
        let actions = ["Restart", "RestartAllContainers"];
        check::one_of(errors, &here.child("action"), rule.text("action"), &actions);
        let here = here.child("exitCodes");
        let Some(codes) = rule.field("exitCodes") else {
            errors.required(&here, "must be specified");
            continue;
        };
        check::one_of(errors, &here.child("operator"), codes.text("operator"), &["In", "NotIn"]);
        let count = codes.items("values").len();
        if count > 255 {
            errors.too_many(&here.child("values"), count, 255);
        }
    }
}
