//! Namespaces.

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Behaviour of Namespaces.
pub(crate) struct Namespace;

impl Behaviour for Namespace {
    fn default(&self, object: &mut Value) {
        let name = object.name().to_string();
        if !name.is_empty() {
            object.set_at(&["metadata", "labels", NAME_LABEL], json!(name));
        }
        object.map_mut("spec");
        object.map_mut("status").default_zero("phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object.set_at(&["status"], json!({"phase": "Active"}));
        let mut finalizers = part(object, &["spec"]).items("finalizers").to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push(json!("kubernetes"));
        }
        object.set_at(&["spec", "finalizers"], Value::Array(finalizers));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => restore(new, old, &["spec"]),
            "finalize" => restore(new, old, &["status"]),
            _ => {
                restore(new, old, &["spec", "finalizers"]);
                restore(new, old, &["status"]);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec").child("finalizers");
        for name in part(object, &["spec"]).texts("finalizers") {
            check_finalizer(name, &path, errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        _old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        match context.subresource {
            "status" => {
                let (wanted, when) = if new.deletion_timestamp().is_empty() {
                    ("Active", "empty")
                } else {
                    ("Terminating", "not empty")
                };
                let phase = new.str_at(&["status", "phase"]);
                if phase != wanted {
                    let path = FieldPath::new("status").child("Phase");
                    let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
                    errors.invalid_str(&path, phase, &detail);
                }
            }
            "finalize" => {
                let path = FieldPath::new("spec").child("finalizers");
                for (index, name) in part(new, &["spec"]).texts("finalizers").iter().enumerate() {
                    check_finalizer(name, &path.index(index), errors);
                }
            }
            _ => {}
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", object.str_at(&["status", "phase"]).to_string()),
            ("name", object.name().to_string()),
        ]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let phase = json!(object.str_at(&["status", "phase"]));
        vec![cells::name(object), phase, cells::age(object, now)]
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_dns_label
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

fn check_finalizer(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    check::qualified_name(errors, path, name);
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid_str(path, name, detail);
    }
}
