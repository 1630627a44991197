//! Admission policies and their bindings, of both ways.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::conditions::check_conditions;
use super::rules::check_rule;
use super::{
    FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, Way, create, default_matching,
    default_scopes, update,
};
use crate::cells;
use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const NOT_FOUND_ACTIONS: [&str; 2] = ["Allow", "Deny"];

/// Behaviour of MutatingAdmissionPolicies and ValidatingAdmissionPolicies.
pub(crate) struct Policy(pub(crate) Way);

impl Behaviour for Policy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.field_mut("spec") else { return };
        spec.default_zero("failurePolicy", "Fail");
        if let Some(constraints) = spec.field_mut("matchConstraints") {
            default_resources(constraints);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        if self.0 == Way::Validating {
            object["status"] = json!({});
        }
        create(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            return restore(new, old, &["spec"]);
        }
        restore(new, old, &["status"]);
        update(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        let spec = part(object, &["spec"]);
        if let Some(text) = spec.text_opt("failurePolicy") {
            check::one_of(errors, &path.child("failurePolicy"), text, &FAILURE_POLICIES);
        }
        if let Some(kind) = spec.field("paramKind") {
            check_param_kind(kind, &path.child("paramKind"), errors);
        }
        match spec.field("matchConstraints") {
            None => errors.required(&path.child("matchConstraints"), ""),
            Some(constraints) => {
                let path = path.child("matchConstraints");
                check_resources(constraints, &path, errors);
                if constraints.items("resourceRules").is_empty() {
                    errors.required(&path.child("resourceRules"), "");
                }
            }
        }
        check_conditions(spec, &path, errors);
        check_variables(spec, &path.child("variables"), errors);
        match self.0 {
            Way::Validating => check_validations(spec, &path, errors),
            Way::Mutating => check_mutations(spec, &path, errors),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let list = if self.0 == Way::Validating { "validations" } else { "mutations" };
        let kind = match spec.field("paramKind") {
            Some(kind) => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")),
            None => "<unset>".into(),
        };
        let count = spec.items(list).len();
        vec![cells::name(object), json!(count), json!(kind), cells::age(object, now)]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        match (self.0, subresource) {
            (Way::Mutating, _) => &[],
            (Way::Validating, "status") => &["metadata", "spec"],
            (Way::Validating, _) => &["status"],
        }
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn default_resources(matched: &mut Value) {
    default_matching(matched);
    for key in ["resourceRules", "excludeResourceRules"] {
        default_scopes(matched.items_mut(key));
    }
}

fn check_param_kind(kind: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let version = kind.text("apiVersion");
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
    } else if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.invalid_str(&path.child("apiVersion"), version, &detail);
    }
    check::required(errors, kind, path, "kind");
}

fn check_resources(matched: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match matched.text_opt("matchPolicy") {
        None => errors.required(&path.child("matchPolicy"), ""),
        Some(text) => check::one_of(errors, &path.child("matchPolicy"), text, &MATCH_POLICIES),
    }
    for key in ["namespaceSelector", "objectSelector"] {
        match matched.field(key) {
            None => errors.required(&path.child(key), ""),
            selector => check::selector(errors, &path.child(key), selector),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in matched.items(key).iter().enumerate() {
            let here = path.child(key).index(index);
            check_rule(rule, &here, errors);
            let mut names = Vec::new();
            for (index, name) in rule.texts("resourceNames").into_iter().enumerate() {
                let here = here.child("resourceNames").index(index);
                check::path_segment(errors, &here, name);
                if names.contains(&name) {
                    errors.duplicate(&here, &json!(name));
                }
                names.push(name);
            }
        }
    }
}

fn check_variables(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, variable) in spec.items("variables").iter().enumerate() {
        let here = path.index(index);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&here.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid_str(&here.child("name"), name, "name is not a valid CEL identifier");
        }
        if variable.text("expression").trim().is_empty() {
            errors.required(&here.child("expression"), "expression is not specified");
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && chars.all(|char| char == '_' || char.is_ascii_alphanumeric())
}

fn check_validations(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    let validations = spec.items("validations");
    let annotations = spec.items("auditAnnotations");
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), detail);
        errors.required(&path.child("auditAnnotations"), detail);
    }
    for (index, validation) in validations.iter().enumerate() {
        let here = path.child("validations").index(index);
        if validation.text("expression").trim().is_empty() {
            errors.required(&here.child("expression"), "expression is not specified");
        }
        let message = validation.text("message");
        if !message.is_empty() && message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            errors.invalid_str(&here.child("message"), message, detail);
        } else if message.contains('\n') {
            errors.invalid_str(
                &here.child("message"),
                message,
                "message must not contain line breaks",
            );
        }
        if let Some(reason) = validation.text_opt("reason") {
            check::one_of(errors, &here.child("reason"), reason, &REASONS);
        }
    }
    let mut keys = Vec::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let here = path.child("auditAnnotations").index(index);
        let key = annotation.text("key");
        if key.is_empty() {
            errors.required(&here.child("key"), "");
        } else {
            check::qualified_name(errors, &here.child("key"), key);
        }
        if annotation.text("valueExpression").trim().is_empty() {
            let detail = "valueExpression is not specified";
            errors.required(&here.child("valueExpression"), detail);
        }
        if keys.contains(&key) {
            errors.duplicate(&here.child("key"), &json!(key));
        }
        keys.push(key);
    }
}

fn check_mutations(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mutations = spec.items("mutations");
    if mutations.is_empty() {
        let detail = "mutations must contain at least one item";
        errors.required(&path.child("mutations"), detail);
    }
    for (index, mutation) in mutations.iter().enumerate() {
        check_mutation(mutation, &path.child("mutations").index(index), errors);
    }
    let reinvocation = path.child("reinvocationPolicy");
    check::required_one_of(
        errors,
        &reinvocation,
        spec.text("reinvocationPolicy"),
        &REINVOCATION_POLICIES,
    );
}

fn check_mutation(mutation: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = mutation.text("patchType");
    let here = path.child("patchType");
    let fields = match kind {
        "" => return errors.required(&here, ""),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        _ => return check::one_of(errors, &here, kind, &PATCH_TYPES),
    };
    let (wanted, other) = fields;
    match mutation.field(wanted) {
        None => {
            let detail = format!("must be specified when patchType is {kind}");
            errors.required(&path.child(wanted), &detail);
        }
        Some(source) if source.text("expression").trim().is_empty() => {
            let path = path.child(wanted).child("expression");
            errors.required(&path, "expression is not specified");
        }
        Some(_) => {}
    }
    if let Some(given) = mutation.field(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), given, &detail);
    }
}

/// Behaviour of MutatingAdmissionPolicyBindings and ValidatingAdmissionPolicyBindings.
pub(crate) struct PolicyBinding(pub(crate) Way);

impl Behaviour for PolicyBinding {
    fn default(&self, object: &mut Value) {
        if let Some(matched) = object.at_mut(&["spec", "matchResources"]) {
            default_resources(matched);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        create(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        update(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        let spec = part(object, &["spec"]);
        if check::required(errors, spec, &path, "policyName") {
            check::subdomain(errors, &path.child("policyName"), spec.text("policyName"));
        }
        if let Some(reference) = spec.field("paramRef") {
            check_param_ref(reference, &path.child("paramRef"), errors);
        }
        if let Some(matched) = spec.field("matchResources") {
            check_resources(matched, &path.child("matchResources"), errors);
        }
        if self.0 == Way::Validating {
            check_actions(spec, &path.child("validationActions"), errors);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let reference = match spec.field("paramRef") {
            None => "<unset>".to_owned(),
            Some(reference) => match (reference.text("namespace"), reference.text("name")) {
                ("", name) => name.to_owned(),
                (namespace, name) => format!("{namespace}/{name}"),
            },
        };
        vec![
            cells::name(object),
            json!(spec.text("policyName")),
            json!(reference),
            cells::age(object, now),
        ]
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn check_param_ref(reference: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let name = reference.text("name");
    if !name.is_empty() {
        check::path_segment(errors, &path.child("name"), name);
    }
    match (name.is_empty(), reference.field("selector")) {
        (false, Some(_)) => {
            let detail = "name and selector are mutually exclusive";
            errors.forbidden(&path.child("name"), detail);
        }
        (true, None) => errors.required(path, "one of name or selector must be specified"),
        (true, selector) => check::selector(errors, &path.child("selector"), selector),
        (false, None) => {}
    }
    let action = path.child("parameterNotFoundAction");
    let given = reference.text("parameterNotFoundAction");
    check::required_one_of(errors, &action, given, &NOT_FOUND_ACTIONS);
}

fn check_actions(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let actions = spec.texts("validationActions");
    if actions.is_empty() {
        return errors.required(path, "at least one validation action is required");
    }
    for (index, action) in actions.iter().enumerate() {
        check::one_of(errors, &path.index(index), action, &ACTIONS);
        if actions[..index].contains(action) {
            errors.duplicate(&path.index(index), &json!(action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure \
                      information in the API response and headers serves no purpose)";
        errors.invalid(path, &spec["validationActions"], detail);
    }
}
