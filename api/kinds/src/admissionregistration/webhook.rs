//! Webhook configurations of both ways.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use super::conditions::check_conditions;
use super::rules::check_rule;
use super::{
    FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, Way, check_client, create,
    default_matching, default_scopes, update,
};
use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::Read;

/// Side effects that a webhook may have.
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
/// Versions of AdmissionReview that upstream's server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const DEFAULT_TIMEOUT_SECS: i64 = 10;

/// Behaviour of MutatingWebhookConfigurations and ValidatingWebhookConfigurations.
pub(crate) struct WebhookConfiguration(pub(crate) Way);

impl Behaviour for WebhookConfiguration {
    fn default(&self, object: &mut Value) {
        for webhook in object.items_mut("webhooks") {
            webhook.default_zero("failurePolicy", "Fail");
            default_matching(webhook);
            webhook.default_to("timeoutSeconds", DEFAULT_TIMEOUT_SECS);
            if self.0 == Way::Mutating {
                webhook.default_zero("reinvocationPolicy", "Never");
            }
            default_scopes(webhook.items_mut("rules"));
            if let Some(service) = webhook.at_mut(&["clientConfig", "service"]) {
                service.default_to("port", 443);
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        create(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        update(new, old, "webhooks");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("webhooks");
        let mut seen = Vec::new();
        for (index, webhook) in object.items("webhooks").iter().enumerate() {
            let here = path.index(index);
            self.check_webhook(webhook, &here, errors);
            let name = webhook.text("name");
            if !name.is_empty() && seen.contains(&name) {
                errors.duplicate(&here.child("name"), &json!(name));
            }
            seen.push(name);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let count = object.items("webhooks").len();
        vec![cells::name(object), json!(count), cells::age(object, now)]
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

impl WebhookConfiguration {
    fn check_webhook(&self, webhook: &Value, path: &FieldPath, errors: &mut FieldErrors) {
        check_name(webhook.text("name"), &path.child("name"), errors);
        for (index, rule) in webhook.items("rules").iter().enumerate() {
            check_rule(rule, &path.child("rules").index(index), errors);
        }
        for (key, supported) in
            [("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)]
        {
            if let Some(text) = webhook.text_opt(key) {
                check::one_of(errors, &path.child(key), text, &supported);
            }
        }
        let effects = path.child("sideEffects");
        match webhook.text_opt("sideEffects") {
            None => errors.required(&effects, "must specify one of None, NoneOnDryRun"),
            Some(text) => check::one_of(errors, &effects, text, &SIDE_EFFECTS),
        }
        if let Some(secs) = webhook.int("timeoutSeconds").filter(|secs| !(1..=30).contains(secs)) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&path.child("timeoutSeconds"), &json!(secs), detail);
        }
        for key in ["namespaceSelector", "objectSelector"] {
            check::selector(errors, &path.child(key), webhook.field(key));
        }
        let none = Value::Null;
        let client = webhook.field("clientConfig").unwrap_or(&none);
        check_client(client, &path.child("clientConfig"), errors);
        if self.0 == Way::Mutating
            && let Some(text) = webhook.text_opt("reinvocationPolicy")
        {
            let path = path.child("reinvocationPolicy");
            check::one_of(errors, &path, text, &REINVOCATION_POLICIES);
        }
        check_conditions(webhook, path, errors);
        check_review_versions(webhook, &path.child("admissionReviewVersions"), errors);
    }
}

fn check_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let faults = names::name_is_dns_subdomain(name, false);
    if !faults.is_empty() {
        return errors.invalid_str(path, name, &faults.join(","));
    }
    if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid_str(path, name, detail);
    }
}

fn check_review_versions(webhook: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let versions = webhook.texts("admissionReviewVersions");
    if versions.is_empty() {
        return errors.required(path, "must specify one of v1, v1beta1");
    }
    for (index, version) in versions.iter().enumerate() {
        let here = path.index(index);
        if versions[..index].contains(version) {
            errors.invalid_str(&here, version, "duplicate version");
            continue;
        }
        for fault in names::dns1035_label(version) {
            errors.invalid_str(&here, version, &fault);
        }
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let printed = &webhook["admissionReviewVersions"];
        errors.invalid(path, printed, "must include at least one of v1, v1beta1");
    }
}
