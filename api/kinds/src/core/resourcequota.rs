//! ResourceQuotas.

use std::collections::BTreeSet;

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::edit::{Edit, default_resources, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod::resources::{check_amount, check_name, is_standard_quota};
use crate::read::{Read, amount, part, quantity};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Resources of pods that a quota can be about.
const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Behaviour of ResourceQuotas.
pub(crate) struct ResourceQuota;

impl Behaviour for ResourceQuota {
    fn default(&self, object: &mut Value) {
        default_resources(object.map_mut("spec").field_mut("hard"));
        let status = object.map_mut("status");
        default_resources(status.field_mut("hard"));
        default_resources(status.field_mut("used"));
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object.set_at(&["status"], json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        restore(new, old, if context.subresource == "status" { &["spec"] } else { &["status"] });
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = part(object, &["spec"]);
        check_list(spec, "hard", &FieldPath::new("spec"), errors);
        check_scopes(spec, errors);
        check_selector(spec, errors);
        check_status(object, errors);
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
            return;
        }
        let (spec, before) = (part(new, &["spec"]), part(old, &["spec"]));
        check_list(spec, "hard", &FieldPath::new("spec"), errors);
        check_scopes(spec, errors);
        check_selector(spec, errors);
        let set = |spec: &Value| -> BTreeSet<String> {
            spec.texts("scopes").into_iter().map(String::from).collect()
        };
        if set(spec) != set(before) {
            let path = FieldPath::new("spec").child("scopes");
            errors.invalid(&path, &json!(spec.items("scopes")), "field is immutable");
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let hard = part(object, &["spec"]).field("hard");
        let mut out = Vec::new();
        for name in ["cpu", "memory", "ephemeral-storage"] {
            let long = format!("requests.{name}");
            let short = (name != "ephemeral-storage").then(|| amount(hard, name)).flatten();
            let request =
                amount(hard, &long).map(|a| (long, a)).or(short.map(|a| (name.to_string(), a)));
            let limit_name = format!("limits.{name}");
            if let (Some((request_name, request)), Some(limit)) =
                (request, amount(hard, &limit_name))
                && request > limit
            {
                out.push(format!(
                    "ResourceQuota {request_name} ({request}) should be less than \
                         {limit_name} ({limit})"
                ));
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let status = part(object, &["status"]);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.entries("hard") {
            let used = amount(status.field("used"), name).unwrap_or_default();
            let hard = quantity(hard).unwrap_or_default();
            let list = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            list.push(format!("{name}: {used}/{hard}"));
        }
        vec![
            cells::name(object),
            json!(requests.join(", ")),
            json!(limits.join(", ")),
            cells::age(object, now),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

fn check_list(owner: &Value, list: &str, path: &FieldPath, errors: &mut FieldErrors) {
    for (name, value) in owner.entries(list) {
        let here = path.child(list).key(name);
        check_name(name, &here, errors);
        if !name.contains('/') && !is_standard_quota(name) {
            errors.invalid_str(&here, name, "must be a standard resource for quota");
        }
        check_amount(name, value, &here, errors);
    }
}

fn check_status(object: &Value, errors: &mut FieldErrors) {
    for list in ["hard", "used"] {
        check_list(part(object, &["status"]), list, &FieldPath::new("status"), errors);
    }
}

fn fits(scope: &str, resource: &str) -> bool {
    let of_pods = resource == "pods" || COMPUTE.contains(&resource);
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => of_pods,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

/// Adds `detail` for each resource that a scope does not go with.
fn check_fit(spec: &Value, scope: &str, mut report: impl FnMut()) {
    for (name, _) in spec.entries("hard") {
        if is_standard_quota(name) && !fits(scope, name) {
            report();
        }
    }
}

fn check_conflicts(scopes: &[&str], printed: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (a, b) in [("BestEffort", "NotBestEffort"), ("NotTerminating", "Terminating")] {
        if scopes.contains(&a) && scopes.contains(&b) {
            errors.invalid(path, printed, "conflicting scopes");
        }
    }
}

fn check_scopes(spec: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec").child("scopes");
    let scopes = spec.texts("scopes");
    let printed = json!(scopes);
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&path, &printed, "unsupported scope");
        }
        check_fit(spec, scope, || {
            errors.invalid(&path, &printed, "unsupported scope applied to resource");
        });
    }
    check_conflicts(&scopes, &printed, &path, errors);
}

fn check_selector(spec: &Value, errors: &mut FieldErrors) {
    let Some(selector) = spec.field("scopeSelector") else { return };
    let path = FieldPath::new("spec").child("scopeSelector").child("matchExpressions");
    let rules = selector.items("matchExpressions");
    for rule in rules {
        let (scope, operator) = (rule.text("scopeName"), rule.text("operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid_str(&path.child("scopeName"), scope, "unsupported scope");
        }
        check_fit(spec, scope, || {
            errors.invalid(&path, selector, "unsupported scope applied to resource");
        });
        let exists_only =
            !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if exists_only && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of \
                ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid_str(&path.child("operator"), operator, detail);
        }
        let values = rule.texts("values");
        let here = path.child("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for \
                              scope selector";
                errors.required(&here, detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for \
                              scope selector";
                errors.invalid(&here, &json!(values), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let detail = "not a valid selector operator";
                errors.invalid_str(&path.child("operator"), other, detail);
            }
        }
    }
    let scopes: Vec<&str> = rules.iter().map(|rule| rule.text("scopeName")).collect();
    check_conflicts(&scopes, &json!(spec.texts("scopes")), &path, errors);
}
