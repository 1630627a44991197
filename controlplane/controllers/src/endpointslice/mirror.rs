//! Slices that mirror Endpoints which somebody writes by hand for a Service without a selector.
//! PURE.
//!
//! Source: kubernetes pkg/controller/endpointslicemirroring, v1.36.

use std::sync::Arc;

use informer::Object;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::SERVICE_NAME;
use super::backends::Family;
use super::plan::{MANAGED_BY, is_managed_by};
use super::slices::{Group, reconcile};
use crate::controller::Plan;
use crate::owner::controller_reference;

const US: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints that are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that serve as a lock, not as endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Most addresses of a subset that are mirrored.
const ADDRESSES_MAX: usize = 1000;

pub(super) fn plan(
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    let ours: Vec<_> = slices.iter().filter(|slice| is_managed_by(slice, US)).cloned().collect();
    let has_selector = service
        .and_then(|service| service.spec.as_ref())
        .and_then(|spec| spec.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty());
    let mirrored = endpoints
        .filter(|endpoints| service.is_some() && !has_selector && is_to_be_mirrored(endpoints));
    let Some(endpoints) = mirrored else {
        return Plan::of(reconcile(&ObjectMeta::default(), Vec::new(), &ours));
    };
    let subsets = endpoints.subsets.iter().flatten();
    let groups = subsets
        .flat_map(|subset| [Family::V4, Family::V6].map(|family| group(subset, family)))
        .filter(|group| !group.endpoints.is_empty())
        .collect();
    Plan::of(reconcile(&template(endpoints), groups, &ours))
}

fn is_to_be_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let is_lock = meta.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    skip.map(String::as_str) != Some("true") && !is_lock && !endpoints.is_terminating()
}

fn template(endpoints: &Endpoints) -> ObjectMeta {
    let name = endpoints.key().name;
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), US.into());
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![controller_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

fn group(subset: &EndpointSubset, family: Family) -> Group {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    let of = |addresses: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
        let addresses = addresses.iter().flatten();
        let addresses = addresses.filter(|address| Family::of(&address.ip) == Some(family));
        addresses.map(|address| endpoint(address, ready)).collect()
    };
    let mut endpoints = of(&subset.addresses, true);
    endpoints.extend(of(&subset.not_ready_addresses, false));
    endpoints.truncate(ADDRESSES_MAX);
    Group { address_type: family.as_str().to_string(), ports: ports.collect(), endpoints }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use informer::Verb;
    use serde_json::{Value, json};

    use super::*;

    fn service(selector: Value) -> Service {
        let value =
            json!({"metadata": {"name": "db", "namespace": "a"}, "spec": {"selector": selector}});
        serde_json::from_value(value).unwrap()
    }

    fn endpoints(labels: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "a", "uid": "e1", "labels": labels},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}],
                "ports": [{"name": "sql", "port": 5432}]}],
        }))
        .unwrap()
    }

    #[test]
    fn hand_made_endpoints_are_mirrored_by_family() {
        let plan = plan(Some(&service(json!(null))), Some(&endpoints(json!({}))), &[]);
        let object = |step: &crate::controller::Step| match &step.action.verb {
            Verb::Create(object) => (
                object["addressType"].as_str().unwrap().to_string(),
                object["endpoints"].as_array().unwrap().len(),
            ),
            other => panic!("unexpected {other:?}"),
        };
        let slices: Vec<_> = plan.steps.iter().map(object).collect();
        assert_eq!(slices, [("IPv4".to_string(), 2), ("IPv6".to_string(), 1)]);
    }

    #[test]
    fn others_are_not() {
        let (with, without) = (service(json!({"app": "db"})), service(json!(null)));
        assert_eq!(plan(Some(&with), Some(&endpoints(json!({}))), &[]), Plan::nothing());
        let skipped = endpoints(json!({SKIP: "true"}));
        assert_eq!(plan(Some(&without), Some(&skipped), &[]), Plan::nothing());
        assert_eq!(plan(None, Some(&endpoints(json!({}))), &[]), Plan::nothing());
    }
}
