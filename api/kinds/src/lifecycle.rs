//! What most kinds with a spec and a status do on writes.

use objects::ObjectExt;
use serde_json::{Value, json};

use crate::edit::{restore, restore_meta_for_status, set_generation, step_generation};
use crate::read::{part, same};

/// A new object starts with this status and generation 1.
pub(crate) fn create(object: &mut Value, status: Value) {
    object.set_at(&["status"], status);
    set_generation(object, 1);
}

/// How an update is made to keep to its part of the object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Split {
    /// Through the object itself: the status stays; the generation goes up with the spec.
    Spec,
    /// Through `status`: the spec stays, metadata may change.
    Status,
    /// Through `status`: the spec stays, and metadata but for annotations' owner, the API server.
    StatusOnly,
}

/// Applies a split for subresource `status` or the main resource; `strict` keeps metadata from
/// being changed through `status`.
pub(crate) fn update(new: &mut Value, old: &Value, subresource: &str, strict: bool) {
    let split = match (subresource, strict) {
        ("status", true) => Split::StatusOnly,
        ("status", false) => Split::Status,
        _ => Split::Spec,
    };
    apply(new, old, split);
}

/// Applies a split.
pub(crate) fn apply(new: &mut Value, old: &Value, split: Split) {
    match split {
        Split::Spec => {
            restore(new, old, &["status"]);
            step_generation(new, old, spec_changed(new, old));
        }
        Split::Status => {
            restore(new, old, &["spec"]);
            step_generation(new, old, false);
        }
        Split::StatusOnly => {
            restore(new, old, &["spec"]);
            restore_meta_for_status(new, old);
        }
    }
}

/// Whether the wanted state differs.
pub(crate) fn spec_changed(new: &Value, old: &Value) -> bool {
    !same(part(new, &["spec"]), part(old, &["spec"]))
}

/// For kinds whose generation counts, without a spec and status: it goes up with any change
/// outside metadata.
pub(crate) fn update_whole(new: &mut Value, old: &Value) {
    let rest = |object: &Value| {
        let mut rest = object.clone();
        for key in ["metadata", "apiVersion", "kind"] {
            rest.remove_at(&[key]);
        }
        rest
    };
    let changed = !same(&rest(new), &rest(old));
    step_generation(new, old, changed);
}

/// `status: {}` where there is none, as Go prints an empty struct.
pub(crate) fn default_status(object: &mut Value) {
    if object.get("status").is_none_or(Value::is_null) {
        object.set_at(&["status"], json!({}));
    }
}
