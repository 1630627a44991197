//! CSIStorageCapacities.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, default_quantity};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod;
use crate::read::{Read, quantity};

/// Behaviour of CSIStorageCapacities.
pub(crate) struct CSIStorageCapacity;

impl Behaviour for CSIStorageCapacity {
    fn default(&self, object: &mut Value) {
        for key in ["capacity", "maximumVolumeSize"] {
            if let Some(amount) = object.field_mut(key) {
                default_quantity(amount, false);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("nodeTopology");
        check::selector(errors, &path, object.field("nodeTopology"));
        let class = object.text("storageClassName");
        check::subdomain(errors, &FieldPath::new("storageClassName"), class);
        if let Some(amount) = object.field("capacity").and_then(quantity) {
            check::nonnegative_quantity(errors, &FieldPath::new("capacity"), &amount);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let fixed = ["nodeTopology", "storageClassName"];
        check::immutable_fields(errors, &FieldPath::root(), (new, old), &fixed);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let Some(selector) = object.field("nodeTopology") else { return Vec::new() };
        let path = FieldPath::new("nodeTopology");
        let mut out = Vec::new();
        for (index, expression) in selector.items("matchExpressions").iter().enumerate() {
            let key = expression.text("key");
            if let Some(text) = pod::warnings::old_label(key) {
                let here = path.child("matchExpressions").index(index).child("key");
                out.push(format!("{here}: {key} is {text}"));
            }
        }
        for (key, _) in selector.entries("matchLabels") {
            if let Some(text) = pod::warnings::old_label(key) {
                out.push(format!("{}: {text}", path.child("matchLabels").child(key)));
            }
        }
        out
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        let capacity = object.text_opt("capacity").unwrap_or(cells::UNSET);
        vec![cells::name(object), json!(object.text("storageClassName")), json!(capacity)]
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}
