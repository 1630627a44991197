//! The Endpoints that a Service with a selector should have. PURE.
//!
//! Source: kubernetes pkg/controller/endpoint and pkg/api/v1/endpoints (repacking), v1.36.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use informer::{Action, Object};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::Plan;
use crate::endpointslice::backends::{self, Family};
use crate::pods;

/// Label by which Endpoints say that they are made here.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const US: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation of Endpoints that had to be cut.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Annotation by which upstream measures latency; kept off comparisons.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Most addresses.
const ADDRESSES_MAX: usize = 1000;

pub(super) fn plan(
    service: Option<&Service>,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
) -> Plan {
    let Some(service) = service else { return clean_up(existing) };
    let spec = service.spec.as_ref();
    let has_selector =
        spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    if service.is_terminating() || !has_selector || is_external {
        return Plan::nothing();
    }
    let (subsets, cut) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), US.into());
    let mut annotations = BTreeMap::new();
    if cut {
        annotations.insert(OVER_CAPACITY.to_string(), "truncated".to_string());
    }
    let wanted = Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    };
    let Some(existing) = existing else { return Plan::of([Action::create(&wanted)]) };
    let mut known = existing.metadata.annotations.clone().unwrap_or_default();
    known.remove(TRIGGER_TIME);
    let known = (!known.is_empty()).then_some(known);
    let same_subsets =
        existing.subsets.as_deref().unwrap_or(&[]) == wanted.subsets.as_deref().unwrap_or(&[]);
    if same_subsets
        && existing.metadata.labels == wanted.metadata.labels
        && known == wanted.metadata.annotations
    {
        return Plan::nothing();
    }
    let mut changed = existing.clone();
    changed.metadata.labels = wanted.metadata.labels;
    changed.metadata.annotations = wanted.metadata.annotations;
    changed.subsets = wanted.subsets;
    Plan::of([Action::update(&changed)])
}

/// Endpoints of a Service that is gone, if they were made here: others may be anything.
fn clean_up(existing: Option<&Endpoints>) -> Plan {
    let ours = existing.filter(|endpoints| {
        let labels = endpoints.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) == Some(US)
    });
    let delete = |one: &Endpoints| Action::delete::<Endpoints>(one.key(), one.uid());
    Plan::of(ours.map(delete))
}

type Address = (String, bool);

/// Addresses grouped by the ports they share, and whether some had to be left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let family = backends::families(service).first().copied().unwrap_or(Family::V4);
    let publish = backends::publishes_not_ready(service);
    // By port, the addresses (with readiness) that serve it.
    let mut by_address: BTreeMap<Address, (EndpointAddress, BTreeSet<String>)> = BTreeMap::new();
    let candidates = pods.iter().filter(|pod| {
        backends::is_backend(pod) && (publish || pod.metadata.deletion_timestamp.is_none())
    });
    for pod in candidates {
        let Some(ip) = backends::addresses(pod, family).into_iter().next() else { continue };
        let ready = publish || pods::is_ready(pod);
        let address = EndpointAddress {
            ip: ip.clone(),
            hostname: backends::hostname(service, pod),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(backends::target(pod)),
        };
        let ports = backends::ports(service, pod).into_iter().map(|port| EndpointPort {
            name: port.name.filter(|name| !name.is_empty()),
            port: port.port.unwrap_or(0),
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        });
        let text =
            |port: EndpointPort| serde_json::to_string(&port).expect("API types serialise to JSON");
        let ports: BTreeSet<String> = ports.map(text).collect();
        let is_headless_without_ports = ports.is_empty() && backends::is_headless(service);
        if !ports.is_empty() || is_headless_without_ports {
            by_address.insert((ip, ready), (address, ports));
        }
    }
    let cut = by_address.len() > ADDRESSES_MAX;
    // Ready ones first, should there be too many.
    let mut all: Vec<_> = by_address.into_iter().collect();
    all.sort_by_key(|((_, ready), _)| !ready);
    all.truncate(ADDRESSES_MAX);
    let mut subsets: BTreeMap<BTreeSet<String>, EndpointSubset> = BTreeMap::new();
    for ((_, ready), (address, ports)) in all {
        let subset = subsets.entry(ports.clone()).or_insert_with(|| {
            let read = |text: &String| serde_json::from_str(text).expect("written above");
            let ports: Vec<EndpointPort> = ports.iter().map(read).collect();
            EndpointSubset {
                ports: (!ports.is_empty()).then_some(ports),
                ..EndpointSubset::default()
            }
        });
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    (subsets.into_values().collect(), cut)
}

#[cfg(test)]
mod tests {
    use informer::Verb;
    use serde_json::{Value, json};

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "s1"},
            "spec": {"clusterIP": "10.96.0.7", "selector": {"app": "web"},
                "ports": [{"name": "b", "port": 81}, {"name": "a", "port": 80, "targetPort": 8080}]},
        }))
        .unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn object(plan: &Plan) -> Value {
        match &plan.steps[0].action.verb {
            Verb::Create(object) | Verb::Update(object) => object.clone(),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn ready_and_unready_share_a_subset() {
        let pods = [pod("p2", "10.0.0.2", true), pod("p1", "10.0.0.1", false)];
        let plan = plan(Some(&service()), &pods, None);
        let object = object(&plan);
        let subsets = object["subsets"].as_array().unwrap();
        assert_eq!(subsets.len(), 1);
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.0.0.2");
        assert_eq!(subsets[0]["notReadyAddresses"][0]["targetRef"]["name"], "p1");
        let ports: Vec<_> =
            subsets[0]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
        assert_eq!(ports, [&json!(8080), &json!(81)]);
        assert_eq!(object["metadata"]["labels"][MANAGED_BY], US);
    }

    #[test]
    fn the_same_endpoints_need_no_write() {
        let pods = [pod("p1", "10.0.0.1", true)];
        let first = object(&plan(Some(&service()), &pods, None));
        let mut known: Endpoints = serde_json::from_value(first).unwrap();
        assert_eq!(plan(Some(&service()), &pods, Some(&known)), Plan::nothing());
        known.subsets = None;
        assert_eq!(
            plan(Some(&service()), &pods, Some(&known)).steps[0].action.verb_name(),
            "update"
        );
    }

    #[test]
    fn only_what_was_made_here_is_cleaned_up() {
        let mut endpoints = Endpoints::default();
        endpoints.metadata.name = Some("lock".into());
        assert_eq!(plan(None, &[], Some(&endpoints)), Plan::nothing());
        endpoints.metadata.labels = Some([(MANAGED_BY.to_string(), US.to_string())].into());
        assert_eq!(plan(None, &[], Some(&endpoints)).steps[0].action.verb_name(), "delete");
    }
}
