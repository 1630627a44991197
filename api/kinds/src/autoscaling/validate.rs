//! What is wrong with a HorizontalPodAutoscaler.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::check;
use crate::pod;
use crate::read::{NOTHING, Read, part, quantity};

const MAX_WINDOW_SECS: i64 = 3600;
const MAX_PERIOD_SECS: i64 = 1800;
const METRIC_TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Checks an autoscaler in the form of `autoscaling/v2`.
pub(super) fn check(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
    let before = old.map_or(&NOTHING, |old| part(old, &["spec"]));
    let least = spec.int("minReplicas");
    let bound = i64::from(before.int("minReplicas") != Some(0));
    if let Some(least) = least.filter(|least| *least < bound) {
        let detail = format!("must be greater than or equal to {bound}");
        errors.invalid(&path.child("minReplicas"), &json!(least), &detail);
    }
    let (most, here) = (spec.int("maxReplicas").unwrap_or(0), path.child("maxReplicas"));
    if most == 0 {
        errors.required(&here, "must be set and greater than 0");
    } else if most < 0 {
        errors.invalid(&here, &json!(most), "must be greater than or equal to 1");
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(&here, &json!(most), "must be greater than or equal to `minReplicas`");
    }
    let (target, was) = (part(spec, &["scaleTargetRef"]), part(before, &["scaleTargetRef"]));
    let unchanged =
        old.is_some() && ["apiVersion", "kind"].iter().all(|key| target.text(key) == was.text(key));
    let group = match target.text("kind") {
        _ if unchanged => Group::Unchecked,
        "ReplicationController" => Group::Optional,
        _ => Group::Required,
    };
    check_reference(target, group, &path.child("scaleTargetRef"), errors);
    check_metrics(spec, &path.child("metrics"), errors);
    if let Some(behavior) = spec.field("behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.field(direction) {
                check_rules(rules, &path.child("behavior").child(direction), errors);
            }
        }
    }
}

/// Checks the status, which is alike in both versions where it matters.
pub(super) fn check_status(object: &Value, errors: &mut FieldErrors) {
    let (status, path) = (part(object, &["status"]), FieldPath::new("status"));
    for key in ["currentReplicas", "desiredReplicas"] {
        check::nonnegative(errors, &path.child(key), status.int(key).unwrap_or(0));
    }
}

/// What is asked of the group of a reference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Required,
    Optional,
    Unchecked,
}

fn check_reference(reference: &Value, group: Group, path: &FieldPath, errors: &mut FieldErrors) {
    check::required_segment(errors, reference, path, "kind");
    check::required_segment(errors, reference, path, "name");
    let version = reference.text("apiVersion");
    let fault = match (group, version.matches('/').count()) {
        (Group::Unchecked, _) => return,
        (_, 2..) => format!("unexpected GroupVersion string: {version}"),
        (Group::Required, 0) => "apiVersion must specify API group".to_string(),
        _ => return,
    };
    errors.invalid_str(&path.child("apiVersion"), version, &fault);
}

fn check_metrics(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let metrics = spec.items("metrics");
    for (index, metric) in metrics.iter().enumerate() {
        check_metric(metric, &path.index(index), errors);
    }
    let outside =
        metrics.iter().any(|metric| ["Object", "External"].contains(&metric.text("type")));
    if spec.int("minReplicas") == Some(0) && !outside {
        let detail = "must specify at least one Object or External metric to support scaling to \
                      zero replicas";
        errors.forbidden(path, detail);
    }
}

/// Checks of each kind of source, in the order in which they are made.
type SourceCheck = fn(&Value, &FieldPath, &mut FieldErrors);
const SOURCES: [(&str, &str, SourceCheck); 5] = [
    ("Object", "object", check_object),
    ("External", "external", check_external),
    ("Pods", "pods", check_pods),
    ("Resource", "resource", check_resource),
    ("ContainerResource", "containerResource", check_container_resource),
];

fn check_metric(metric: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = metric.text("type");
    let here = path.child("type");
    if kind.is_empty() {
        errors.required(&here, "must specify a metric source type");
    }
    check::one_of(errors, &here, kind, &METRIC_TYPES);
    let mut present = Vec::new();
    for (_, field, check_source) in SOURCES {
        let Some(source) = metric.field(field) else { continue };
        present.push(field);
        if present.len() == 1 {
            check_source(source, &path.child(field), errors);
        }
    }
    let expected = SOURCES.iter().find(|(name, ..)| *name == kind).map(|(_, field, _)| *field);
    match expected {
        Some(field) if !present.contains(&field) => {
            let detail = "must populate information for the given metric source";
            errors.required(&path.child(field), detail);
        }
        Some(_) => {}
        // Upstream notices an unknown type twice.
        None => check::one_of(errors, &here, kind, &METRIC_TYPES),
    }
    if present.len() > 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn check_identifier(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let name = part(source, &["metric"]).text("name");
    let path = path.child("metric").child("name");
    if name.is_empty() {
        errors.required(&path, "must specify a metric name");
    } else {
        check::path_segment(errors, &path, name);
    }
}

fn check_target(target: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (kind, here) = (target.text("type"), path.child("type"));
    if kind.is_empty() {
        errors.required(&here, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid_str(&here, kind, "must be either Utilization, Value, or AverageValue");
    }
    for key in ["value", "averageValue"] {
        let amount = target.field(key).and_then(quantity);
        if let Some(amount) = amount.filter(|amount| amount.sign() <= 0) {
            errors.invalid_str(&path.child(key), &amount.to_string(), "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|percent| *percent < 1) {
        let path = path.child("averageUtilization");
        errors.invalid(&path, &json!(percent), "must be greater than 0");
    }
}

fn check_object(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let about = part(source, &["describedObject"]);
    check_reference(about, Group::Optional, &path.child("describedObject"), errors);
    check_identifier(source, path, errors);
    let (target, path) = (part(source, &["target"]), path.child("target"));
    check_target(target, &path, errors);
    if target.field("value").is_none() && target.field("averageValue").is_none() {
        let detail = "must set either a target value or averageValue";
        errors.required(&path.child("averageValue"), detail);
    }
}

fn check_external(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_identifier(source, path, errors);
    let (target, path) = (part(source, &["target"]), path.child("target"));
    check_target(target, &path, errors);
    match (target.field("value"), target.field("averageValue")) {
        (None, None) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&path.child("averageValue"), detail);
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&path.child("value"), detail);
        }
        _ => {}
    }
}

fn check_pods(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_identifier(source, path, errors);
    let (target, path) = (part(source, &["target"]), path.child("target"));
    check_target(target, &path, errors);
    if target.field("averageValue").is_none() {
        let detail = "must specify a positive target averageValue";
        errors.required(&path.child("averageValue"), detail);
    }
}

fn check_resource(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if source.text("name").is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    }
    check_resource_target(source, path, errors);
}

fn check_container_resource(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match source.text("name") {
        "" => errors.required(&path.child("name"), "must specify a resource name"),
        name => pod::resources::check_container_name(name, &path.child("name"), errors),
    }
    match source.text("container") {
        "" => errors.required(&path.child("container"), "must specify a container"),
        name => check::label(errors, &path.child("container"), name),
    }
    check_resource_target(source, path, errors);
}

fn check_resource_target(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (target, path) = (part(source, &["target"]), path.child("target"));
    check_target(target, &path, errors);
    match (target.field("averageUtilization"), target.field("averageValue")) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), detail);
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&path.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn check_rules(rules: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(window) = rules.int("stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&path, &json!(window), "must be greater than or equal to zero");
        }
        if window > MAX_WINDOW_SECS {
            let detail = format!("must be less than or equal to {MAX_WINDOW_SECS}");
            errors.invalid(&path, &json!(window), &detail);
        }
    }
    if let Some(policy) = rules.text_opt("selectPolicy") {
        let known = ["Disabled", "Max", "Min"];
        check::one_of(errors, &path.child("selectPolicy"), policy, &known);
    }
    let policies = rules.items("policies");
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        check_policy(policy, &path.child("policies").index(index), errors);
    }
    if let Some(tolerance) = rules.field("tolerance").and_then(quantity) {
        check::nonnegative_quantity(errors, &path.child("tolerance"), &tolerance);
    }
}

fn check_policy(policy: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::one_of(errors, &path.child("type"), policy.text("type"), &["Percent", "Pods"]);
    check::positive(errors, &path.child("value"), policy.int("value").unwrap_or(0));
    let (period, here) = (policy.int("periodSeconds").unwrap_or(0), path.child("periodSeconds"));
    check::positive(errors, &here, period);
    if period > MAX_PERIOD_SECS {
        let detail = format!("must be less than or equal to {MAX_PERIOD_SECS}");
        errors.invalid(&here, &json!(period), &detail);
    }
}
