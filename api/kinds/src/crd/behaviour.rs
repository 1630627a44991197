//! Defaults, status and immutability of CustomResourceDefinitions.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apis/apiextensions/v1/defaults.go` and
//! `pkg/registry/customresourcedefinition`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, ObjectExt};
use serde_json::{Value, json};

use super::validate;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part, same};

/// Keeps a definition until its instances are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The behaviour.
pub(crate) struct CustomResourceDefinition;

fn storage_version(object: &Value) -> Option<&str> {
    let versions = part(object, &["spec"]).items("versions");
    versions.iter().find(|version| version.flag("storage")).map(|version| version.text("name"))
}

/// Notes the version that is stored from now on.
fn note_stored(object: &mut Value) {
    let Some(version) = storage_version(object).map(str::to_string) else { return };
    let mut stored: Vec<Value> = part(object, &["status"]).items("storedVersions").to_vec();
    if stored.iter().all(|known| *known != version.as_str()) {
        stored.push(json!(version));
        object.set_at(&["status", "storedVersions"], Value::Array(stored));
    }
}

fn fresh_status() -> Value {
    json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": null})
}

impl Behaviour for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.field_mut("spec") else { return };
        let names = spec.map_mut("names");
        let kind = names.text("kind").to_string();
        if !kind.is_empty() {
            names.default_zero("singular", kind.to_lowercase());
            names.default_zero("listKind", format!("{kind}List"));
        }
        spec.default_to("conversion", json!({"strategy": "None"}));
        if let Some(service) = spec
            .field_mut("conversion")
            .and_then(|conversion| conversion.field_mut("webhook"))
            .and_then(|webhook| webhook.field_mut("clientConfig"))
            .and_then(|config| config.field_mut("service"))
        {
            service.default_to("port", 443);
        }
        if part(object, &["status"]).items("storedVersions").is_empty() {
            note_stored(object);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, fresh_status());
        note_stored(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
        if context.subresource.is_empty() {
            note_stored(new);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::create(object, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            validate::status(new, errors);
        } else {
            validate::update(new, old, errors);
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        validate::warnings(object, old)
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        vec![object.name().into(), object.str_at(&["metadata", "creationTimestamp"]).into()]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

/// Whether two specs are the same.
pub(super) fn same_spec(a: &Value, b: &Value) -> bool {
    same(part(a, &["spec"]), part(b, &["spec"]))
}
