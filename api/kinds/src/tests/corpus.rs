//! Replays the recorded requests through the pure part of the pipeline (default, prepare,
//! validate) and compares the outcome with what a real API server answered.
//!
//! What the rest of the pipeline does is left out on both sides: decoding failures, admission,
//! allocation, system metadata. The counts are a ratchet: they may only go up.

use std::collections::BTreeMap;

use objects::k8s::jiff::Timestamp;
use objects::{ApiError, FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::golden;
use crate::read::Read;
use crate::{Kind, Registry, WriteContext, builtin, service};

struct Target {
    group: String,
    version: String,
    namespace: String,
    plural: String,
}

/// Takes apart the path of a collection; `None` for anything else.
fn target(path: &str) -> Option<Target> {
    let path = path.split('?').next()?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match &parts[..] {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, plural) = match rest {
        ["namespaces", namespace, plural] => (*namespace, *plural),
        [plural] => ("", *plural),
        _ => return None,
    };
    let text = |text: &str| text.to_string();
    Some(Target {
        group: text(group),
        version: text(version),
        namespace: text(namespace),
        plural: text(plural),
    })
}

fn context<'a>(extra: &'a BTreeMap<String, Vec<String>>, groups: &'a [String]) -> WriteContext<'a> {
    WriteContext {
        now: "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
        user: "admin",
        groups,
        extra,
        subresource: "",
        fresh_uid: "00000000-0000-4000-8000-000000000000",
    }
}

/// What admission does that validation depends on.
fn admit_pod(object: &mut Value) {
    if object.str_at(&["spec", "serviceAccountName"]).is_empty() {
        for key in ["serviceAccount", "serviceAccountName"] {
            object.set_at(&["spec", key], json!("default"));
        }
    }
}

/// Stands in for the API server's allocator of an IPv4 cluster.
fn allocate(object: &mut Value, errors: &mut FieldErrors) {
    service::normalize_cluster_ips(object, None);
    service::init_families(object, None, &["IPv4"], errors);
    let spec = &object["spec"];
    let bare =
        spec.text("healthCheckNodePort").is_empty() && spec.get("healthCheckNodePort").is_none();
    if service::needs_health_check_port(spec) && bare {
        object.set_at(&["spec", "healthCheckNodePort"], json!(30000));
    }
}

/// The object or the failure that the kind's functions come to, and the warnings.
fn create(kind: &Kind, body: &Value, namespace: &str) -> (Result<Value, ApiError>, Vec<String>) {
    let extra = BTreeMap::new();
    let groups = vec!["system:masters".to_string()];
    let context = context(&extra, &groups);
    let mut object = body.clone();
    let base = object.str_at(&["metadata", "generateName"]).to_string();
    if object.name().is_empty() && !base.is_empty() {
        object.set_at(&["metadata", "name"], json!(format!("{base}abcde")));
    }
    if !namespace.is_empty() {
        object.set_at(&["metadata", "namespace"], json!(namespace));
    }
    kind.behaviour.default(&mut object);
    let mut errors = FieldErrors::default();
    match kind.names.kind.as_str() {
        "Pod" => admit_pod(&mut object),
        "Service" => allocate(&mut object, &mut errors),
        _ => {}
    }
    if !errors.is_empty() {
        return (Err(ApiError::invalid(&kind.group_kind(), object.name(), &errors)), Vec::new());
    }
    kind.behaviour.prepare_create(&mut object, &context);
    let path = FieldPath::new("metadata");
    let meta = object["metadata"].clone();
    let check = kind.behaviour.name_check();
    objects::meta::validate(&meta, kind.namespaced(), check, &path, &mut errors);
    objects::meta::validate_built_in_finalizers(&meta, &path, &mut errors);
    kind.behaviour.validate(&object, &mut errors);
    let warnings = kind.behaviour.warnings(&object, None);
    if errors.is_empty() {
        (Ok(object), warnings)
    } else {
        (Err(ApiError::invalid(&kind.group_kind(), object.name(), &errors)), warnings)
    }
}

/// Removes `null`s and what other parts of the API server put into an object.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn strip_metadata(object: &mut Value) {
    let keys = ["creationTimestamp", "uid", "managedFields", "resourceVersion", "namespace"];
    for key in keys {
        object.remove_at(&["metadata", key]);
    }
}

fn is_token(value: &Value) -> bool {
    value.text("name").starts_with("kube-api-access-")
}

fn remove_items(owner: &mut Value, key: &str, gone: impl Fn(&Value) -> bool) {
    let Some(items) = owner.get_mut(key).and_then(Value::as_array_mut) else { return };
    items.retain(|item| !gone(item));
    if items.is_empty() {
        owner.remove_at(&[key]);
    }
}

/// Removes what admission adds to pods.
fn strip_admission(answer: &mut Value, body: &Value) {
    let asked = body.get("spec").cloned().unwrap_or_default();
    let Some(spec) = answer.get_mut("spec") else { return };
    for key in ["serviceAccount", "serviceAccountName", "priority", "preemptionPolicy"] {
        let given = asked.get(key).is_some()
            || (key == "serviceAccount" && asked.get("serviceAccountName").is_some());
        if !given {
            spec.remove_at(&[key]);
        }
    }
    let is_added = |item: &Value| {
        item.text("key").starts_with("node.kubernetes.io/")
            && item.int("tolerationSeconds") == Some(300)
    };
    remove_items(spec, "tolerations", is_added);
    remove_items(spec, "volumes", is_token);
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            remove_items(container, "volumeMounts", |mount| {
                mount.text("mountPath").starts_with("/var/run/secrets/kubernetes.io")
            });
        }
    }
}

/// Whether two values are alike where the recording has placeholders such as `<ip>`.
fn alike(ours: &Value, wanted: &Value) -> bool {
    match (ours, wanted) {
        (_, Value::String(text)) if text.ends_with("<suffix>") => true,
        (_, Value::String(text)) if text.starts_with('<') && text.ends_with('>') => true,
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(key, b)| a.get(key).is_some_and(|a| alike(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        _ => ours == wanted,
    }
}

/// What is left for the API server to do with a Service's addresses.
fn strip_allocated(object: &mut Value) {
    for key in ["clusterIP", "clusterIPs"] {
        let allocated = object.at(&["spec", key]).is_some_and(|value| {
            value.to_string().contains("<ip>") || value.to_string().contains("10.96.")
        });
        if allocated {
            object.remove_at(&["spec", key]);
        }
    }
    object.remove_at(&["spec", "healthCheckNodePort"]);
    for port in
        object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut).into_iter().flatten()
    {
        port.remove_at(&["nodePort"]);
    }
}

/// `None` if the step is about something else, else what went wrong.
fn replay(registry: &Registry, step: &Value) -> Option<Result<(), String>> {
    let body = step.get("body").filter(|body| body.get("kind").is_some())?;
    let target = target(step.text("path")).filter(|_| step.text("method") == "POST")?;
    let kind = registry.resource(&target.group, &target.version, &target.plural)?;
    let status = step.int("status")?;
    let answer = &step["response"];
    let relevant = match status {
        201 => true,
        422 => answer.str_at(&["details", "kind"]) == kind.names.kind,
        _ => false,
    };
    if !relevant || body.kind() != kind.names.kind || body.to_string().contains("${") {
        return None;
    }
    let (outcome, warnings) = create(kind, body, &target.namespace);
    let result = match (status, outcome) {
        (201, Ok(mut ours)) => {
            let mut wanted = answer.clone();
            for object in [&mut ours, &mut wanted] {
                strip(object);
                strip_metadata(object);
                if kind.names.kind == "Pod" {
                    strip_admission(object, body);
                }
                if kind.names.kind == "Service" {
                    strip_allocated(object);
                }
            }
            let recorded: Vec<&str> = step.texts("warnings");
            let recorded: Vec<&&str> =
                recorded.iter().filter(|text| !text.contains("unknown field")).collect();
            if !alike(&ours, &wanted) {
                Err(format!("object\n  ours   {ours}\n  wanted {wanted}"))
            } else if !warnings.iter().collect::<Vec<_>>().iter().eq(&recorded) {
                Err(format!("warnings\n  ours   {warnings:?}\n  wanted {recorded:?}"))
            } else {
                Ok(())
            }
        }
        (_, Ok(_)) => Err(format!("accepted, wanted {}", answer.text("message"))),
        (201, Err(error)) => Err(format!("refused: {error}")),
        (_, Err(error)) => {
            let ours = error.to_status();
            let same = ours["message"] == answer["message"]
                && ours["details"]["causes"] == answer["details"]["causes"];
            if same {
                Ok(())
            } else {
                Err(format!(
                    "failure\n  ours   {}\n  wanted {}\n  causes {}\n  wanted {}",
                    ours["message"],
                    answer["message"],
                    ours["details"]["causes"],
                    answer["details"]["causes"]
                ))
            }
        }
    };
    Some(result)
}

/// Replays one file; `at_least` steps have to come out as recorded.
fn ratchet(file: &str, at_least: usize) {
    let Some(path) = golden(&format!("cases/{file}")) else { return };
    let registry = builtin();
    let (mut passed, mut failed) = (0, 0);
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        for step in case.list_at(&["steps"]) {
            match replay(&registry, step) {
                None => {}
                Some(Ok(())) => passed += 1,
                Some(Err(why)) => {
                    failed += 1;
                    eprintln!("{} {}", case.text("name"), why);
                }
            }
        }
    }
    eprintln!("{file}: {passed} as recorded, {failed} not");
    assert!(passed >= at_least, "{file}: {passed} as recorded, there were {at_least} before");
}

#[test]
fn defaulting_as_recorded() {
    ratchet("defaulting.jsonl", 0);
}

#[test]
fn validation_as_recorded() {
    ratchet("validation.jsonl", 0);
}

#[test]
fn other_creations_as_recorded() {
    for file in ["updates.jsonl", "misc.jsonl", "lists.jsonl", "patches.jsonl"] {
        ratchet(file, 0);
    }
}
