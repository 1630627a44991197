//! Endpoints: the older form of EndpointSlices, kept for those who still read it.

mod plan;

use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::endpointslice::{selected, services_of};
use crate::world::{Changed, World};

/// The controller.
#[derive(Debug)]
pub(crate) struct EndpointsOfServices;

impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn component(&self) -> &'static str {
        "endpoint-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Service(versions) => vec![versions.key()],
            Changed::Endpoints(versions) => vec![versions.key()],
            Changed::Pod(versions) => services_of(world, versions),
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let (service, endpoints) = (world.services.get(key), world.endpoints.get(key));
        let pods = service.as_deref().map_or_else(Vec::new, |service| selected(world, service));
        plan::plan(service.as_deref(), &pods, endpoints.as_deref())
    }
}
