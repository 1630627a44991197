//! PodDisruptionBudgets.
//!
//! Source of behaviour: kubernetes `pkg/apis/policy` and
//! `pkg/registry/policy/poddisruptionbudget`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part};

/// Numbers of the status that are shown even when zero.
const COUNTS: [&str; 4] =
    ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

/// Behaviour of PodDisruptionBudgets.
pub(crate) struct PodDisruptionBudget;

impl Behaviour for PodDisruptionBudget {
    fn default(&self, object: &mut Value) {
        object.map_mut("spec");
        let status = object.map_mut("status");
        for key in COUNTS {
            status.default_to(key, 0);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        let status = COUNTS.into_iter().map(|key| (key.to_string(), json!(0))).collect();
        lifecycle::create(object, Value::Object(status));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        let bounds = ["minAvailable", "maxUnavailable"];
        if bounds.iter().all(|key| spec.field(key).is_some()) {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.invalid_printed(&path, printed(spec), detail);
        }
        for key in bounds {
            if let Some(value) = spec.field(key) {
                check::positive_int_or_percent(errors, &path.child(key), value);
                check::at_most_whole(errors, &path.child(key), value);
            }
        }
        check::selector(errors, &path.child("selector"), spec.field("selector"));
        if let Some(policy) = spec.text_opt("unhealthyPodEvictionPolicy") {
            let path = path.child("unhealthyPodEvictionPolicy");
            check::one_of(errors, &path, policy, &["AlwaysAllow", "IfHealthyBudget"]);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        _old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource != "status" {
            return self.validate(new, errors);
        }
        let (status, path) = (part(new, &["status"]), FieldPath::new("status"));
        check::conditions(errors, &path.child("conditions"), status.items("conditions"));
        for key in COUNTS {
            check::nonnegative(errors, &path.child(key), status.int(key).unwrap_or(0));
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let bound = |key: &str| match part(object, &["spec", key]) {
            Value::Null => json!("N/A"),
            Value::String(text) => json!(text),
            number => json!(number.to_string()),
        };
        vec![
            cells::name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            cells::number(object, &["status", "disruptionsAllowed"]),
            cells::age(object, now),
        ]
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_path_segment
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

/// The spec as a real API server prints it.
fn printed(spec: &Value) -> String {
    let text = |key: &str| part(spec, &[key]).to_string();
    format!(
        "{{\"MinAvailable\":{},\"MaxUnavailable\":{},\"Selector\":{},\
         \"UnhealthyPodEvictionPolicy\":{}}}",
        text("minAvailable"),
        text("maxUnavailable"),
        text("selector"),
        text("unhealthyPodEvictionPolicy")
    )
}
