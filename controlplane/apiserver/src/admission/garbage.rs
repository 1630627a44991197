//! What deletes do to dependents, and what they answer.

use crate::call::Call;
use crate::options::{DeleteOptions, Propagation};

/// Kinds whose delete answers with the object that was deleted.
///
/// Source: `ReturnDeletedObject` in kubernetes `pkg/registry`, v1.36.
const SHOWN: [(&str, &str); 15] = [
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
];

/// Whether a delete answers with the deleted object.
pub(super) fn shows_deleted(call: &Call) -> bool {
    let names = &call.kind.names;
    SHOWN.contains(&(names.group.as_str(), names.plural.as_str()))
}

/// Jobs keep their pods unless something else is asked for, with a warning, and ReplicationControllers
/// without one; upstream kept the behaviour of the kinds' first versions.
pub(super) fn deletion_defaults(
    call: &Call,
    mut options: DeleteOptions,
    warnings: &mut Vec<String>,
) -> DeleteOptions {
    let names = &call.kind.names;
    let job = names.group == "batch" && names.plural == "jobs";
    let controller = names.group.is_empty() && names.plural == "replicationcontrollers";
    if controller && options.propagation.is_none() {
        options.propagation = Some(Propagation::Orphan);
    }
    if job && options.propagation.is_none() {
        options.propagation = Some(Propagation::Orphan);
        warnings.push(
            "child pods are preserved by default when jobs are deleted; set \
             propagationPolicy=Background to remove them or set propagationPolicy=Orphan to \
             suppress this warning"
                .into(),
        );
    }
    options
}
