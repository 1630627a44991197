//! CSINodes.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod::check_csi_driver_name;
use crate::read::{Read, part, same};

/// Longest id of a node, in bytes.
const MAX_NODE_ID_BYTES: usize = 256;

/// Behaviour of CSINodes.
pub(crate) struct CSINode;

impl Behaviour for CSINode {
    fn default(&self, object: &mut Value) {
        object.map_mut("spec").default_to("drivers", Value::Null);
        for driver in object["spec"].items_mut("drivers") {
            driver.default_to("topologyKeys", Value::Null);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let drivers = object.list_at(&["spec", "drivers"]);
        let path = FieldPath::new("spec").child("drivers");
        for (index, driver) in drivers.iter().enumerate() {
            check_driver(driver, &drivers[..index], &path.index(index), errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        self.validate(new, errors);
        let fixed = |driver: &Value| {
            let mut fixed = driver.clone();
            fixed.drop_field("allocatable");
            fixed
        };
        for before in old.list_at(&["spec", "drivers"]) {
            for after in new.list_at(&["spec", "drivers"]) {
                let renewed = before.text("name") == after.text("name");
                if renewed && !same(&fixed(before), &fixed(after)) {
                    let path = FieldPath::new("spec").child("drivers");
                    errors.invalid_printed(&path, printed(after), "field is immutable");
                }
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let drivers = object.list_at(&["spec", "drivers"]).len();
        vec![cells::name(object), json!(drivers), cells::age(object, now)]
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn check_driver(driver: &Value, earlier: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    let name = driver.text("name");
    check_csi_driver_name(name, &path.child("name"), errors);
    check::required(errors, driver, path, "nodeID");
    let id = driver.text("nodeID");
    if id.len() > MAX_NODE_ID_BYTES {
        let detail = format!("must be {MAX_NODE_ID_BYTES} characters or less");
        errors.invalid_str(&path.child("nodeID"), id, &detail);
    }
    if let Some(count) = part(driver, &["allocatable"]).int("count") {
        check::nonnegative(errors, &path.child("allocatable").child("count"), count);
    }
    if earlier.iter().any(|other| other.text("name") == name) {
        errors.duplicate(&path.child("name"), &json!(name));
    }
    let keys = driver.texts("topologyKeys");
    for (index, key) in keys.iter().enumerate() {
        if key.is_empty() {
            errors.required(path, "");
        }
        if keys[..index].contains(key) {
            errors.duplicate(path, &json!(key));
        }
        check::qualified_name(errors, path, key);
    }
}

/// A driver as a real API server prints it, without what may change.
fn printed(driver: &Value) -> String {
    format!(
        "{{\"Name\":{},\"NodeID\":{},\"TopologyKeys\":{},\"Allocatable\":null}}",
        json!(driver.text("name")),
        json!(driver.text("nodeID")),
        part(driver, &["topologyKeys"])
    )
}
