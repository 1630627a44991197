//! Pod security: what a namespace's labels let its pods do.
//!
//! Pods beyond the enforced standard are refused; those beyond the others, and controllers that
//! will make such pods, are noted and warned of. No namespace, user or runtime class is exempt, and
//! a namespace without labels lets its pods do everything, as upstream without a configuration.
//!
//! Source of behaviour: k8s.io/pod-security-admission `admission`, v1.36.

mod checks;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use objects::{ApiError, ObjectExt};
use serde_json::Value;

use super::Admission;
use crate::encode;
use crate::server::Server;
use crate::verbs::list;

use checks::{Pod, Violation};
use policy::{Level, Policy, Standard};

/// How many pods are looked at when the labels of their namespace change.
const PODS_CHECKED: usize = 3000;
/// Prefix of audit annotations.
const ANNOTATION: &str = "pod-security.kubernetes.io/";
/// Ways into a pod that do not change what it may do.
const HARMLESS_SUBRESOURCES: [&str; 8] =
    ["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];

/// Looks at a write of a namespace, pod or controller of pods.
pub(super) fn check(
    admission: &mut Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let names = &admission.call.kind.names;
    let subresource = admission.call.path.subresource.as_str();
    let path = match (names.group.as_str(), names.plural.as_str()) {
        ("", "namespaces") if subresource.is_empty() => {
            return check_namespace(admission, new, old);
        }
        ("", "pods") if !HARMLESS_SUBRESOURCES.contains(&subresource) => {
            if old.is_some_and(|old| !is_significant(new, old)) {
                return Ok(());
            }
            return check_pod(
                admission,
                Pod { metadata: &new["metadata"], spec: &new["spec"] },
                new,
            );
        }
        _ if !subresource.is_empty() => return Ok(()),
        ("", "podtemplates") => &["template"][..],
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return Ok(()),
    };
    if let Some(template) = new.at(path) {
        check_template(admission, Pod { metadata: &template["metadata"], spec: &template["spec"] });
    }
    Ok(())
}

fn policy_of(admission: &Admission<'_>) -> Policy {
    let key = format!("/namespaces//{}", admission.call.namespace());
    let Some(record) = admission.server.store.get(&key) else { return Policy::default() };
    let namespace = encode::parse(&record);
    let (policy, errors) = Policy::of(namespace.labels());
    if !errors.is_empty() {
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        note(admission, "error", format!("Failed to parse policy: {text}"));
    }
    policy
}

fn note(admission: &Admission<'_>, name: &str, text: String) {
    admission.call.notes.annotate(format!("{ANNOTATION}{name}"), text);
}

fn check_pod(admission: &mut Admission<'_>, pod: Pod<'_>, new: &Value) -> Result<(), ApiError> {
    let policy = policy_of(admission);
    note(admission, "enforce-policy", policy.enforce.to_string());
    if policy.is_privileged() {
        return Ok(());
    }
    let broken = checks::evaluate(policy.enforce, pod);
    speak(admission, &policy, pod, broken.is_empty());
    if broken.is_empty() {
        return Ok(());
    }
    let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, checks::details(&broken));
    Err(ApiError::forbidden(&admission.call.resource(), new.name(), &why))
}

fn check_template(admission: &mut Admission<'_>, pod: Pod<'_>) {
    let policy = policy_of(admission);
    if policy.warn.level != Level::Privileged || policy.audit.level != Level::Privileged {
        speak(admission, &policy, pod, true);
    }
}

/// Notes and warns of what is not refused.
fn speak(admission: &mut Admission<'_>, policy: &Policy, pod: Pod<'_>, warn: bool) {
    let would = |standard: Standard| {
        let broken = checks::evaluate(standard, pod);
        let details = checks::details(&broken);
        let text = format!("would violate PodSecurity \"{standard}\": {details}");
        (!broken.is_empty()).then_some(text)
    };
    if let Some(text) = would(policy.audit) {
        note(admission, "audit-violations", text);
    }
    if warn && let Some(text) = would(policy.warn) {
        admission.warnings.push(text);
    }
}

/// Whether an update of a pod changes what runs in it: containers come or go, or their images
/// change.
fn is_significant(new: &Value, old: &Value) -> bool {
    let changed = |field: &str| {
        let (new, old) = (new.list_at(&["spec", field]), old.list_at(&["spec", field]));
        let image = |container: &Value| container.str_at(&["image"]).to_owned();
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| image(new) != image(old))
    };
    let before = old.list_at(&["spec", "ephemeralContainers"]);
    let debugs = new.list_at(&["spec", "ephemeralContainers"]).iter().any(|new| {
        let known = before.iter().find(|old| old.str_at(&["name"]) == new.str_at(&["name"]));
        known.is_none_or(|old| old.str_at(&["image"]) != new.str_at(&["image"]))
    });
    changed("containers") || changed("initContainers") || debugs
}

/// Refuses labels that say nothing, and warns of pods that a stricter standard would refuse.
fn check_namespace(
    admission: &mut Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let (policy, errors) = Policy::of(new.labels());
    let before = old.map(|old| Policy::of(old.labels()));
    let known = before.as_ref().is_some_and(|(_, before)| before.0 == errors.0);
    if !errors.is_empty() && !known {
        return Err(ApiError::invalid(&admission.call.kind.group_kind(), new.name(), &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (now, was) = (policy.enforce, before.enforce);
    let laxer = now.minor == was.minor && now.level <= was.level;
    if now == was || now.level == Level::Privileged || laxer {
        return Ok(());
    }
    let warnings = of_existing(admission.server, admission, new.name(), now);
    admission.warnings.extend(warnings);
    Ok(())
}

fn of_existing(
    server: &Server,
    admission: &Admission<'_>,
    namespace: &str,
    standard: Standard,
) -> Vec<String> {
    let Some(kind) = admission.call.registry.resource("", "v1", "pods") else { return Vec::new() };
    let records = list::every(server, kind, namespace);
    let pods: Vec<Value> = records.iter().map(|record| encode::parse(record)).collect();
    warnings(namespace, standard, prioritized(&pods))
}

/// One pod of each controller first.
fn prioritized(pods: &[Value]) -> Vec<&Value> {
    let (mut first, mut more, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for pod in pods {
        let mut owners = pod.owner_references().iter();
        let controller = owners.find(|owner| owner.bool_at(&["controller"]) == Some(true));
        match controller {
            Some(owner) if !seen.insert(owner.str_at(&["uid"])) => more.push(pod),
            _ => first.push(pod),
        }
    }
    first.append(&mut more);
    first
}

/// What is to be said about existing pods.
fn warnings(namespace: &str, standard: Standard, pods: Vec<&Value>) -> Vec<String> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(PODS_CHECKED) {
        let subject = Pod { metadata: &pod["metadata"], spec: &pod["spec"] };
        let broken: Vec<Violation> = checks::evaluate(standard, subject);
        if broken.is_empty() {
            continue;
        }
        let name = pod.name().to_owned();
        let (first, count) =
            found.entry(checks::reasons(&broken)).or_insert_with(|| (name.clone(), 0));
        *first = name.min(first.clone());
        *count += 1;
    }
    let mut texts = Vec::new();
    if pods.len() > PODS_CHECKED {
        texts.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_CHECKED} of {} \
             existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        texts.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \
             \"{standard}\""
        ));
    }
    let mut of_pods: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    of_pods.sort();
    texts.append(&mut of_pods);
    texts
}
