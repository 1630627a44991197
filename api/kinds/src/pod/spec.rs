//! Validation of pod specs, in pods and in templates.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use super::containers::{self, Surroundings};
use super::security::{self, each_container};
use super::volumes::check_volumes;
use super::{affinity, resources, windows};
use crate::check;
use crate::read::{Read, part};

/// Names that mirror pods of the kubelet carry.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Prefix of the old AppArmor annotations, by container.
pub(crate) const APPARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The old seccomp annotation of a pod, and the prefix of those by container.
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const SECCOMP_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Limits of a pod's own DNS configuration.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Checks a spec. `meta` is the pod's metadata, `None` in a template.
pub(crate) fn check_spec(
    spec: &Value,
    meta: Option<&Value>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let is_pod = meta.is_some();
    if spec.field("terminationGracePeriodSeconds").is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let pod_name = meta.map_or("", |meta| meta.text("name"));
    let volumes_path = path.child("volumes");
    let volumes = check_volumes(spec.items("volumes"), pod_name, is_pod, &volumes_path, errors);
    let claims = spec.items("resourceClaims");
    let around = Surroundings {
        volumes,
        claims: claims.iter().map(|claim| claim.text("name")).filter(|n| !n.is_empty()).collect(),
        grace_secs: spec.int("terminationGracePeriodSeconds"),
        os: part(spec, &["os"]).text("name"),
        restart_policy: spec.text("restartPolicy"),
        host_users: spec.flag_opt("hostUsers") != Some(false),
    };
    check_claims(claims, meta, &path.child("resourceClaims"), errors);
    let main = spec.items("containers");
    containers::check_main(main, &around, &path.child("containers"), errors);
    let init = spec.items("initContainers");
    containers::check_init(init, main, &around, &path.child("initContainers"), errors);
    containers::check_ephemeral(spec, &around, &path.child("ephemeralContainers"), errors);
    resources::check_pod_level(spec, path, errors);
    check_host_network_ports(spec, is_pod, path, errors);
    check_policies(spec, path, errors);
    check_placement(spec, path, errors);
    check_names(spec, path, errors);
    check_last(spec, path, errors);
}

fn check_policies(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let policies = ["Always", "OnFailure", "Never"];
    let policy = spec.text("restartPolicy");
    check::required_one_of(errors, &path.child("restartPolicy"), policy, &policies);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    check::required_one_of(errors, &path.child("dnsPolicy"), spec.text("dnsPolicy"), &policies);
    check::labels(errors, &path.child("nodeSelector"), spec, "nodeSelector");
    security::check_pod(spec, path, errors);
}

fn check_placement(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(affinity) = spec.field("affinity") {
        affinity::check(affinity, &path.child("affinity"), errors);
    }
    check_dns(spec, &path.child("dnsConfig"), errors);
    for (index, gate) in spec.items("readinessGates").iter().enumerate() {
        let here = path.child("readinessGates").index(index).child("conditionType");
        check::qualified_name(errors, &here, gate.text("conditionType"));
    }
    let mut seen = Vec::new();
    for (index, gate) in spec.items("schedulingGates").iter().enumerate() {
        let here = path.child("schedulingGates").index(index);
        let name = gate.text("name");
        check::qualified_name(errors, &here, name);
        if seen.contains(&name) {
            errors.duplicate(&here, &json!(name));
        }
        seen.push(name);
    }
    let spread = spec.items("topologySpreadConstraints");
    affinity::check_spread(spread, &path.child("topologySpreadConstraints"), errors);
    windows::check_host_process(spec, path, errors);
    check_host_users(spec, path, errors);
    check_hostname_override(spec, path, errors);
}

fn check_names(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut name = |key: &str, check: fn(&str) -> Vec<String>| {
        let value = spec.text(key);
        if !value.is_empty() {
            check::faults(errors, &path.child(key), value, check(value));
        }
    };
    name("serviceAccountName", names::dns1123_subdomain);
    name("nodeName", names::dns1123_subdomain);
    if let Some(secs) = spec.int("activeDeadlineSeconds") {
        let here = path.child("activeDeadlineSeconds");
        check::range(errors, &here, secs, 1, i64::from(i32::MAX));
    }
    let mut name = |key: &str, check: fn(&str) -> Vec<String>| {
        let value = spec.text(key);
        if !value.is_empty() {
            check::faults(errors, &path.child(key), value, check(value));
        }
    };
    name("hostname", names::dns1123_label);
    name("subdomain", names::dns1123_label);
    let tolerations = spec.items("tolerations");
    affinity::check_tolerations(tolerations, &path.child("tolerations"), errors);
    for (index, alias) in spec.items("hostAliases").iter().enumerate() {
        let here = path.child("hostAliases").index(index);
        check::ip(errors, &here.child("ip"), alias.text("ip"));
        for (index, name) in alias.texts("hostnames").into_iter().enumerate() {
            check::subdomain(errors, &here.child("hostnames").index(index), name);
        }
    }
    let class = spec.text("priorityClassName");
    if !class.is_empty() {
        check::subdomain(errors, &path.child("priorityClassName"), class);
    }
    if let Some(class) = spec.text_opt("runtimeClassName") {
        check::subdomain(errors, &path.child("runtimeClassName"), class);
    }
    if let Some(policy) = spec.text_opt("preemptionPolicy") {
        let here = path.child("preemptionPolicy");
        check::required_one_of(errors, &here, policy, &["PreemptLowerPriority", "Never"]);
    }
}

fn check_last(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(overhead) = spec.field("overhead") {
        resources::check_overhead(overhead, &path.child("overhead"), errors);
    }
    windows::check_os(spec, path, errors);
    if let Some(group) = spec.field("schedulingGroup") {
        let here = path.child("schedulingGroup").child("podGroupName");
        match group.text_opt("podGroupName") {
            None => errors.invalid(&here, &Value::Null, "must specify one of: `podGroupName`"),
            Some(name) => check::subdomain(errors, &here, name),
        }
    }
    check_file_keys(spec, path, errors);
}

fn check_claims(
    claims: &[Value],
    meta: Option<&Value>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut seen = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        if meta.is_some_and(|meta| part(meta, &["annotations"]).field(MIRROR).is_some()) {
            errors.forbidden(&FieldPath::root(), "static pods do not support resource claims");
            continue;
        }
        let here = path.index(index);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&here.child("name"), "");
        } else if seen.contains(&name) {
            errors.duplicate(&here.child("name"), &json!(name));
        } else {
            check::label(errors, &here.child("name"), name);
            seen.push(name);
        }
        let direct = claim.text_opt("resourceClaimName");
        let template = claim.text_opt("resourceClaimTemplateName");
        let printed = json!({
            "Name": name,
            "ResourceClaimName": direct,
            "ResourceClaimTemplateName": template,
        });
        if direct.is_some() && template.is_some() {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may \
                          be specified";
            errors.invalid(&here, &printed, detail);
        }
        if direct.is_none() && template.is_none() {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.invalid(&here, &printed, detail);
        }
        for (key, value) in [("resourceClaimName", direct), ("resourceClaimTemplateName", template)]
        {
            if let Some(value) = value {
                check::subdomain(errors, &here.child(key), value);
            }
        }
    }
}

fn check_host_network_ports(
    spec: &Value,
    is_pod: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (at, container) in spec.items("containers").iter().enumerate() {
        for (index, port) in container.items("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or(0);
            let differs = host != port.int("containerPort").unwrap_or(0);
            if differs && (is_pod || host != 0) {
                let here = path.child("containers").index(at).child("ports").index(index);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&here.child("hostPort"), &json!(host), detail);
            }
        }
    }
}

fn check_dns(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let config = spec.field("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        let Some(config) = config else {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        };
        if config.items("nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    let Some(config) = config else { return };
    let (servers, searches) = (config.texts("nameservers"), config.texts("searches"));
    if servers.len() > NAMESERVERS_MAX {
        let detail = "must not have more than 3 nameservers";
        errors.invalid(&path.child("nameservers"), &json!(servers), detail);
    }
    for (index, server) in servers.iter().enumerate() {
        check::ip(errors, &path.child("nameservers").index(index), server);
    }
    let here = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = "must not have more than 32 search paths";
        errors.invalid(&here, &json!(searches), detail);
    }
    if searches.join(" ").len() > SEARCH_CHARS_MAX {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&here, &json!(searches), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        // Underscores are fine in search paths.
        let faults = names::dns1123_subdomain(&name.replace('_', "a"));
        check::faults(errors, &here.index(index), name, faults);
    }
    for (index, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn check_host_users(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if spec.flag_opt("hostUsers") != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (key, reported) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec.flag(key) {
            errors.forbidden(&path.child(reported), detail);
        }
    }
    each_container(spec, path, |container, path| {
        if container.is_set("volumeDevices") {
            errors.forbidden(&path.child("volumeDevices"), detail);
        }
    });
}

fn check_hostname_override(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(name) = spec.text_opt("hostnameOverride") else { return };
    let here = path.child("hostnameOverride");
    if spec.flag("setHostnameAsFQDN") {
        errors.forbidden(&here, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.flag("hostNetwork") {
        errors.forbidden(&here, "may not be specified when hostNetwork is true");
    }
    // The kernel's limit.
    if name.len() > 64 {
        errors.too_long(&here, 64);
    }
    check::subdomain(errors, &here, name);
}

/// Environment variables read from a file need an `emptyDir` that holds it.
fn check_file_keys(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let volumes = spec.items("volumes");
    each_container(spec, path, |container, path| {
        for (index, variable) in container.items("env").iter().enumerate() {
            let Some(file) = part(variable, &["valueFrom"]).field("fileKeyRef") else { continue };
            let name = file.text("volumeName");
            let here = path.child("env").index(index).child("valueFrom").child("fileKeyRef");
            let here = here.child("volumeName");
            match volumes.iter().find(|volume| volume.text("name") == name) {
                None => errors.not_found(&here, &json!(name)),
                Some(volume) if volume.field("emptyDir").is_none() => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.invalid_str(&here, name, detail);
                }
                Some(_) => {}
            }
        }
    });
}

/// Checks what an annotation of a pod may say.
pub(crate) fn check_annotations(
    meta: &Value,
    spec: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let annotations = part(meta, &["annotations"]);
    if let Some(value) = annotations.text_opt(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid_str(&path.key(MIRROR), value, detail);
    }
    let cost_key = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(cost) = annotations.text_opt(cost_key) {
        let well_formed = cost.parse::<i32>().is_ok()
            && !cost.starts_with('+')
            && (cost == "0" || !cost.starts_with('0'));
        if !well_formed {
            errors.invalid_str(&path.key(cost_key), cost, "must be a 32bit integer");
        }
    }
    for (key, value) in meta.entries("annotations") {
        let profile = value.as_str().unwrap_or("");
        if key == SECCOMP_POD || key.starts_with(SECCOMP_PREFIX) {
            check_seccomp_annotation(profile, &path.child(key), errors);
        }
    }
    for (key, value) in meta.entries("annotations") {
        let Some(name) = key.strip_prefix(APPARMOR_PREFIX) else { continue };
        let profile = value.as_str().unwrap_or("");
        let mut found = false;
        each_container(spec, path, |container, _| found |= container.text("name") == name);
        if !found {
            errors.invalid_str(&path.key(key), name, "container not found");
        }
        let known = matches!(profile, "" | "runtime/default" | "unconfined")
            || profile.starts_with("localhost/");
        if !known {
            let detail = format!("invalid AppArmor profile name: {profile:?}");
            errors.invalid_str(&path.key(key), profile, &detail);
        }
    }
}

fn check_seccomp_annotation(profile: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => check::descending_path(errors, path, file),
        None => errors.invalid_str(path, profile, "must be a valid seccomp profile"),
    }
}

/// Checks a pod, other than its metadata.
pub(crate) fn check_pod(pod: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let (meta, spec) = (part(pod, &["metadata"]), part(pod, &["spec"]));
    check_annotations(meta, spec, &FieldPath::new("metadata").child("annotations"), errors);
    check_spec(spec, Some(meta), &path, errors);
    if spec.text("serviceAccountName").is_empty() {
        for (at, volume) in spec.items("volumes").iter().enumerate() {
            let sources = part(volume, &["projected"]).items("sources").iter().enumerate();
            for (index, _) in sources.filter(|(_, s)| s.field("serviceAccountToken").is_some()) {
                let here = path.child("volumes").index(at).child("projected").child("sources");
                let detail = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&here.index(index).child("serviceAccountToken"), detail);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in spec.items(list).iter().enumerate() {
            containers::check_image_space(container, &path.child(list).index(index), errors);
        }
    }
}

/// Checks a new pod, other than its metadata.
pub(crate) fn check_create(pod: &Value, errors: &mut FieldErrors) {
    check_pod(pod, errors);
    let path = FieldPath::new("spec");
    let spec = part(pod, &["spec"]);
    if spec.is_set("ephemeralContainers") {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && spec.is_set("schedulingGates") {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
    let meta = part(pod, &["metadata"]);
    check_seccomp_match(meta, spec, &path, errors);
    check_apparmor_match(meta, spec, &path, errors);
}

/// Checks that old seccomp annotations say what the fields say.
fn check_seccomp_match(meta: &Value, spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let annotations = part(meta, &["annotations"]);
    check_one_seccomp(spec, annotations.text_opt(SECCOMP_POD), path, errors);
    each_container(spec, path, |container, path| {
        let key = format!("{SECCOMP_PREFIX}{}", container.text("name"));
        check_one_seccomp(container, annotations.text_opt(&key), path, errors);
    });
}

fn check_one_seccomp(
    owner: &Value,
    annotation: Option<&str>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let profile = owner.at(&["securityContext", "seccompProfile"]);
    let (Some(profile), Some(annotation)) = (profile, annotation) else { return };
    let here = path.child("securityContext").child("seccompProfile");
    let (kind_differs, file_differs) = match profile.text("type") {
        "Unconfined" => (annotation != "unconfined", false),
        "RuntimeDefault" => (!matches!(annotation, "runtime/default" | "docker/default"), false),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => (true, false),
            Some(file) => (false, profile.text_opt("localhostProfile") != Some(file)),
        },
        _ => (false, false),
    };
    if kind_differs {
        let detail = "seccomp type in annotation and field must match";
        errors.forbidden(&here.child("type"), detail);
    }
    if file_differs {
        let detail = "seccomp profile in annotation and field must match";
        errors.forbidden(&here.child("localhostProfile"), detail);
    }
}

/// Checks that old AppArmor annotations say what the fields say.
fn check_apparmor_match(meta: &Value, spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if part(spec, &["os"]).text("name") == "windows" {
        return;
    }
    let pod_profile = spec.at(&["securityContext", "appArmorProfile"]);
    each_container(spec, path, |container, path| {
        let own = container.at(&["securityContext", "appArmorProfile"]);
        let Some(profile) = own.or(pod_profile) else { return };
        let key = format!("{APPARMOR_PREFIX}{}", container.text("name"));
        let Some(annotation) = part(meta, &["annotations"]).text_opt(&key) else {
            return;
        };
        let here = path.child("securityContext").child("appArmorProfile");
        let mismatch = "apparmor type in annotation and field must match";
        match profile.text("type") {
            "Unconfined" if annotation != "unconfined" => {
                errors.forbidden(&here.child("type"), mismatch);
            }
            "RuntimeDefault" if annotation != "runtime/default" => {
                errors.forbidden(&here.child("type"), mismatch);
            }
            "Localhost" => match annotation.strip_prefix("localhost/") {
                None => errors.forbidden(&here.child("type"), mismatch),
                Some(file) if profile.text_opt("localhostProfile") != Some(file) => {
                    let detail = "apparmor profile in annotation and field must match";
                    errors.forbidden(&here.child("localhostProfile"), detail);
                }
                Some(_) => {}
            },
            _ => {}
        }
    });
}

/// Checks a PodTemplateSpec.
pub(crate) fn check_template(template: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (meta, spec) = (part(template, &["metadata"]), part(template, &["spec"]));
    // Upstream leaves `metadata` out of these paths.
    check::labels(errors, &path.child("labels"), meta, "labels");
    let annotations_path = path.child("annotations");
    if let Some(annotations) = meta.map("annotations") {
        objects::meta::validate_annotations(annotations, &annotations_path, errors);
    }
    check_annotations(meta, spec, &annotations_path, errors);
    check_spec(spec, None, &path.child("spec"), errors);
    check_seccomp_match(meta, spec, &path.child("spec"), errors);
    check_apparmor_match(meta, spec, &path.child("spec"), errors);
    if spec.is_set("ephemeralContainers") {
        let here = path.child("spec").child("ephemeralContainers");
        errors.forbidden(&here, "ephemeral containers not allowed in pod template");
    }
}
