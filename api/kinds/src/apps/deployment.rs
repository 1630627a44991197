//! Deployments.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::workload::{self, check_nonnegative};
use crate::cells;
use crate::check;
use crate::edit::{Edit, restore, step_generation};
use crate::kind::{Behaviour, Cell, ScalePaths, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{NOTHING, Read, part, same};

/// Old revisions kept by default.
const HISTORY: i32 = 10;
/// Seconds without progress after which a Deployment has failed, by default.
const PROGRESS_SECS: i32 = 600;

/// Behaviour of Deployments.
pub(crate) struct Deployment;

impl Behaviour for Deployment {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("replicas", 1);
        let strategy = spec.map_mut("strategy");
        strategy.default_zero("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.map_mut("rollingUpdate");
            rolling.default_to("maxUnavailable", "25%");
            rolling.default_to("maxSurge", "25%");
        }
        spec.default_to("revisionHistoryLimit", HISTORY);
        spec.default_to("progressDeadlineSeconds", PROGRESS_SECS);
        pod::defaults::template(spec.map_mut("template"));
        lifecycle::default_status(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
        if context.subresource == "status" {
            restore(new, old, &["metadata", "labels"]);
        } else {
            let annotations = &["metadata", "annotations"];
            let changed = lifecycle::spec_changed(new, old)
                || !same(part(new, annotations), part(old, annotations));
            step_generation(new, old, changed);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_spec(part(object, &["spec"]), &FieldPath::new("spec"), errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            let path = FieldPath::new("status");
            check_status(part(new, &["status"]), &path, errors);
            workload::check_collisions(new, old, &path, errors);
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
        let wanted = object.i64_at(&["spec", "replicas"]).unwrap_or(0);
        let ready = object.i64_at(&["status", "readyReplicas"]).unwrap_or(0);
        let [names, images] = cells::containers(part(object, &["spec", "template", "spec"]));
        vec![
            cells::name(object),
            json!(format!("{ready}/{wanted}")),
            cells::number(object, &["status", "updatedReplicas"]),
            cells::number(object, &["status", "availableReplicas"]),
            cells::age(object, now),
            names,
            images,
            cells::selector(object.at(&["spec", "selector"])),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec", "metadata.labels"] } else { &["status"] }
    }

    fn scale(&self) -> Option<ScalePaths> {
        workload::scale(workload::spec_selector())
    }
}

fn check_spec(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_nonnegative(spec, &["replicas"], path, errors);
    workload::check_selector(spec, "deployment", path, errors);
    let selector = spec.field("selector");
    if workload::is_well_formed(selector) {
        workload::check_template(spec, "ReplicaSet", path, errors);
    } else {
        let printed = workload::printed_selector(selector.unwrap_or(&NOTHING));
        errors.invalid(&path.child("selector"), &printed, "invalid label selector");
    }
    check_strategy(part(spec, &["strategy"]), &path.child("strategy"), errors);
    check_nonnegative(spec, &["minReadySeconds", "revisionHistoryLimit"], path, errors);
    if let Some(deadline) = spec.int("progressDeadlineSeconds") {
        let here = path.child("progressDeadlineSeconds");
        check::nonnegative(errors, &here, deadline);
        if deadline <= spec.int("minReadySeconds").unwrap_or(0) {
            errors.invalid(&here, &json!(deadline), "must be greater than minReadySeconds");
        }
    }
}

fn check_strategy(strategy: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let rolling = strategy.field("rollingUpdate");
    let here = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&here, detail);
            }
        }
        "RollingUpdate" => match rolling {
            None => errors.required(&here, "this should be defaulted and never be nil"),
            Some(rolling) => check_rolling(rolling, &here, errors),
        },
        other => {
            let printed = json!({"Type": other, "RollingUpdate": rolling});
            errors.not_supported(path, &printed, &["Recreate", "RollingUpdate"]);
            // Go prints the fields in their order, the type first.
            let update = rolling.map_or("null".to_string(), Value::to_string);
            let error = errors.0.last_mut().expect("added above");
            error.value = format!("{{\"Type\":{},\"RollingUpdate\":{update}}}", json!(other));
        }
    }
}

fn check_rolling(rolling: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let field = |key: &str| rolling.field(key).unwrap_or(&NOTHING);
    let (unavailable, surge) = (field("maxUnavailable"), field("maxSurge"));
    check::positive_int_or_percent(errors, &path.child("maxUnavailable"), unavailable);
    check::positive_int_or_percent(errors, &path.child("maxSurge"), surge);
    if workload::rough(unavailable) == 0 && workload::rough(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.invalid(&path.child("maxUnavailable"), unavailable, detail);
    }
    check::at_most_whole(errors, &path.child("maxUnavailable"), unavailable);
}

fn check_status(status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let keys = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    check_nonnegative(status, &keys, path, errors);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    let detail = "cannot be greater than status.replicas";
    workload::check_at_most(status, &parts, "replicas", detail, path, errors);
    let detail = "cannot be greater than readyReplicas";
    let parts = ["availableReplicas"];
    workload::check_at_most(status, &parts, "readyReplicas", detail, path, errors);
}
