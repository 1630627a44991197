//! PriorityClasses.
//!
//! Source of behaviour: kubernetes `pkg/apis/scheduling` and
//! `pkg/registry/scheduling/priorityclass`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, set_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::Read;

/// Names that start so are the system's.
const SYSTEM_PREFIX: &str = "system-";
/// The highest priority of a class that a user makes.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
/// The classes that the system makes, and their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Behaviour of PriorityClasses.
pub(crate) struct PriorityClass;

impl Behaviour for PriorityClass {
    fn default(&self, object: &mut Value) {
        object.default_to("preemptionPolicy", "PreemptLowerPriority");
        object.default_to("value", 0);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (name, value) = (object.name(), object.int("value").unwrap_or(0));
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = system_fault(name, value, object.flag("globalDefault")) {
                let detail = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system \
                     use only. error: {why}"
                );
                errors.forbidden(&FieldPath::new("metadata").child("name"), &detail);
            }
        } else if value > HIGHEST_USER_PRIORITY {
            let detail = format!(
                "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            );
            errors.forbidden(&FieldPath::new("value"), &detail);
        }
        let path = FieldPath::new("preemptionPolicy");
        let supported = ["PreemptLowerPriority", "Never"];
        check::required_one_of(errors, &path, object.text("preemptionPolicy"), &supported);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if new.int("value").unwrap_or(0) != old.int("value").unwrap_or(0) {
            errors.forbidden(&FieldPath::new("value"), "may not be changed in an update.");
        }
        let key = "preemptionPolicy";
        check::immutable(errors, &FieldPath::new(key), new.field(key), old.field(key));
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![
            cells::name(object),
            json!(object.int("value").unwrap_or(0)),
            json!(object.flag("globalDefault")),
            cells::age(object, now),
            json!(object.text("preemptionPolicy")),
        ]
    }
}

/// What keeps a class from being one of the system's.
fn system_fault(name: &str, value: i64, global_default: bool) -> Option<String> {
    let Some((_, wanted)) = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *wanted {
        return Some(format!("value of {name} PriorityClass must be {wanted}"));
    }
    global_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
