//! A claim grows only if its volume can.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/storage/persistentvolume/resize`, v1.36.

use objects::quantity::Quantity;
use objects::{ApiError, ObjectExt};
use serde_json::Value;

use super::Admission;
use crate::encode;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Refuses a larger request of a claim that is not bound, or whose class does not allow it.
pub(super) fn check(
    admission: &Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(old) = old else { return Ok(()) };
    if !admission.is_core("persistentvolumeclaims") || !grows(new, old) {
        return Ok(());
    }
    let refuse = |why: &str| Err(ApiError::forbidden(&admission.call.resource(), new.name(), why));
    if old.str_at(&["status", "phase"]) != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let name = class(new);
    let known = admission.server.store.get(&format!("storage.k8s.io/storageclasses//{name}"));
    let expands = known.is_some_and(|record| {
        encode::parse(&record).bool_at(&["allowVolumeExpansion"]) == Some(true)
    });
    if name.is_empty() || name != class(old) || !expands {
        return refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions \
             the pvc must support resize",
        );
    }
    Ok(())
}

fn grows(new: &Value, old: &Value) -> bool {
    let asked = |claim: &Value| {
        Quantity::parse(claim.str_at(&["spec", "resources", "requests", "storage"])).ok()
    };
    match (asked(new), asked(old)) {
        (Some(new), Some(old)) => new > old,
        (new, None) => new.is_some(),
        (None, Some(_)) => false,
    }
}

fn class(claim: &Value) -> &str {
    let annotated = claim.annotations().and_then(|all| all.get(CLASS_ANNOTATION)?.as_str());
    annotated.unwrap_or_else(|| claim.str_at(&["spec", "storageClassName"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_more_is_growth() {
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert!(grows(&claim("2Gi"), &claim("1Gi")));
        assert!(!grows(&claim("1024Mi"), &claim("1Gi")));
        assert!(!grows(&claim("1Gi"), &claim("2Gi")));
    }

    #[test]
    fn the_annotation_of_the_class_wins() {
        let claim = json!({
            "metadata": {"annotations": {CLASS_ANNOTATION: "old"}},
            "spec": {"storageClassName": "new"},
        });
        assert_eq!(class(&claim), "old");
        assert_eq!(class(&json!({"spec": {"storageClassName": "new"}})), "new");
    }
}
