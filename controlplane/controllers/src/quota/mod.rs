//! ResourceQuotas: counts what a namespace uses when a quota is new or something went away. What
//! is added is charged by the API server as it is written.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use informer::Object;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::pods;
use crate::world::{Changed, Versions, World};

use plan::Counted;

/// Everything is counted again after this time, for what changes without going away; upstream's.
const RECOUNT: Duration = Duration::from_secs(300);

/// Longer than any view is behind the others.
const LAG: Duration = Duration::from_secs(1);

/// The controller.
#[derive(Debug)]
pub(crate) struct ResourceQuotas;

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resourcequota"
    }

    fn component(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        let namespace = match changed {
            Changed::ResourceQuota(versions) => return own(versions),
            // A pod that has finished gives back what it held.
            Changed::Pod(versions) => match (&versions.old, &versions.new) {
                (Some(old), Some(new)) if !pods::is_finished(old) && pods::is_finished(new) => {
                    versions.key().namespace
                }
                _ => return Vec::new(),
            },
            Changed::Service(versions) if is_change(versions) => versions.key().namespace,
            Changed::PersistentVolumeClaim(versions) if is_change(versions) => {
                versions.key().namespace
            }
            Changed::Any(change) if change.versions.new.is_none() => {
                change.versions.key().namespace
            }
            _ => return Vec::new(),
        };
        world.quotas.list_in(&namespace).iter().map(|quota| quota.key()).collect()
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let Some(quota) = world.quotas.get(key) else { return Plan::nothing() };
        let pods = world.pods.list_in(&key.namespace);
        let services = world.services.list_in(&key.namespace);
        let claims = world.claims.list_in(&key.namespace);
        let mut counted: Vec<Counted> = Vec::new();
        counted.extend(pods.iter().map(|pod| full::<Pod>("pods", pod)));
        counted.extend(services.iter().map(|one| full::<Service>("services", one)));
        let claims = claims.iter();
        counted
            .extend(claims.map(|one| full::<PersistentVolumeClaim>("persistentvolumeclaims", one)));
        for (resource, object) in world.everything.contents(&key.namespace) {
            let path = &resource.path;
            let in_full = path.group.is_empty()
                && matches!(&*path.plural, "pods" | "services" | "persistentvolumeclaims");
            // Of all others only the number counts.
            if !in_full && object.meta().namespace.is_some() {
                counted.push(Counted::one(&path.group, &path.plural));
            }
        }
        let mut plan = plan::plan(&quota, &counted);
        // The views of other kinds may be behind the quota's own.
        plan.again_after(if plan.steps.is_empty() { RECOUNT } else { LAG });
        plan
    }
}

/// A quota is counted when it is new or asks for something else, not when the API server charges it.
fn own(versions: &Versions<ResourceQuota>) -> Vec<ObjectKey> {
    let asks = |quota: &ResourceQuota| quota.spec.clone();
    let counts = match (&versions.old, &versions.new) {
        (Some(old), Some(new)) => {
            let hard = |quota: &ResourceQuota| quota.status.as_ref().and_then(|s| s.hard.clone());
            asks(old) != asks(new) || hard(old) != hard(new)
        }
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if counts { vec![versions.key()] } else { Vec::new() }
}

fn is_change<K: Object>(versions: &Versions<K>) -> bool {
    versions.old.is_some() && versions.new.is_some()
}

fn full<K: serde::Serialize>(plural: &str, object: &Arc<K>) -> Counted {
    let object = serde_json::to_value(&**object).expect("API types serialise to JSON");
    Counted::full("", plural, object)
}
