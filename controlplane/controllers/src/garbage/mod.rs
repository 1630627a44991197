//! The garbage collector: what is owned goes after (or before) its owners.

mod plan;

use informer::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::everything::AnyChange;
use crate::world::{Changed, World};

/// Finalizer of an object whose dependents go before it.
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents stay.
const ORPHAN: &str = "orphan";

/// The controller. Its keys are uids (with an empty namespace): an owner is named by its uid, and
/// one name may stand for another object a moment later.
#[derive(Debug)]
pub(crate) struct Garbage;

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn component(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        let Changed::Any(change) = changed else { return Vec::new() };
        let mut uids = woken(change);
        let object = change.versions.current();
        let is_gone = change.versions.new.is_none();
        let waits_for_dependents =
            change.versions.new.as_ref().is_some_and(|new| is_foreground(new.meta()));
        if is_gone || waits_for_dependents {
            let dependents = world.everything.dependents(object.uid());
            uids.extend(dependents.iter().map(|(_, dependent)| dependent.uid().to_string()));
        }
        uids.iter().map(|uid| ObjectKey::new("", uid)).collect()
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let Some((resource, object)) = world.everything.find(&key.name) else {
            return Plan::nothing();
        };
        plan::plan(&world.everything, &resource, &object)
    }

    fn workers(&self) -> usize {
        // Upstream's 20: most plans wait for a write.
        16
    }
}

/// The uids that a change concerns, without a look at other objects.
fn woken(change: &AnyChange) -> Vec<String> {
    let mut uids = Vec::new();
    if let Some(new) = &change.versions.new {
        let meta = new.meta();
        let has_owners = meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        if has_owners || has_finalizer(meta, FOREGROUND) || has_finalizer(meta, ORPHAN) {
            uids.push(new.uid().to_string());
        }
        return uids;
    }
    // An owner may be waiting for this one to go.
    let owners = change.versions.current().meta().owner_references.iter().flatten();
    uids.extend(owners.map(|owner| owner.uid.clone()));
    uids
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == name)
}

/// Whether the object is being deleted after its dependents.
fn is_foreground(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has_finalizer(meta, FOREGROUND)
}
