//! DaemonSets.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::workload::{self, check_nonnegative};
use crate::cells;
use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{NOTHING, Read, part, same};

/// Where the number of template changes is kept: the API has no field for it any more.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// The numbers of a status that are always printed.
const COUNTS: [&str; 4] =
    ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"];

/// Behaviour of DaemonSets.
pub(crate) struct DaemonSet;

impl Behaviour for DaemonSet {
    fn default(&self, object: &mut Value) {
        // Upstream keeps the number in an annotation of this version, which every client owns.
        object.map_mut("metadata").map_mut("annotations").default_to(TEMPLATE_GENERATION, "0");
        let spec = object.map_mut("spec");
        let strategy = spec.map_mut("updateStrategy");
        strategy.default_zero("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.map_mut("rollingUpdate");
            rolling.default_to("maxUnavailable", 1);
            rolling.default_to("maxSurge", 0);
        }
        spec.default_to("revisionHistoryLimit", 10);
        pod::defaults::template(spec.map_mut("template"));
        let status = object.map_mut("status");
        for key in COUNTS {
            status.default_to(key, 0);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        let zeros: serde_json::Map<String, Value> =
            COUNTS.iter().map(|key| (key.to_string(), json!(0))).collect();
        lifecycle::create(object, Value::Object(zeros));
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
        if context.subresource == "status" {
            return;
        }
        let template = &["spec", "template"];
        let changed = !same(part(new, template), part(old, template));
        restore(new, old, &["metadata", "annotations", TEMPLATE_GENERATION]);
        set_template_generation(new, template_generation(old) + i64::from(changed));
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
            let keys = [
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ];
            check_nonnegative(part(new, &["status"]), &keys, &path, errors);
            workload::check_collisions(new, old, &path, errors);
            return;
        }
        let selector = &["spec", "selector"];
        let path = FieldPath::new("spec").child("selector");
        check::immutable(errors, &path, new.at(selector), old.at(selector));
        self.validate(new, errors);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload::template_warnings(object, old)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let template = part(object, &["spec", "template", "spec"]);
        let [names, images] = cells::containers(template);
        vec![
            cells::name(object),
            cells::number(object, &["status", "desiredNumberScheduled"]),
            cells::number(object, &["status", "currentNumberScheduled"]),
            cells::number(object, &["status", "numberReady"]),
            cells::number(object, &["status", "updatedNumberScheduled"]),
            cells::number(object, &["status", "numberAvailable"]),
            cells::labels(template.map("nodeSelector")),
            cells::age(object, now),
            names,
            images,
            cells::selector(object.at(&["spec", "selector"])),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

fn template_generation(object: &Value) -> i64 {
    let text = object.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]);
    text.parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let value = json!(generation.to_string());
    object.set_at(&["metadata", "annotations", TEMPLATE_GENERATION], value);
}

fn check_spec(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let template = spec.field("template").unwrap_or(&NOTHING);
    let selector = spec.field("selector");
    let here = path.child("template");
    check::selector(errors, &path.child("selector"), selector);
    workload::check_matching_template(selector, template, &here, errors);
    if let Some(selector) = selector.filter(|selector| check::is_empty_selector(selector)) {
        let printed = workload::printed_selector(selector);
        let detail = "empty selector is invalid for daemonset";
        errors.invalid(&path.child("selector"), &printed, detail);
    }
    pod::spec::check_template(template, &here, errors);
    workload::check_always_restarts(template, "DaemonSet", &here, errors);
    check_nonnegative(spec, &["minReadySeconds"], path, errors);
    check_strategy(part(spec, &["updateStrategy"]), &path.child("updateStrategy"), errors);
    check_nonnegative(spec, &["revisionHistoryLimit"], path, errors);
}

fn check_strategy(strategy: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.field("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&here, ""),
        ("RollingUpdate", Some(rolling)) => check_rolling(rolling, &here, errors),
        (other, rolling) => {
            errors.not_supported(path, &Value::Null, &["RollingUpdate", "OnDelete"]);
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
    for check in [check::positive_int_or_percent, check::at_most_whole] {
        check(errors, &path.child("maxUnavailable"), unavailable);
        check(errors, &path.child("maxSurge"), surge);
    }
    match (workload::rough(unavailable) != 0, workload::rough(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.invalid(&path.child("maxSurge"), surge, detail);
        }
        (false, false) => {
            errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}
