//! Which requests a rule is for.

use objects::{FieldErrors, FieldPath};
use serde_json::Value;

use crate::check;
use crate::read::Read;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// Checks a rule with its operations.
pub(super) fn check_rule(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_rule_parts(rule, path, errors);
    let operations = rule.texts("operations");
    let here = path.child("operations");
    if operations.is_empty() {
        errors.required(&here, "");
    }
    if operations.len() > 1 && operations.contains(&"*") {
        let detail = "if '*' is present, must not specify other operations";
        errors.invalid(&here, &rule["operations"], detail);
    }
    for (index, operation) in operations.into_iter().enumerate() {
        check::one_of(errors, &here.index(index), operation, &OPERATIONS);
    }
}

fn check_rule_parts(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (key, others) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let here = path.child(key);
        let texts = rule.texts(key);
        if texts.is_empty() {
            errors.required(&here, "");
        }
        if texts.len() > 1 && texts.contains(&"*") {
            let detail = format!("if '*' is present, must not specify other {others}");
            errors.invalid(&here, &rule[key], &detail);
        }
        // The empty text is the core group.
        for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            if key == "apiVersions" {
                errors.required(&here.index(index), "");
            }
        }
    }
    check_resources(rule, &path.child("resources"), errors);
    if let Some(scope) = rule.text_opt("scope") {
        check::one_of(errors, &path.child("scope"), scope, &SCOPES);
    }
}

fn check_resources(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let resources = rule.texts("resources");
    if resources.is_empty() {
        errors.required(path, "");
    }
    let printed = &rule["resources"];
    let mut with_all_subresources: Vec<&str> = Vec::new();
    let mut of_all_resources: Vec<&str> = Vec::new();
    let mut any_double = false;
    let mut any_single = false;
    let mut plain = false;
    for (index, resource) in resources.iter().enumerate() {
        if resource.is_empty() {
            errors.required(&path.index(index), "");
            continue;
        }
        match resource.split_once('/') {
            Some(("*", "*")) => any_double = true,
            Some((one, "*")) => with_all_subresources.push(one),
            Some(("*", subresource)) => of_all_resources.push(subresource),
            Some(_) => {}
            None if *resource == "*" => any_single = true,
            None => plain = true,
        }
        if let Some((one, subresource)) = resource.split_once('/') {
            let seen_before = &resources[..index];
            for covers in [format!("{one}/*"), format!("*/{subresource}")] {
                if covers != *resource && seen_before.contains(&covers.as_str()) {
                    let detail = format!("if '{covers}' is present, must not specify {resource}");
                    errors.invalid_str(&path.index(index), resource, &detail);
                }
            }
        }
    }
    if any_double && resources.len() > 1 {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, printed, detail);
    }
    if any_single && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, printed, detail);
    }
}
