//! Validation of where a pod may run: affinity, tolerations, spreading.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::check;
use crate::read::Read;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// What taints do to pods.
pub(crate) const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks `affinity`.
pub(crate) fn check(affinity: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(node) = affinity.field("nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(required) = node.field(REQUIRED) {
            check_node_selector(required, &path.child(REQUIRED), errors);
        }
        for (index, term) in node.items(PREFERRED).iter().enumerate() {
            let here = path.child(PREFERRED).index(index);
            check_weight(term, &here, errors);
            let preference = crate::read::part(term, &["preference"]);
            check_node_term(preference, false, &here.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.field(kind) else { continue };
        let path = path.child(kind);
        for (index, term) in pods.items(REQUIRED).iter().enumerate() {
            check_pod_term(term, &path.child(REQUIRED).index(index), errors);
        }
        for (index, term) in pods.items(PREFERRED).iter().enumerate() {
            let here = path.child(PREFERRED).index(index);
            check_weight(term, &here, errors);
            let inner = crate::read::part(term, &["podAffinityTerm"]);
            check_pod_term(inner, &here.child("podAffinityTerm"), errors);
        }
    }
}

fn check_weight(term: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), &json!(weight), "must be in the range 1-100");
    }
}

/// Checks a `NodeSelector`.
pub(crate) fn check_node_selector(selector: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("nodeSelectorTerms");
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&here, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        check_node_term(term, true, &here.index(index), errors);
    }
}

fn check_node_term(term: &Value, strict: bool, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, rule) in term.items("matchExpressions").iter().enumerate() {
        check_node_rule(rule, strict, &path.child("matchExpressions").index(index), errors);
    }
    for (index, rule) in term.items("matchFields").iter().enumerate() {
        check_node_field(rule, &path.child("matchFields").index(index), errors);
    }
}

/// Checks a rule on node labels; `strict` checks the values' spelling too.
fn check_node_rule(rule: &Value, strict: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let values = rule.texts("values");
    let here = path.child("values");
    match rule.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&here, detail);
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&here, detail);
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&here, detail);
            }
        }
        other => {
            let detail = "not a valid selector operator";
            errors.invalid_str(&path.child("operator"), other, detail);
        }
    }
    check::qualified_name(errors, &path.child("key"), rule.text("key"));
    if strict {
        for (index, value) in values.iter().enumerate() {
            check::faults(errors, &here.index(index), value, names::label_value(value));
        }
    }
}

fn check_node_field(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let values = rule.texts("values");
    match rule.text("operator") {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field \
                     selector";
                errors.required(&path.child("values"), detail);
            }
        }
        other => {
            let detail = "not a valid selector operator";
            errors.invalid_str(&path.child("operator"), other, detail);
        }
    }
    let key = rule.text("key");
    if key == "metadata.name" {
        for (index, value) in values.iter().enumerate() {
            check::subdomain(errors, &path.child("values").index(index), value);
        }
    } else {
        errors.invalid_str(&path.child("key"), key, "not a valid field selector key");
    }
}

fn check_pod_term(term: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for key in ["labelSelector", "namespaceSelector"] {
        check::selector(errors, &path.child(key), term.field(key));
    }
    for namespace in term.texts("namespaces") {
        check::label(errors, &path.child("namespace"), namespace);
    }
    check_label_keys(term, path, errors);
    let key = term.text("topologyKey");
    let here = path.child("topologyKey");
    if key.is_empty() {
        errors.required(&here, "can not be empty");
    }
    check::qualified_name(errors, &here, key);
}

/// Checks `matchLabelKeys` and `mismatchLabelKeys`.
fn check_label_keys(term: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let selector = term.field("labelSelector");
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.texts(list);
        let here = path.child(list);
        if !keys.is_empty() && selector.is_none() {
            errors.forbidden(&here, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            check::qualified_name(errors, &here.index(index), key);
        }
    }
    let keys = term.texts("matchLabelKeys");
    if let Some(selector) = selector {
        let mut selected: Vec<&str> =
            selector.entries("matchLabels").into_iter().map(|(key, _)| key).collect();
        for rule in selector.items("matchExpressions") {
            let key = rule.text("key");
            let at = keys.iter().rposition(|other| *other == key);
            if let Some(at) = at.filter(|_| selected.contains(&key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.invalid_str(&path.index(at), key, detail);
            }
            selected.push(key);
        }
    }
    let not = term.texts("mismatchLabelKeys");
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| not.contains(key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.invalid_str(&path.child("matchLabelKeys").index(index), key, detail);
    }
}

/// Checks `tolerations`.
pub(crate) fn check_tolerations(list: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    for (index, toleration) in list.iter().enumerate() {
        let here = path.index(index);
        let key = toleration.text("key");
        let operator = toleration.text("operator");
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        if !key.is_empty() {
            check::qualified_name(errors, &here.child("key"), key);
        }
        let at_operator = here.child("operator");
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.invalid_str(&at_operator, operator, detail);
        }
        if toleration.field("tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid_str(&here.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let faults = names::label_value(value);
                if !faults.is_empty() {
                    errors.invalid_str(&at_operator, value, &faults.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid_str(&at_operator, value, detail);
                }
            }
            "Lt" | "Gt" => {
                let supported = ["Equal", "Exists", "Lt", "Gt"];
                errors.not_supported(&at_operator, &json!(operator), &supported);
            }
            other => errors.not_supported(&at_operator, &json!(other), &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            check::one_of(errors, &here.child("effect"), effect, &TAINT_EFFECTS);
        }
    }
}

/// Checks `topologySpreadConstraints`.
pub(crate) fn check_spread(list: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    for (index, constraint) in list.iter().enumerate() {
        let here = path.index(index);
        let key = constraint.text("topologyKey");
        let action = constraint.text("whenUnsatisfiable");
        check::positive(errors, &here.child("maxSkew"), constraint.int("maxSkew").unwrap_or(0));
        if key.is_empty() {
            errors.required(&here.child("topologyKey"), "can not be empty");
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        check::one_of(errors, &here.child("whenUnsatisfiable"), action, &actions);
        let repeated = list[index + 1..].iter().any(|other| {
            other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action
        });
        if repeated {
            let value = json!(format!("{{{key}, {action}}}"));
            errors.duplicate(&here.child("{topologyKey, whenUnsatisfiable}"), &value);
        }
        if let Some(domains) = constraint.int("minDomains") {
            let here = here.child("minDomains");
            check::positive(errors, &here, domains);
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.invalid(&here, &json!(domains), &detail);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.text_opt(key) {
                check::one_of(errors, &here.child(key), policy, &["Honor", "Ignore"]);
            }
        }
        check_label_keys(constraint, &here, errors);
        let selector = constraint.field("labelSelector");
        check::selector(errors, &here.child("labelSelector"), selector);
    }
}
