//! What to do with one object that owns or is owned. PURE, over the views.
//!
//! Source: kubernetes pkg/controller/garbagecollector, v1.36. Different: there is no graph beside
//! the views; they have indexes by owner. That an owner is absent is asked of the server before
//! anything is deleted for it.

use std::sync::Arc;
use std::time::Duration;

use informer::{Action, Object, Partial, PatchType, Propagation, ServedResource, Verb};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use objects::{ObjectKey, Revision};
use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN, has_finalizer, is_foreground};
use crate::controller::Plan;
use crate::everything::{Everything, action};

/// An owner whose kind is not (yet) watched is looked at again after this time.
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);

/// What has become of an owner.
enum Owner {
    /// It is there.
    Solid,
    /// It waits for its dependents to go.
    Waiting,
    /// The views do not have it; this is how the server is asked.
    Absent(Action),
    /// Its kind is not watched, so nothing is known.
    Unknown,
}

pub(super) fn plan(
    everything: &Everything,
    resource: &Arc<ServedResource>,
    object: &Partial,
) -> Plan {
    if object.is_terminating() {
        return release(everything, resource, object);
    }
    collect(everything, resource, object)
}

/// An object that is being deleted: deals with what it owns, then lets go of it.
fn release(everything: &Everything, resource: &Arc<ServedResource>, object: &Partial) -> Plan {
    let dependents = everything.dependents(object.uid());
    if has_finalizer(object.meta(), ORPHAN) {
        let uid = object.uid();
        let mut actions: Vec<Action> = dependents
            .iter()
            .filter_map(|(resource, dependent)| drop_owners(resource, dependent, &[uid]))
            .collect();
        actions.push(remove_finalizer(resource, object, ORPHAN));
        return Plan::of(actions);
    }
    if is_foreground(object.meta()) {
        let blocks = |dependent: &Partial| {
            let owners = dependent.meta().owner_references.iter().flatten();
            let mut own = owners.filter(|owner| owner.uid == object.uid());
            own.any(|owner| owner.block_owner_deletion == Some(true))
        };
        // Those that block go by their own plans, which this object's change has woken.
        if !dependents.iter().any(|(_, dependent)| blocks(dependent)) {
            return Plan::of([remove_finalizer(resource, object, FOREGROUND)]);
        }
    }
    Plan::nothing()
}

/// An object with owners: goes if none of them is there.
fn collect(everything: &Everything, resource: &Arc<ServedResource>, object: &Partial) -> Plan {
    let owners = object.meta().owner_references.as_deref().unwrap_or(&[]);
    let mut plan = Plan::nothing();
    let (mut solid, mut waiting, mut dangling) = (0, Vec::new(), Vec::new());
    let mut checks = Vec::new();
    for owner in owners {
        match look_up(everything, resource, object, owner) {
            Owner::Solid => solid += 1,
            Owner::Waiting => waiting.push(owner.uid.as_str()),
            Owner::Absent(check) => {
                checks.push(check);
                dangling.push(owner.uid.as_str());
            }
            Owner::Unknown => {
                solid += 1;
                plan.again_after(UNKNOWN_WAIT);
            }
        }
    }
    if waiting.is_empty() && dangling.is_empty() {
        return plan;
    }
    plan.steps.extend(checks.into_iter().map(Into::into));
    if solid > 0 {
        // Others keep it: only the references that lead nowhere go.
        let gone: Vec<&str> = dangling.iter().chain(&waiting).copied().collect();
        plan.steps.extend(drop_owners(resource, object, &gone).map(Into::into));
        return plan;
    }
    let has_dependents = || !everything.dependents(object.uid()).is_empty();
    let propagation = if !waiting.is_empty() && has_dependents() {
        // Its owner waits for it, so it waits for its own.
        Propagation::Foreground
    } else if has_finalizer(object.meta(), ORPHAN) {
        Propagation::Orphan
    } else if has_finalizer(object.meta(), FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    let verb = Verb::Delete {
        uid: Some(object.uid().to_string()),
        // Another owner may have come since.
        revision: Some(Revision(object.revision())),
        grace_secs: None,
        propagation: Some(propagation),
    };
    plan.steps.push(action(resource, object.key(), verb).into());
    plan
}

fn look_up(
    everything: &Everything,
    resource: &ServedResource,
    object: &Partial,
    owner: &OwnerReference,
) -> Owner {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = everything.resource_of(group, &owner.kind) else { return Owner::Unknown };
    if kind.namespaced && !resource.namespaced {
        // A cluster-scoped object cannot be owned from within a namespace: nothing is known of
        // such an owner, so nothing is done.
        return Owner::Solid;
    }
    let namespace = if kind.namespaced { object.key().namespace } else { String::new() };
    let key = ObjectKey::new(&namespace, &owner.name);
    let Some(view) = everything.view(&kind.path).filter(|view| view.synced()) else {
        return Owner::Unknown;
    };
    match view.get(&key).filter(|found| found.uid() == owner.uid) {
        // Only dependents that say so keep their owner waiting.
        Some(found) if is_foreground(found.meta()) => Owner::Waiting,
        Some(_) => Owner::Solid,
        None => {
            let verb = Verb::RequireAbsent { uid: owner.uid.clone() };
            Owner::Absent(action(&kind, key, verb))
        }
    }
}

/// Removes the references to these owners.
fn drop_owners(resource: &ServedResource, object: &Partial, uids: &[&str]) -> Option<Action> {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    let before = owners.len();
    owners.retain(|owner| !uids.contains(&owner.uid.as_str()));
    if owners.len() == before {
        return None;
    }
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    Some(patch(resource, object, "ownerReferences", owners))
}

fn remove_finalizer(resource: &ServedResource, object: &Partial, name: &str) -> Action {
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != name);
    let finalizers = if finalizers.is_empty() { Value::Null } else { json!(finalizers) };
    patch(resource, object, "finalizers", finalizers)
}

/// Replaces a list of the metadata, guarded by the version it was made from.
fn patch(resource: &ServedResource, object: &Partial, field: &str, value: Value) -> Action {
    let body = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.meta().resource_version,
        field: value,
    }});
    let verb = Verb::Patch { form: PatchType::Merge, subresource: None, body };
    action(resource, object.key(), verb)
}

#[cfg(test)]
mod tests;
