//! Namespaces: nothing is created in one that is missing or going, some never go, and a going one
//! stays until its content is gone.
//!
//! Source of behaviour: kubernetes apiserver `plugin/namespace/lifecycle` and
//! `pkg/registry/core/namespace/storage`, v1.36.

use objects::{ApiError, GroupResource, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use crate::call::Call;
use crate::encode;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

fn is_namespace(call: &Call) -> bool {
    call.kind.names.group.is_empty() && call.kind.names.plural == "namespaces"
}

/// Refuses creation in a namespace that is missing or being deleted.
pub(super) fn must_take(admission: &Admission<'_>, new: &Value) -> Result<(), ApiError> {
    let call = admission.call;
    if !call.kind.namespaced() {
        return Ok(());
    }
    let namespace = call.namespace();
    let Some(record) = admission.server.store.get(&format!("/namespaces//{namespace}")) else {
        return Err(ApiError::not_found(&GroupResource::new("", "namespaces"), namespace));
    };
    let object = encode::parse(&record);
    if object.deletion_timestamp().is_empty() {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut error = ApiError::forbidden(&call.resource(), new.name(), &why);
    if let Some(details) = &mut error.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
    }
    Err(error)
}

/// Refuses deletion of the namespaces that every cluster has.
pub(super) fn may_delete(admission: &Admission<'_>, object: &Value) -> Result<(), ApiError> {
    let call = admission.call;
    if is_namespace(call) && IMMORTAL.contains(&object.name()) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden(&call.resource(), object.name(), why));
    }
    Ok(())
}

/// A namespace stays while `spec.finalizers` is not empty.
pub(super) fn holds_deletion(call: &Call, object: &Value) -> bool {
    is_namespace(call) && !object.list_at(&["spec", "finalizers"]).is_empty()
}

/// A namespace being deleted has a phase for it, and no grace period.
pub(super) fn mark_deletion(call: &Call, object: &mut Value) -> bool {
    if !holds_deletion(call, object) {
        return false;
    }
    if object.deletion_timestamp().is_empty() {
        let now = objects::time::format_time(call.now);
        object.set_at(&["metadata", "deletionTimestamp"], json!(now));
    }
    object.set_at(&["status", "phase"], json!("Terminating"));
    true
}
