//! ControllerRevisions.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, facts};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::Read;

/// Behaviour of ControllerRevisions.
pub(crate) struct ControllerRevision;

impl Behaviour for ControllerRevision {
    fn default(&self, object: &mut Value) {
        object.default_to("revision", 0);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_revision(object, errors);
        let path = FieldPath::new("data");
        match object.field("data") {
            None => errors.required(&path, "data is mandatory"),
            Some(data) if !data.is_object() => {
                errors.required(&path, "data must be a valid JSON object");
            }
            Some(_) => {}
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        check_revision(new, errors);
        check::immutable(errors, &FieldPath::new("data"), new.field("data"), old.field("data"));
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let controller = facts::controller_of(object).map_or_else(
            || cells::NONE.to_string(),
            |owner| {
                let kind = owner.text("kind").to_lowercase();
                let group = owner.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
                let dot = if group.is_empty() { "" } else { "." };
                format!("{kind}{dot}{group}/{}", owner.text("name"))
            },
        );
        vec![
            cells::name(object),
            json!(controller),
            cells::number(object, &["revision"]),
            cells::age(object, now),
        ]
    }
}

fn check_revision(object: &Value, errors: &mut FieldErrors) {
    let revision = object.i64_at(&["revision"]).unwrap_or(0);
    check::nonnegative(errors, &FieldPath::new("revision"), revision);
}
