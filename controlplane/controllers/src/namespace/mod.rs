//! Namespaces that are being deleted: empties them, then lets them go.

mod plan;

use informer::Object;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::world::{Changed, World};

/// The controller.
#[derive(Debug)]
pub(crate) struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn component(&self) -> &'static str {
        "namespace-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Namespace(versions) => vec![versions.key()],
            // What leaves a namespace may have been the last thing in it.
            Changed::Any(change) if change.versions.new.is_none() => {
                let key = ObjectKey::new("", &change.versions.key().namespace);
                let is_going = world.namespaces.get(&key).is_some_and(|ns| ns.is_terminating());
                if is_going { vec![key] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(namespace) = world.namespaces.get(key) else { return Plan::nothing() };
        if !namespace.is_terminating() {
            return Plan::nothing();
        }
        let seen = plan::Seen {
            contents: world.everything.contents(&key.name),
            resources: world.everything.namespaced(),
            synced: world.everything.synced(),
        };
        plan::plan(&namespace, &seen, context)
    }
}
