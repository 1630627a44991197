//! Leases.
//!
//! Source of behaviour: kubernetes `pkg/apis/coordination` and `pkg/registry/coordination/lease`,
//! v1.36, without coordinated leader election, whose fields are dropped.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

/// Behaviour of Leases.
pub(crate) struct Lease;

impl Behaviour for Lease {
    fn default(&self, object: &mut Value) {
        if object.get("spec").is_none_or(Value::is_null) {
            object.set_at(&["spec"], json!({}));
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        drop_election(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        drop_election(new, Some(old));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
        if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let path = path.child("leaseDurationSeconds");
            errors.invalid(&path, &json!(seconds), "must be greater than 0");
        }
        if let Some(count) = spec.int("leaseTransitions").filter(|count| *count < 0) {
            let path = path.child("leaseTransitions");
            errors.invalid(&path, &json!(count), "must be greater than or equal to 0");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let holder = object.str_at(&["spec", "holderIdentity"]);
        vec![cells::name(object), json!(holder), cells::age(object, now)]
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

/// Removes the fields of a feature that is off, unless the old object has them.
fn drop_election(object: &mut Value, old: Option<&Value>) {
    for key in ["strategy", "preferredHolder"] {
        if old.is_none_or(|old| part(old, &["spec", key]).is_null()) {
            object.remove_at(&["spec", key]);
        }
    }
}
