//! What workloads share.

use objects::selector::Selector;
use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use crate::check;
use crate::kind::{ScalePaths, ScaleSelector};
use crate::pod;
use crate::read::{NOTHING, Read, part};

/// Where a workload keeps its scale.
pub(crate) fn scale(selector: ScaleSelector) -> Option<ScalePaths> {
    let path = |parts: &[&str]| parts.iter().map(ToString::to_string).collect();
    Some(ScalePaths {
        spec_replicas: path(&["spec", "replicas"]),
        status_replicas: path(&["status", "replicas"]),
        selector,
    })
}

/// A `LabelSelector` at `spec.selector`.
pub(crate) fn spec_selector() -> ScaleSelector {
    ScaleSelector::LabelSelector(vec!["spec".to_string(), "selector".to_string()])
}

/// Whether a `LabelSelector` (nothing if absent) matches the labels of a template; `None` if the
/// selector is malformed.
fn matches(selector: Option<&Value>, template: &Value) -> Option<bool> {
    let labels = part(template, &["metadata", "labels"]).as_object().cloned().unwrap_or_default();
    Selector::from_label_selector(selector).ok().map(|selector| selector.matches(&labels))
}

/// Adds that the template's labels do not match.
pub(crate) fn check_matching_template(
    selector: Option<&Value>,
    template: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let empty = selector.is_some_and(check::is_empty_selector);
    if !empty && matches(selector, template) == Some(false) {
        let labels = part(template, &["metadata", "labels"]);
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata").child("labels"), labels, detail);
    }
}

/// Whether a selector is well formed (one that is absent is).
pub(crate) fn is_well_formed(selector: Option<&Value>) -> bool {
    Selector::from_label_selector(selector).is_ok()
}

/// A selector as Go prints it.
pub(crate) fn printed_selector(selector: &Value) -> Value {
    let mut out = json!({});
    for key in ["matchLabels", "matchExpressions"] {
        if selector.is_set(key) {
            out.set_at(&[key], selector[key].clone());
        }
    }
    out
}

/// Checks a required `spec.selector`.
pub(crate) fn check_selector(spec: &Value, what: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("selector");
    let Some(selector) = spec.field("selector") else {
        errors.required(&path, "");
        return;
    };
    check::selector(errors, &path, Some(selector));
    if check::is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {what}");
        errors.invalid(&path, &printed_selector(selector), &detail);
    }
}

/// Checks the template of a workload whose pods always restart.
pub(crate) fn check_template(spec: &Value, what: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let template = spec.field("template").unwrap_or(&NOTHING);
    let here = path.child("template");
    check_matching_template(spec.field("selector"), template, &here, errors);
    pod::spec::check_template(template, &here, errors);
    check_always_restarts(template, what, &here, errors);
}

/// Checks that pods always restart and have no deadline.
pub(crate) fn check_always_restarts(
    template: &Value,
    what: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let spec = part(template, &["spec"]);
    let policy = spec.text("restartPolicy");
    let path = path.child("spec");
    check::one_of(errors, &path.child("restartPolicy"), policy, &["Always"]);
    if spec.field("activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), &detail);
    }
}

/// Checks that numbers of a part are not negative where they are present.
pub(crate) fn check_nonnegative(
    owner: &Value,
    keys: &[&str],
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    for key in keys {
        check::nonnegative(errors, &path.child(key), owner.int(key).unwrap_or(0));
    }
}

/// Checks that the numbers in `keys` are not above `most`, another number of the status.
pub(crate) fn check_at_most(
    status: &Value,
    keys: &[&str],
    most: &str,
    detail: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let limit = status.int(most).unwrap_or(0);
    for key in keys {
        let value = status.int(key).unwrap_or(0);
        if value > limit {
            errors.invalid(&path.child(key), &json!(value), detail);
        }
    }
}

/// Checks that a collision count does not go down.
pub(crate) fn check_collisions(
    new: &Value,
    old: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let count = |object: &Value| object.i64_at(&["status", "collisionCount"]);
    let fell = match (count(new), count(old)) {
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
        _ => false,
    };
    if fell {
        let value = json!(count(new).unwrap_or(0));
        errors.invalid(&path.child("collisionCount"), &value, "cannot be decremented");
    }
}

/// An `IntOrString` as a number: a percentage counts as its number.
pub(crate) fn rough(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.strip_suffix('%').unwrap_or(text).parse().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    }
}

/// Warns about a name that makes bad hostnames.
pub(crate) fn name_warning(object: &Value) -> Option<String> {
    let faults = names::dns1123_label(object.name());
    (!faults.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in \
             surprising behavior; a DNS label is recommended: [{}]",
            faults.join(" ")
        )
    })
}

/// Warnings about `spec.template`, on creation and when the generation went up.
pub(crate) fn template_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| old.generation() == object.generation()) {
        return Vec::new();
    }
    let path = FieldPath::new("spec").child("template");
    pod::warnings::of(part(object, &["spec", "template"]), &path)
}
