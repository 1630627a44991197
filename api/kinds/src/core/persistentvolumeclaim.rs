//! PersistentVolumeClaims.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::persistentvolume::{access_modes, class};
use crate::cells;
use crate::check;
use crate::claim;
use crate::edit::{Edit, default_resources, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod;
use crate::read::{Read, amount, part, quantity, same};

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Behaviour of PersistentVolumeClaims.
pub(crate) struct PersistentVolumeClaim;

impl Behaviour for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        claim::default_spec(object.map_mut("spec"));
        let status = object.map_mut("status");
        status.default_zero("phase", "Pending");
        default_resources(status.field_mut("capacity"));
        default_resources(status.field_mut("allocatedResources"));
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object.set_at(&["status"], json!({"phase": "Pending"}));
        match_sources(object.map_mut("spec"));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            restore(new, old, &["spec"]);
        } else {
            restore(new, old, &["status"]);
            match_sources(new.map_mut("spec"));
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        claim::check_spec(part(object, &["spec"]), &FieldPath::new("spec"), errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            check_status(new, errors);
        } else {
            self.validate(new, errors);
            check_change(new, old, errors);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let annotations = part(object, &["metadata", "annotations"]);
        if annotations.field(OLD_CLASS).is_some() {
            let here = FieldPath::new("metadata").child("annotations").key(OLD_CLASS);
            let text = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            out.push(format!("{here}: {text}"));
        }
        let spec = part(object, &["spec"]);
        pod::warnings::of_claim(spec, &FieldPath::new("spec"), &mut out);
        out
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("name", object.name().to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let (spec, status) = (part(object, &["spec"]), part(object, &["status"]));
        let deleted = !object.deletion_timestamp().is_empty();
        let phase = if deleted { "Terminating" } else { status.text("phase") };
        let volume = spec.text("volumeName");
        let (capacity, modes) = if volume.is_empty() {
            (String::new(), String::new())
        } else {
            let size = amount(status.field("capacity"), "storage").unwrap_or_default();
            (size.to_string(), access_modes(&status.texts("accessModes")))
        };
        let set = |key: &str| json!(spec.text_opt(key).unwrap_or("<unset>"));
        vec![
            cells::name(object),
            json!(phase),
            json!(volume),
            json!(capacity),
            json!(modes),
            json!(class(object, spec)),
            set("volumeAttributesClassName"),
            cells::age(object, now),
            set("volumeMode"),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

/// `dataSource` and `dataSourceRef` say the same where only one is set, unless the reference goes
/// to another namespace.
fn match_sources(spec: &mut Value) {
    // Sources of other kinds are for `dataSourceRef` alone, and are dropped here without a word.
    if spec.field("dataSource").is_some_and(|source| !is_local_source(source)) {
        spec.drop_field("dataSource");
    }
    match (spec.field("dataSource").cloned(), spec.field("dataSourceRef").cloned()) {
        (Some(source), None) => spec.set_at(&["dataSourceRef"], source),
        (None, Some(mut reference))
            if reference.text("namespace").is_empty() && is_local_source(&reference) =>
        {
            reference.drop_field("namespace");
            spec.set_at(&["dataSource"], reference);
        }
        _ => {}
    }
}

/// A claim, or a snapshot.
fn is_local_source(reference: &Value) -> bool {
    matches!(
        (reference.text("apiGroup"), reference.text("kind")),
        ("" | "core", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

fn check_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let (spec, before) = (part(new, &["spec"]), part(old, &["spec"]));
    let mut allowed = spec.clone();
    let mut was = before.clone();
    if before.text("volumeName").is_empty() {
        restore(&mut was, spec, &["volumeName"]);
    }
    let annotation = |object: &Value| {
        part(object, &["metadata", "annotations"]).text_opt(OLD_CLASS).map(String::from)
    };
    let (now_class, was_class) =
        (spec.text_opt("storageClassName"), before.text_opt("storageClassName"));
    let moved = was_class.is_none()
        && now_class.is_some()
        && annotation(old).is_some_and(|class| Some(class.as_str()) == now_class);
    if moved {
        allowed.drop_field("storageClassName");
    } else {
        if annotation(new) != annotation(old) {
            let here = FieldPath::new("metadata").child("annotations").child(OLD_CLASS);
            let value = annotation(new).unwrap_or_default();
            errors.invalid_str(&here, &value, "field is immutable");
        }
        if was_class.is_none() && now_class.is_some() && annotation(old).is_none() {
            allowed.drop_field("storageClassName");
        }
    }
    if new.str_at(&["status", "phase"]) == "Bound" {
        if part(&allowed, &["resources"]).is_set("requests") {
            restore(&mut allowed, before, &["resources", "requests", "storage"]);
        }
        restore(&mut allowed, before, &["volumeAttributesClassName"]);
    }
    if !same(&allowed, &was) {
        let detail = "spec is immutable after creation except resources.requests and \
                      volumeAttributesClassName for bound claims\n";
        errors.forbidden(&path, detail);
    }
    let size = |spec: &Value| amount(part(spec, &["resources"]).field("requests"), "storage");
    let shrinks = size(spec).unwrap_or_default() < size(before).unwrap_or_default();
    let real = amount(part(old, &["status"]).field("capacity"), "storage").unwrap_or_default();
    if shrinks && size(spec).unwrap_or_default() <= real {
        let here = path.child("resources").child("requests").child("storage");
        errors.forbidden(&here, "field can not be less than status.capacity");
    }
    let mode = FieldPath::new("volumeMode");
    check::immutable(errors, &mode, spec.field("volumeMode"), before.field("volumeMode"));
    let class = "volumeAttributesClassName";
    let current = part(old, &["status"]).field("currentVolumeAttributesClassName");
    if spec.field(class) != before.field(class) && current.is_some() {
        let what = match spec.text_opt(class) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail = format!(
            "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        );
        errors.forbidden(&path.child(class), &detail);
    }
}

fn check_status(object: &Value, errors: &mut FieldErrors) {
    if part(object, &["spec"]).items("accessModes").is_empty() {
        errors.required(&FieldPath::new("Spec").child("accessModes"), "");
    }
    let status = part(object, &["status"]);
    for list in ["capacity", "allocatedResources"] {
        for (name, value) in status.entries(list) {
            if let Some(bad) = quantity(value).filter(|amount| amount.sign() < 0) {
                let here = FieldPath::new("status").child(list).key(name);
                let detail = "must be a valid resource quantity";
                errors.invalid(&here, &json!(bad.value()), detail);
            }
        }
    }
}
