//! ReplicationControllers.
//!
//! Source of behaviour: kubernetes `pkg/apis/core` and `pkg/registry/core`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::replicaset::{check_status, replicated_cells};
use super::workload;
use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, ScalePaths, ScaleSelector, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{Read, part};

/// Behaviour of ReplicationControllers.
pub(crate) struct ReplicationController;

impl Behaviour for ReplicationController {
    fn default(&self, object: &mut Value) {
        let labels = part(object, &["spec", "template", "metadata", "labels"]).clone();
        if !labels.is_null() {
            object.map_mut("spec").default_zero("selector", labels.clone());
            object.map_mut("metadata").default_zero("labels", labels);
        }
        let spec = object.map_mut("spec");
        spec.default_to("replicas", 1);
        if let Some(template) = spec.field_mut("template") {
            pod::defaults::template(template);
        }
        object.map_mut("status").default_to("replicas", 0);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({"replicas": 0}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        workload::check_nonnegative(spec, &["minReadySeconds"], &path, errors);
        if !spec.is_set("selector") {
            errors.required(&path.child("selector"), "");
        }
        workload::check_nonnegative(spec, &["replicas"], &path, errors);
        let here = path.child("template");
        let Some(template) = spec.field("template") else {
            errors.required(&here, "");
            return;
        };
        let selector = json!({"matchLabels": spec.field("selector")});
        check_labels(&selector, template, &here, errors);
        pod::spec::check_template(template, &here, errors);
        workload::check_always_restarts(template, "ReplicationController", &here, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        _old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            check_status(part(new, &["status"]), &FieldPath::new("status"), errors);
        } else {
            self.validate(new, errors);
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out: Vec<String> =
            old.is_none().then(|| workload::name_warning(object)).flatten().into_iter().collect();
        out.extend(workload::template_warnings(object, old));
        out
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let replicas = object.i64_at(&["status", "replicas"]).unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        replicated_cells(object, cells::labels(object.map_at(&["spec", "selector"])), now)
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn scale(&self) -> Option<ScalePaths> {
        let path = vec!["spec".to_string(), "selector".to_string()];
        workload::scale(ScaleSelector::Labels(path))
    }
}

fn check_labels(selector: &Value, template: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if !check::is_empty_selector(selector) {
        workload::check_matching_template(Some(selector), template, path, errors);
    }
}
