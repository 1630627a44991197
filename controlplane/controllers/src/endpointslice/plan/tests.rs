use informer::Verb;
use serde_json::{Value, json};

use super::*;

fn service(more: Value) -> Service {
    let mut spec = json!({
        "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let meta = json!({"name": "web", "namespace": "a", "uid": "s1", "labels": {"team": "x"}});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn pod(name: &str, ip: &str, ready: bool, more: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    for (path, new) in more.as_object().unwrap() {
        *value.pointer_mut(path).unwrap() = new.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn written(service: &Service, pods: &[Arc<Pod>]) -> Vec<Value> {
    let zone = |node: &str| (node == "n1").then(|| "z1".to_string());
    let plan = plan(Some(service), pods, &[], &zone);
    let object = |step: crate::controller::Step| match step.action.verb {
        Verb::Create(object) => object,
        other => panic!("unexpected {other:?}"),
    };
    plan.steps.into_iter().map(object).collect()
}

#[test]
fn a_slice_holds_pods_with_conditions_ports_and_place() {
    let pods = [
        pod("p1", "10.0.0.1", true, json!({})),
        pod("p2", "10.0.0.2", false, json!({})),
        pod("p3", "10.0.0.3", true, json!({"/status/phase": "Failed"})),
        pod("p4", "", true, json!({"/status/podIPs": []})),
    ];
    let slices = written(&service(json!({})), &pods);
    assert_eq!(slices.len(), 1);
    let slice = &slices[0];
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["metadata"]["generateName"], "web-");
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "x", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let endpoints = slice["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2);
    assert_eq!(endpoints[0]["addresses"], json!(["10.0.0.1"]));
    assert_eq!(
        endpoints[0]["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );
    assert_eq!((&endpoints[0]["nodeName"], &endpoints[0]["zone"]), (&json!("n1"), &json!("z1")));
    assert_eq!(endpoints[0]["targetRef"]["name"], "p1");
    assert_eq!(
        endpoints[1]["conditions"],
        json!({"ready": false, "serving": false, "terminating": false})
    );
}

#[test]
fn a_terminating_pod_serves_but_is_not_ready() {
    let mut going = (*pod("p", "10.0.0.1", true, json!({}))).clone();
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let going = [Arc::new(going)];
    let conditions =
        |more: Value| written(&service(more), &going)[0]["endpoints"][0]["conditions"].clone();
    let wanted = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(conditions(json!({})), wanted);
    let wanted = json!({"ready": true, "serving": true, "terminating": true});
    assert_eq!(conditions(json!({"publishNotReadyAddresses": true})), wanted);
}

#[test]
fn dual_stack_makes_a_slice_per_family() {
    let ips = json!({"/status/podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
    let pods = [pod("p", "10.0.0.1", true, ips)];
    let slices = written(&service(json!({"ipFamilies": ["IPv6", "IPv4"]})), &pods);
    let of = |at: usize| {
        (slices[at]["addressType"].clone(), slices[at]["endpoints"][0]["addresses"].clone())
    };
    assert_eq!(of(0), (json!("IPv6"), json!(["fd00::1"])));
    assert_eq!(of(1), (json!("IPv4"), json!(["10.0.0.1"])));
}

#[test]
fn named_ports_that_differ_make_slices_that_differ() {
    let other = json!({"/spec/containers/0/ports/0/containerPort": 9090});
    let pods = [pod("p1", "10.0.0.1", true, json!({})), pod("p2", "10.0.0.2", true, other)];
    let slices = written(&service(json!({})), &pods);
    let ports: Vec<_> = slices.iter().map(|slice| slice["ports"][0]["port"].clone()).collect();
    assert_eq!(ports, [json!(8080), json!(9090)]);
}

#[test]
fn headless_services_are_labelled_and_name_their_pods() {
    let mut named = (*pod("p", "10.0.0.1", true, json!({}))).clone();
    let spec = named.spec.as_mut().unwrap();
    spec.hostname = Some("web-0".into());
    spec.subdomain = Some("web".into());
    let slices = written(&service(json!({"clusterIP": "None"})), &[Arc::new(named)]);
    assert_eq!(slices[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(slices[0]["endpoints"][0]["hostname"], "web-0");
}

#[test]
fn short_ways_are_hinted_at() {
    let pods = [pod("p", "10.0.0.1", true, json!({}))];
    let hints = |wish: &str| {
        written(&service(json!({"trafficDistribution": wish})), &pods)[0]["endpoints"][0]["hints"]
            .clone()
    };
    assert_eq!(hints("PreferClose"), json!({"forZones": [{"name": "z1"}]}));
    let both = json!({"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]});
    assert_eq!(hints("PreferSameNode"), both);
}

#[test]
fn services_without_selector_are_left_alone_and_gone_ones_cleaned_up() {
    let none = |_: &str| None;
    assert_eq!(plan(Some(&service(json!({"selector": null}))), &[], &[], &none), Plan::nothing());
    let external = service(json!({"type": "ExternalName"}));
    assert_eq!(plan(Some(&external), &[], &[], &none), Plan::nothing());

    let slice = |name: &str, manager: &str| {
        let value = json!({"metadata": {"name": name, "namespace": "a", "uid": name,
            "labels": {MANAGED_BY: manager}}, "addressType": "IPv4", "endpoints": []});
        Arc::new(serde_json::from_value::<EndpointSlice>(value).unwrap())
    };
    let plan = plan(None, &[], &[slice("ours", US), slice("theirs", "x")], &none);
    let deleted: Vec<_> = plan.steps.iter().map(|step| step.action.key.name.as_str()).collect();
    assert_eq!(deleted, ["ours"]);
}
