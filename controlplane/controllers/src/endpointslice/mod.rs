//! EndpointSlices: which addresses stand behind a Service.

pub(crate) mod backends;
mod mirror;
mod plan;
mod slices;

use informer::Object;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::world::{Changed, SERVICE, Versions, World};

/// Label by which a slice says whose it is.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The controller for Services with a selector.
#[derive(Debug)]
pub(crate) struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn component(&self) -> &'static str {
        "endpoint-slice-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Service(versions) => vec![versions.key()],
            Changed::Pod(versions) => services_of(world, versions),
            Changed::EndpointSlice(versions) => service_keys(versions),
            Changed::Node(versions) if has_moved(versions) => {
                world.services.list().iter().map(|service| service.key()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let slices = world.endpoint_slices.by_index(SERVICE, &key.to_string());
        let service = world.services.get(key);
        let zone = |node: &str| zone_of(world, node);
        let pods = service.as_deref().map_or_else(Vec::new, |service| selected(world, service));
        plan::plan(service.as_deref(), &pods, &slices, &zone)
    }
}

/// The controller for Services without a selector whose Endpoints somebody else writes.
#[derive(Debug)]
pub(crate) struct EndpointSliceMirroring;

impl Controller for EndpointSliceMirroring {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn component(&self) -> &'static str {
        "endpoint-slice-mirroring-controller"
    }

    fn wakes(&self, _world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Service(versions) => vec![versions.key()],
            Changed::Endpoints(versions) => vec![versions.key()],
            Changed::EndpointSlice(versions) => service_keys(versions),
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let slices = world.endpoint_slices.by_index(SERVICE, &key.to_string());
        let (service, endpoints) = (world.services.get(key), world.endpoints.get(key));
        mirror::plan(service.as_deref(), endpoints.as_deref(), &slices)
    }
}

/// The pods that a Service selects.
pub(crate) fn selected(world: &World, service: &Service) -> Vec<std::sync::Arc<Pod>> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or("");
    let mut pods = world.pods.list_in(namespace);
    pods.retain(|pod| backends::selects(service, pod));
    pods
}

fn zone_of(world: &World, node: &str) -> Option<String> {
    let node = world.nodes.get(&ObjectKey::new("", node))?;
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

fn has_moved(versions: &Versions<Node>) -> bool {
    let zone =
        |node: &Node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned();
    versions.old.as_deref().and_then(zone) != versions.new.as_deref().and_then(zone)
}

fn service_keys(versions: &Versions<EndpointSlice>) -> Vec<ObjectKey> {
    let key = |slice: &EndpointSlice| {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or("");
        let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        Some(ObjectKey::new(namespace, name))
    };
    versions.both().filter_map(key).collect()
}

/// The Services that select a pod before or after a change, if the change is one that endpoints
/// show.
pub(crate) fn services_of(world: &World, versions: &Versions<Pod>) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&versions.old, &versions.new)
        && backends::looks_alike(old, new)
    {
        return Vec::new();
    }
    let namespace = versions.key().namespace;
    let services = world.services.list_in(&namespace);
    let concerned = |service: &Service| versions.both().any(|pod| backends::selects(service, pod));
    services.iter().filter(|service| concerned(service)).map(|service| service.key()).collect()
}
