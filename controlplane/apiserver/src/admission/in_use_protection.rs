//! Volumes and claims are kept while they are in use: a finalizer from the beginning, which a
//! controller takes away.

use objects::ObjectExt;
use serde_json::{Value, json};

use super::Admission;

/// Adds the finalizer.
pub(super) fn mutate(admission: &Admission<'_>, new: &mut Value) {
    let finalizer = if admission.is_core("persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if admission.is_core("persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if admission.is("volumeattributesclasses", "storage.k8s.io") {
        "kubernetes.io/vac-protection"
    } else {
        return;
    };
    let mut list: Vec<Value> = new.list_at(&["metadata", "finalizers"]).to_vec();
    if !list.iter().any(|item| item == finalizer) {
        list.push(json!(finalizer));
        new.set_at(&["metadata", "finalizers"], Value::Array(list));
    }
}
