//! Warnings about pods and pod templates.
//!
//! Source of behaviour: kubernetes `pkg/api/pod/warnings.go`, v1.36.

use objects::{FieldPath, ObjectExt, names};
use serde_json::Value;

use super::overlaps;
use super::security::each_container;
use super::spec::{APPARMOR_PREFIX, SECCOMP_POD, SECCOMP_PREFIX};
use crate::check;
use crate::read::{Read, part, quantity};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const MATCHES_NOTHING: &str = "a null labelSelector results in matching no pod";

/// Node labels that have been replaced, and by what.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
/// Annotations that no longer do anything.
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Volume sources that no longer work, the name they are reported under, and since when.
const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("ephemeral", "", ""),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The replacement of an old node label.
pub(crate) fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, text)| *text)
}

/// Warnings about a pod (at the root) or a template (at its path).
pub(crate) fn of(owner: &Value, path: &FieldPath) -> Vec<String> {
    let (meta, spec) = (part(owner, &["metadata"]), part(owner, &["spec"]));
    let is_template = !path.as_str().is_empty();
    let at = path.child("spec");
    let mut out = Vec::new();
    for (key, _) in spec.entries("nodeSelector") {
        if let Some(text) = old_label(key) {
            out.push(format!("{}: {text}", at.child("nodeSelector").key(key)));
        }
    }
    of_node_affinity(spec, &at.child("affinity").child("nodeAffinity"), &mut out);
    of_spread(spec, &at.child("topologySpreadConstraints"), &mut out);
    let annotations_path = path.child("metadata").child("annotations");
    let annotations = part(meta, &["annotations"]);
    for (key, text) in OLD_ANNOTATIONS {
        if annotations.field(key).is_some() {
            out.push(format!("{}: {text}", annotations_path.key(key)));
        }
    }
    of_volumes(spec, &at.child("volumes"), &mut out);
    out.extend(overlaps::warnings(spec.items("volumes")));
    of_duplicates(spec, &at, &mut out);
    for name in ["memory", "ephemeral-storage"] {
        let value = part(spec, &["overhead"]).field(name);
        of_fraction(value, &at.child("overhead").key(name), &mut out);
    }
    of_old_profiles(spec, annotations, &annotations_path, is_template, &at, &mut out);
    of_ports(spec, &at, &mut out);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|secs| secs < 0) {
        let here = at.child("terminationGracePeriodSeconds");
        let text = "must be >= 0; negative values are invalid and will be treated as 1";
        out.push(format!("{here}: {text}"));
    }
    of_pod_affinity(spec, &at.child("affinity"), &mut out);
    let servers = part(spec, &["dnsConfig"]).texts("nameservers");
    for (index, server) in servers.into_iter().enumerate() {
        let here = at.child("dnsConfig").child("nameservers").index(index);
        out.extend(check::ip_warning(&here, server));
    }
    for (index, alias) in spec.items("hostAliases").iter().enumerate() {
        let here = at.child("hostAliases").index(index).child("ip");
        out.extend(check::ip_warning(&here, alias.text("ip")));
    }
    out
}

fn of_node_affinity(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    let affinity = part(spec, &["affinity", "nodeAffinity"]);
    let terms = part(affinity, &[REQUIRED]).items("nodeSelectorTerms");
    let here = path.child(REQUIRED).child("nodeSelectorTerms");
    for (index, term) in terms.iter().enumerate() {
        of_node_term(term, false, &here.index(index), out);
    }
    for (index, term) in affinity.items(PREFERRED).iter().enumerate() {
        let here = path.child(PREFERRED).index(index).child("preference");
        of_node_term(part(term, &["preference"]), true, &here, out);
    }
}

/// Warnings about a term of node affinity.
pub(crate) fn of_node_term(
    term: &Value,
    check_values: bool,
    path: &FieldPath,
    out: &mut Vec<String>,
) {
    for (index, rule) in term.items("matchExpressions").iter().enumerate() {
        let here = path.child("matchExpressions").index(index);
        let key = rule.text("key");
        if let Some(text) = old_label(key) {
            out.push(format!("{}: {key} is {text}", here.child("key")));
        }
        for (index, value) in rule.texts("values").into_iter().enumerate() {
            if check_values {
                let here = here.child("values").index(index);
                let faults = names::label_value(value);
                out.extend(faults.iter().map(|text| format!("{here}: {value} is invalid, {text}")));
            }
        }
    }
}

fn of_spread(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    for (index, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let here = path.index(index);
        let key = constraint.text("topologyKey");
        if let Some(text) = old_label(key) {
            out.push(format!("{}: {key} is {text}", here.child("topologyKey")));
        }
        if constraint.field("labelSelector").is_none() {
            out.push(format!("{}: {MATCHES_NOTHING}", here.child("labelSelector")));
        }
    }
}

fn of_volumes(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    for (index, volume) in spec.items("volumes").iter().enumerate() {
        for (source, reported, text) in OLD_VOLUMES {
            let Some(value) = volume.field(source) else { continue };
            let here = path.index(index);
            if *source == "ephemeral" {
                let here = here.child("ephemeral").child("volumeClaimTemplate").child("spec");
                let spec = part(value, &["volumeClaimTemplate", "spec"]);
                of_claim(spec, &here, out);
            } else {
                out.push(format!("{}: {text}", here.child(reported)));
            }
        }
    }
}

/// Warnings about the spec of a volume claim.
pub(crate) fn of_claim(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    for list in ["requests", "limits"] {
        let value = part(spec, &["resources", list]).field("storage");
        of_fraction(value, &path.child("resources").child(list).key("storage"), out);
    }
}

/// A warning about an amount of bytes that is not whole.
fn of_fraction(value: Option<&Value>, path: &FieldPath, out: &mut Vec<String>) {
    if let Some(amount) = value.and_then(quantity).filter(|q| q.milli_value() % 1000 != 0) {
        let text = format!("fractional byte value \"{amount}\" is invalid, must be an integer");
        out.push(format!("{path}: {text}"));
    }
}

fn of_duplicates(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    for (list, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Vec::new();
        for (index, item) in spec.items(list).iter().enumerate() {
            let value = item.text(key);
            if seen.contains(&value) {
                let here = path.child(list).index(index).child(key);
                out.push(format!("{here}: duplicate {key} {value:?}"));
            }
            seen.push(value);
        }
    }
    for (index, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            let here = path.child("imagePullSecrets").index(index).child("name");
            out.push(format!("{here}: invalid empty name \"\""));
        }
    }
}

fn of_old_profiles(
    spec: &Value,
    annotations: &Value,
    annotations_path: &FieldPath,
    is_template: bool,
    path: &FieldPath,
    out: &mut Vec<String>,
) {
    let seccomp = |owner: &Value, key: &str| {
        let replaced = owner.at(&["securityContext", "seccompProfile"]).is_some();
        let text = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        (!replaced && annotations.field(key).is_some())
            .then(|| format!("{}: {text}", annotations_path.key(key)))
    };
    out.extend(seccomp(spec, SECCOMP_POD));
    each_container(spec, path, |container, path| {
        let name = container.text("name");
        out.extend(seccomp(container, &format!("{SECCOMP_PREFIX}{name}")));
        let key = format!("{APPARMOR_PREFIX}{name}");
        let replaced = container.at(&["securityContext", "appArmorProfile"]).is_some();
        if is_template && !replaced && annotations.field(&key).is_some() {
            let text = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            out.push(format!("{}: {text}", annotations_path.key(&key)));
        }
        for resource in ["memory", "ephemeral-storage"] {
            for list in ["limits", "requests"] {
                let value = part(container, &["resources", list]).field(resource);
                let here = path.child("resources").child(list).key(resource);
                of_fraction(value, &here, out);
            }
        }
        of_env(container, &path.child("env"), out);
    });
}

fn of_env(container: &Value, path: &FieldPath, out: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (index, variable) in container.items("env").iter().enumerate() {
        let name = variable.text("name");
        let reference = format!("$({name})");
        let value = variable.text("value");
        let builds_on = value.contains(&reference) && value != reference;
        if seen.contains(&name) && (variable.field("valueFrom").is_some() || !builds_on) {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path.index(index)
            ));
        }
        seen.push(name);
    }
}

fn of_ports(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    let mut ports: Vec<(FieldPath, Value)> = Vec::new();
    each_container(spec, path, |container, path| {
        for (index, port) in container.items("ports").iter().enumerate() {
            ports.push((path.child("ports").index(index), port.clone()));
        }
    });
    for (at, (path, port)) in ports.iter().enumerate() {
        let ip = port.text("hostIP");
        let host = port.int("hostPort").unwrap_or(0);
        let number = port.int("containerPort").unwrap_or(0);
        if !ip.is_empty() && host == 0 {
            out.push(format!(
                "{path}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} \
                 Protocol:{} HostIP:{ip}}}",
                port.text("name"),
                port.text("protocol"),
            ));
        }
        for (other_path, other) in &ports[..at] {
            let same_port = other.int("containerPort").unwrap_or(0) == number
                && other.text("protocol") == port.text("protocol");
            if !same_port {
                continue;
            }
            let (other_ip, other_host) = (other.text("hostIP"), other.int("hostPort").unwrap_or(0));
            let what = if ip == other_ip && host == other_host {
                "duplicate"
            } else if host == 0 || other_host == 0 {
                "overlapping"
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            out.push(format!("{path}: {what} port definition with {other_path}"));
        }
    }
    let mut names: Vec<(&str, &FieldPath)> = Vec::new();
    for (path, port) in &ports {
        let name = port.text("name");
        match names.iter().find(|(other, _)| *other == name) {
            _ if name.is_empty() => {}
            Some((_, other)) => out.push(format!(
                "{path}: duplicate port name {name:?} with {other}, services and probes that \
                 select ports by name will use {other}"
            )),
            None => names.push((name, path)),
        }
    }
}

fn of_pod_affinity(spec: &Value, path: &FieldPath, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = part(spec, &["affinity", kind]);
        for (index, term) in affinity.items(REQUIRED).iter().enumerate() {
            if term.field("labelSelector").is_none() {
                let here = path.child(kind).child(REQUIRED).index(index);
                out.push(format!("{}: {MATCHES_NOTHING}", here.child("labelSelector")));
            }
        }
        for (index, term) in affinity.items(PREFERRED).iter().enumerate() {
            if part(term, &["podAffinityTerm"]).field("labelSelector").is_none() {
                let here = path.child(kind).child(PREFERRED).index(index);
                let here = here.child("podAffinityTerm").child("labelSelector");
                out.push(format!("{here}: {MATCHES_NOTHING}"));
            }
        }
    }
}
