//! What changes and refuses objects on their way in: webhook configurations, and admission policies
//! with their bindings.
//!
//! Source of behaviour: kubernetes `pkg/apis/admissionregistration` and
//! `pkg/registry/admissionregistration`, v1.36. Whether CEL expressions compile is the API server's
//! to say, which has the compiler.

mod client;
mod conditions;
mod policy;
mod rules;
mod webhook;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::edit::{Edit, set_generation, step_generation};
use crate::read::same;

pub(crate) use client::check_client;
pub(crate) use policy::{Policy, PolicyBinding};
pub(crate) use webhook::WebhookConfiguration;

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];

/// The two ways in which admission works on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Changes it.
    Mutating,
    /// Looks at it.
    Validating,
}

/// Policies and selectors that webhooks and policies share.
fn default_matching(owner: &mut Value) {
    owner.default_zero("matchPolicy", "Equivalent");
    owner.default_to("namespaceSelector", json!({}));
    owner.default_to("objectSelector", json!({}));
}

fn default_scopes(rules: &mut [Value]) {
    for rule in rules {
        rule.default_zero("scope", "*");
    }
}

fn create(object: &mut Value) {
    set_generation(object, 1);
}

/// The generation goes up with what is configured.
fn update(new: &mut Value, old: &Value, part: &str) {
    let changed = !same(&new[part], &old[part]);
    step_generation(new, old, changed);
}
