//! ReplicaSets.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::workload::{self, check_nonnegative};
use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, ScalePaths, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{NOTHING, Read, part};

/// Behaviour of ReplicaSets.
pub(crate) struct ReplicaSet;

impl Behaviour for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("replicas", 1);
        pod::defaults::template(spec.map_mut("template"));
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
        check_nonnegative(spec, &["replicas", "minReadySeconds"], &path, errors);
        workload::check_selector(spec, "deployment", &path, errors);
        let selector = spec.field("selector");
        if workload::is_well_formed(selector) {
            workload::check_template(spec, "ReplicaSet", &path, errors);
        } else {
            let printed = workload::printed_selector(selector.unwrap_or(&NOTHING));
            errors.invalid(&path.child("selector"), &printed, "invalid label selector");
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            check_status(part(new, &["status"]), &FieldPath::new("status"), errors);
            return;
        }
        self.validate(new, errors);
        let selector = &["spec", "selector"];
        let path = FieldPath::new("spec").child("selector");
        check::immutable(errors, &path, new.at(selector), old.at(selector));
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out: Vec<String> =
            old.is_none().then(|| workload::name_warning(object)).flatten().into_iter().collect();
        out.extend(workload::template_warnings(object, old));
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        replicated_cells(object, cells::selector(object.at(&["spec", "selector"])), now)
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn scale(&self) -> Option<ScalePaths> {
        workload::scale(workload::spec_selector())
    }
}

/// The cells of ReplicaSets and ReplicationControllers.
pub(crate) fn replicated_cells(object: &Value, selector: Cell, now: Timestamp) -> Vec<Cell> {
    let [names, images] = cells::containers(part(object, &["spec", "template", "spec"]));
    vec![
        cells::name(object),
        cells::number(object, &["spec", "replicas"]),
        cells::number(object, &["status", "replicas"]),
        cells::number(object, &["status", "readyReplicas"]),
        cells::age(object, now),
        names,
        images,
        selector,
    ]
}

/// Checks the status of ReplicaSets and ReplicationControllers.
pub(crate) fn check_status(status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let keys = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    check_nonnegative(status, &keys, path, errors);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let detail = "cannot be greater than status.replicas";
    workload::check_at_most(status, &parts, "replicas", detail, path, errors);
    let detail = "cannot be greater than readyReplicas";
    let parts = ["availableReplicas"];
    workload::check_at_most(status, &parts, "readyReplicas", detail, path, errors);
}
