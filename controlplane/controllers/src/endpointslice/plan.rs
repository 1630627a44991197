//! The slices that a Service with a selector should have. PURE.

use std::collections::BTreeMap;
use std::sync::Arc;

use informer::Object;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::SERVICE_NAME;
use super::backends::{self, Family};
use super::slices::{Group, reconcile};
use crate::controller::Plan;
use crate::owner::controller_reference;

/// Label by which a slice says who manages it.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
/// Label of slices (and Endpoints) of headless Services.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// The zone of a node, by its name.
pub(super) type Zone<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn plan(
    service: Option<&Service>,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: Zone<'_>,
) -> Plan {
    let ours: Vec<_> = slices.iter().filter(|slice| is_managed_by(slice, US)).cloned().collect();
    let Some(service) = service else {
        // The garbage collector would do it too; this is faster.
        return Plan::of(reconcile(&ObjectMeta::default(), Vec::new(), &ours));
    };
    let spec = service.spec.as_ref();
    let has_selector =
        spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    if service.is_terminating() || !has_selector || is_external {
        return Plan::nothing();
    }
    let groups = backends::families(service)
        .into_iter()
        .flat_map(|family| groups(service, pods, family, zone))
        .collect();
    Plan::of(reconcile(&template(service, US), groups, &ours))
}

pub(super) fn is_managed_by(slice: &EndpointSlice, manager: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) == Some(manager)
}

/// What all slices of a Service share.
pub(super) fn template(service: &Service, manager: &str) -> ObjectMeta {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    let name = service.key().name;
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), manager.into());
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![controller_reference(service)]),
        ..ObjectMeta::default()
    }
}

/// The endpoints of one family, by the ports they have in common; at least one group.
fn groups(service: &Service, pods: &[Arc<Pod>], family: Family, zone: Zone<'_>) -> Vec<Group> {
    // Ports have no order of their own; their JSON has.
    let mut by_ports: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| backends::is_backend(pod)) {
        let Some(endpoint) = endpoint(service, pod, family, zone) else { continue };
        let ports = backends::ports(service, pod);
        let key = serde_json::to_string(&ports).expect("API types serialise to JSON");
        by_ports.entry(key).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    if by_ports.is_empty() {
        by_ports.insert(String::new(), (Vec::new(), Vec::new()));
    }
    by_ports
        .into_values()
        .map(|(ports, endpoints)| Group {
            address_type: family.as_str().to_string(),
            ports,
            endpoints,
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod, family: Family, zone: Zone<'_>) -> Option<Endpoint> {
    let addresses = backends::addresses(pod, family);
    let first = addresses.into_iter().next()?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node.filter(|node| !node.is_empty());
    let zone = node.as_deref().and_then(zone);
    let conditions = backends::conditions(service, pod);
    let hints = conditions
        .ready
        .unwrap_or(false)
        .then(|| hints(service, node.as_deref(), zone.as_deref()))
        .flatten();
    Some(Endpoint {
        // Consumers only look at the first address.
        addresses: vec![first],
        conditions: Some(conditions),
        hostname: backends::hostname(service, pod),
        node_name: node,
        target_ref: Some(backends::target(pod)),
        zone,
        hints,
        deprecated_topology: None,
    })
}

/// Where a Service that wants short ways wants an endpoint to be used from.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let wish = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_string() }]);
    match wish {
        "PreferClose" | "PreferSameZone" => {
            for_zones.map(|zones| EndpointHints { for_zones: Some(zones), for_nodes: None })
        }
        "PreferSameNode" => {
            let for_nodes = node.map(|node| vec![ForNode { name: node.to_string() }]);
            Some(EndpointHints { for_zones, for_nodes })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
