//! What an update of a pod may change, through the pod itself and through its subresources.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use objects::{FieldErrors, FieldPath, ObjectExt, facts};
use serde_json::{Value, json};

use super::affinity::check_tolerations;
use super::printed;
use super::spec::{APPARMOR_PREFIX, MIRROR, check_annotations, check_pod};
use crate::check;
use crate::edit::restore;
use crate::read::{NOTHING, Read, part, same};

const UPDATABLE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks changes of annotations that mean something to pods.
pub(crate) fn check_annotation_changes(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("metadata").child("annotations");
    let (now, before) =
        (part(new, &["metadata", "annotations"]), part(old, &["metadata", "annotations"]));
    for (key, value) in part(old, &["metadata"]).entries("annotations") {
        if now.field(key) == Some(value) {
            continue;
        }
        if key.starts_with(APPARMOR_PREFIX) {
            let detail = "may not remove or update AppArmor annotations";
            errors.forbidden(&path.key(key), detail);
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in part(new, &["metadata"]).entries("annotations") {
        if before.field(key).is_some() {
            continue;
        }
        if key.starts_with(APPARMOR_PREFIX) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
    let (meta, spec) = (part(new, &["metadata"]), part(new, &["spec"]));
    check_annotations(meta, spec, &path, errors);
}

/// Checks an update of the pod itself.
pub(crate) fn check_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    check_pod(new, errors);
    check_annotation_changes(new, old, errors);
    let path = FieldPath::new("spec");
    let (new_spec, old_spec) = (part(new, &["spec"]), part(old, &["spec"]));
    for list in ["containers", "initContainers"] {
        let here = path.child(list);
        if new_spec.items(list).len() != old_spec.items(list).len() {
            errors.forbidden(&here, "pod updates may not add or remove containers");
            return;
        }
        for (index, container) in new_spec.items(list).iter().enumerate() {
            let here = here.index(index);
            check::required(errors, container, &here, "image");
            super::containers::check_image_space(container, &here, errors);
        }
    }
    if !check_deadline(new_spec, old_spec, &path, errors) {
        return;
    }
    let here = path.child("tolerations");
    check_added_tolerations(new_spec, old_spec, &here, errors);
    check_removed_gates(new_spec, old_spec, &path.child("schedulingGates"), errors);
    if same(new_spec, old_spec) {
        return;
    }
    let mut allowed = new_spec.clone();
    for list in ["containers", "initContainers"] {
        for (index, before) in old_spec.items(list).iter().enumerate() {
            allowed[list][index].set_at(&["image"], json!(before.text("image")));
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut allowed, old_spec, &[key]);
    }
    let grace = "terminationGracePeriodSeconds";
    if old_spec.int(grace).is_some_and(|secs| secs < 0) && allowed.int(grace) == Some(1) {
        restore(&mut allowed, old_spec, &[grace]);
    }
    if old_spec.is_set("schedulingGates") {
        check_gated(&mut allowed, old_spec, &path, errors);
    }
    if !same(&allowed, old_spec) {
        let detail = format!("{UPDATABLE}\n{}", printed::pod_spec_diff(old_spec, &allowed));
        errors.forbidden(&path, &detail);
    }
}

/// Checks the active deadline; says whether to go on.
fn check_deadline(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let here = path.child("activeDeadlineSeconds");
    let (now, before) = (new.int("activeDeadlineSeconds"), old.int("activeDeadlineSeconds"));
    match (now, before) {
        (Some(now), _) if now < 0 || now > i64::from(i32::MAX) => {
            check::range(errors, &here, now, 0, i64::from(i32::MAX));
            false
        }
        (Some(now), Some(before)) if before < now => {
            let detail = "must be less than or equal to previous value";
            errors.invalid(&here, &json!(now), detail);
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(&here, &Value::Null, detail);
            true
        }
        _ => true,
    }
}

fn check_added_tolerations(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let new = new.items("tolerations");
    for before in old.items("tolerations") {
        let kept = new.iter().any(|now| {
            let keys = ["key", "operator", "value", "effect"];
            keys.iter().all(|key| now.text(key) == before.text(key))
        });
        if !kept {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            errors.forbidden(path, detail);
            return;
        }
    }
    check_tolerations(new, path, errors);
}

fn check_removed_gates(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let before: Vec<&str> =
        old.items("schedulingGates").iter().map(|gate| gate.text("name")).collect();
    for (index, gate) in new.items("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !before.contains(&name) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(index).child("name"), &detail);
        }
    }
}

/// While a pod is gated, where it may run can still be narrowed.
fn check_gated(allowed: &mut Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (now, before) = (part(allowed, &["nodeSelector"]), part(old, &["nodeSelector"]));
    if !same(now, before) {
        let kept = old.entries("nodeSelector").iter().all(|(k, v)| now.field(k) == Some(*v));
        if !kept {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&path.child("nodeSelector"), now, detail);
        }
        restore(allowed, old, &["nodeSelector"]);
    }
    let inner = &["affinity", "nodeAffinity"];
    if same(part(allowed, inner), part(old, inner)) {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let here = path.child("affinity").child("nodeAffinity").child(required);
    let here = here.child("nodeSelectorTerms");
    let terms = |spec: &Value| -> Vec<Value> {
        part(spec, &["affinity", "nodeAffinity", required]).items("nodeSelectorTerms").to_vec()
    };
    let (now, before) = (terms(allowed), terms(old));
    if !before.is_empty() && before.len() != now.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&here, &json!(now), detail);
    } else {
        for (index, (now, before)) in now.iter().zip(&before).enumerate() {
            if !only_adds(now, before) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.invalid(&here.index(index), now, detail);
            }
        }
    }
    restore(allowed, old, inner);
    if old.at(&["affinity"]).is_none() && !part(allowed, &[]).is_set("affinity") {
        allowed.remove_at(&["affinity"]);
    }
}

fn only_adds(now: &Value, before: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if !lists.iter().any(|list| before.is_set(list)) {
        return !lists.iter().any(|list| now.is_set(list));
    }
    lists.iter().all(|list| now.items(list).starts_with(before.items(list)))
}

/// Checks an update of `ephemeralcontainers`.
pub(crate) fn check_ephemeral(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if part(old, &["metadata", "annotations"]).field(MIRROR).is_some() {
        errors.0.clear();
        errors.forbidden(&FieldPath::root(), "static pods do not support ephemeral containers");
        return;
    }
    check_pod(new, errors);
    check_annotation_changes(new, old, errors);
    let path = FieldPath::new("spec").child("ephemeralContainers");
    let list = part(new, &["spec"]).items("ephemeralContainers");
    for before in part(old, &["spec"]).items("ephemeralContainers") {
        let name = before.text("name");
        match list.iter().find(|container| container.text("name") == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, &detail);
            }
            Some(now) if !same(now, before) => {
                let diff = printed::ephemeral_diff(before, now);
                let detail =
                    format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&path, &detail);
            }
            Some(_) => {}
        }
    }
}

/// Checks an update of `resize`.
pub(crate) fn check_resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let root = FieldPath::root();
    let refused = if part(old, &["metadata", "annotations"]).field(MIRROR).is_some() {
        Some("static pods cannot be resized")
    } else if old.str_at(&["spec", "os", "name"]) == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(detail) = refused {
        errors.0.clear();
        errors.forbidden(&root, detail);
        return;
    }
    check_pod(new, errors);
    let path = FieldPath::new("spec");
    let (new_spec, old_spec) = (part(new, &["spec"]), part(old, &["spec"]));
    let class = old.str_at(&["status", "qosClass"]);
    let class = if class.is_empty() { facts::qos_class(old) } else { class };
    if class != facts::qos_class(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid_str(&path, new.str_at(&["status", "qosClass"]), detail);
    }
    let statuses = old.list_at(&["status", "containerStatuses"]);
    let running = statuses.iter().find(|status| status.at(&["state", "running"]).is_some());
    if running.is_some_and(|status| status.field("resources").is_none()) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    check_resized_pod_level(new_spec, old_spec, &path, errors);
    if part(old, &["status"]).is_set("nodeAllocatableResourceClaimStatuses") {
        let detail = "pods with node allocatable resource claims cannot be resized";
        errors.forbidden(&path, detail);
    }
    if !check_resize_order(new_spec, old_spec, &path, errors) {
        return;
    }
    check_resized_containers(new_spec, old_spec, &path, errors);
    if errors.is_empty() {
        let mut allowed = new_spec.clone();
        for key in ["containers", "initContainers", "resources"] {
            restore(&mut allowed, old_spec, &[key]);
        }
        if !same(&allowed, old_spec) {
            errors.forbidden(&path, "only cpu and memory resources are mutable");
        }
    }
}

/// Whether a list of amounts lost an entry.
fn lost(new: &Value, old: &Value, list: &str) -> bool {
    old.entries(list).iter().any(|(name, _)| part(new, &[list]).field(name).is_none())
}

/// Everything of `resources` but CPU and memory, which may be resized.
fn without_resizable(resources: Option<&Value>) -> Value {
    let mut rest = resources.cloned().unwrap_or(Value::Null);
    for list in ["limits", "requests"] {
        for name in ["cpu", "memory"] {
            rest.remove_at(&[list, name]);
        }
        if !rest.is_set(list) {
            rest.remove_at(&[list]);
        }
    }
    rest
}

fn check_resized_pod_level(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (now, before) = (new.field("resources"), old.field("resources"));
    let here = path.child("resources");
    let Some(now) = now else {
        if before.is_some() {
            errors.forbidden(&here, "pod-level resources cannot be removed");
        }
        return;
    };
    for list in ["requests", "limits"] {
        if lost(now, before.unwrap_or(&NOTHING), list) {
            let detail = format!("pod-level resource {list} cannot be removed");
            errors.forbidden(&here.child(list), &detail);
        }
    }
    if !same(&without_resizable(Some(now)), &without_resizable(before)) {
        errors.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}

/// Checks that the containers are the same ones; says whether they are.
fn check_resize_order(
    new: &Value,
    old: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) -> bool {
    let before = errors.0.len();
    for list in ["containers", "initContainers"] {
        let here = path.child(list);
        if new.items(list).len() != old.items(list).len() {
            errors.forbidden(&here, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (index, (now, was)) in new.items(list).iter().zip(old.items(list)).enumerate() {
            if now.text("name") != was.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&here.index(index).child("name"), &detail);
            }
        }
    }
    errors.0.len() == before
}

fn check_resized_containers(new: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for list in ["initContainers", "containers"] {
        for (index, (now, was)) in new.items(list).iter().zip(old.items(list)).enumerate() {
            let here = path.child(list).index(index).child("resources");
            let resources = |c| part(c, &["resources"]);
            for amounts in ["requests", "limits"] {
                if lost(resources(now), resources(was), amounts) {
                    let detail = format!("resource {amounts} cannot be removed");
                    errors.forbidden(&here.child(amounts), &detail);
                }
            }
        }
    }
    let fixed = |container: &Value| {
        let mut rest = container.clone();
        let resources = without_resizable(container.field("resources"));
        rest.set_at(&["resources"], resources);
        rest
    };
    for (now, was) in new.items("containers").iter().zip(old.items("containers")) {
        if !same(&fixed(now), &fixed(was)) {
            errors.forbidden(path, "only cpu and memory resources are mutable");
        }
    }
    let pairs = new.items("initContainers").iter().zip(old.items("initContainers"));
    for (index, (now, was)) in pairs.enumerate() {
        let here = path.child("initContainers").index(index);
        if !same(&fixed(now), &fixed(was)) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&here, detail);
        }
        let restarts =
            now.items("resizePolicy").iter().any(|p| p.text("restartPolicy") == "RestartContainer");
        if !same(now, was) && !facts::is_sidecar(now) && restarts {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer \
                          cannot be resized";
            errors.forbidden(&here, detail);
        }
    }
}
