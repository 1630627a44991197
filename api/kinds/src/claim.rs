//! The spec of a PersistentVolumeClaim, which pods and StatefulSets carry as a template.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/{v1,validation}`, v1.36.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::check;
use crate::edit::{Edit, default_resources};
use crate::pod::resources::check_amount;
use crate::read::{Read, part, quantity};

/// Ways in which a volume can be mounted, sorted.
pub(crate) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Defaults of the spec.
pub(crate) fn default_spec(spec: &mut Value) {
    spec.default_to("volumeMode", "Filesystem");
    spec.default_to("resources", json!({}));
    let resources = spec.map_mut("resources");
    default_resources(resources.field_mut("limits"));
    default_resources(resources.field_mut("requests"));
}

/// Checks a claim template in a pod's ephemeral volume.
pub(crate) fn check_template(template: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let meta = part(template, &["metadata"]);
    let here = path.child("metadata");
    if let Some(annotations) = meta.map("annotations") {
        objects::meta::validate_annotations(annotations, &here.child("annotations"), errors);
    }
    check::labels(errors, &here.child("labels"), meta, "labels");
    for (key, _) in template.entries("metadata") {
        if !matches!(key, "annotations" | "labels") && meta.is_set(key) {
            errors.forbidden(&here.child(key), "cannot be set");
        }
    }
    check_spec(part(template, &["spec"]), &path.child("spec"), errors);
}

/// Checks the spec.
pub(crate) fn check_spec(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("accessModes");
    let modes = spec.texts("accessModes");
    if modes.is_empty() {
        errors.required(&here, "at least 1 access mode is required");
    }
    check::selector(errors, &path.child("selector"), spec.field("selector"));
    for mode in &modes {
        check::one_of(errors, &here, mode, &ACCESS_MODES);
    }
    let known = modes.iter().copied().filter(|mode| ACCESS_MODES.contains(mode));
    let (single, shared): (Vec<&str>, Vec<&str>) =
        known.partition(|mode| *mode == "ReadWriteOncePod");
    if !single.is_empty() && !shared.is_empty() {
        errors.forbidden(&here, "may not use ReadWriteOncePod with other access modes");
    }
    check_size(spec, &path.child("resources").key("storage"), errors);
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        check::subdomain(errors, &path.child("storageClassName"), class);
    }
    if let Some(mode) = spec.text_opt("volumeMode") {
        check::one_of(errors, &path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    check_sources(spec, path, errors);
    let class = spec.text("volumeAttributesClassName");
    if !class.is_empty() {
        check::subdomain(errors, &path.child("volumeAttributesClassName"), class);
    }
}

fn check_size(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(value) = part(spec, &["resources", "requests"]).field("storage") else {
        errors.required(path, "");
        return;
    };
    match quantity(value) {
        Some(size) if size.sign() <= 0 => {
            errors.invalid_str(path, &size.to_string(), "must be greater than zero");
        }
        _ => check_amount("storage", value, path, errors),
    }
}

fn check_sources(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    for (key, value) in [("dataSource", source), ("dataSourceRef", reference)] {
        if let Some(value) = value {
            check_source(value, &path.child(key), errors);
        }
    }
    let (Some(source), Some(reference)) = (source, reference) else { return };
    let fields = ["apiGroup", "kind", "name"];
    let detail = if !reference.text("namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if fields.iter().any(|key| source.field(key) != reference.field(key)) {
        "must match dataSourceRef"
    } else {
        return;
    };
    // Upstream passes the path where the value belongs; Go prints it as an empty object.
    errors.invalid(path, &json!({}), detail);
}

fn check_source(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, source, path, "name");
    check::required(errors, source, path, "kind");
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid_str(path, kind, detail);
    }
    if !group.is_empty() {
        check::subdomain(errors, &path.child("apiGroup"), group);
    }
    let namespace = source.text("namespace");
    if !namespace.is_empty() {
        check::label(errors, &path.child("namespace"), namespace);
    }
}
