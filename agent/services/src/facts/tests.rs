use super::*;

fn service(value: serde_json::Value) -> Option<ServiceFacts> {
    ServiceFacts::of(&serde_json::from_value(value).unwrap())
}

#[test]
fn headless_external_name_and_claimed_services_are_left_alone() {
    let ports = serde_json::json!([{ "port": 80 }]);
    for spec in [
        serde_json::json!({ "spec": { "clusterIP": "None", "ports": ports } }),
        serde_json::json!({ "spec": { "type": "ExternalName", "externalName": "a.example" } }),
        serde_json::json!({ "spec": { "clusterIP": "", "ports": ports } }),
        serde_json::json!({
            "metadata": { "labels": { "service.kubernetes.io/service-proxy-name": "other" } },
            "spec": { "clusterIP": "10.96.0.5", "ports": ports },
        }),
    ] {
        assert_eq!(service(spec.clone()), None, "{spec}");
    }
}

#[test]
fn defaults_of_the_api_are_known() {
    let facts = service(serde_json::json!({ "spec": {
        "clusterIP": "10.96.0.5", "sessionAffinity": "ClientIP",
        "ports": [{ "port": 80 }, { "port": 81, "protocol": "SCTP" }],
    } }))
    .unwrap();
    assert_eq!(facts.affinity_timeout_secs, 10_800);
    assert_eq!(facts.ports.len(), 1, "SCTP is not translated");
    assert_eq!(facts.ports[0].protocol, Protocol::Tcp);
    assert!(!facts.internal_local && !facts.external_local);
}

#[test]
fn a_balancer_in_proxy_mode_is_not_bypassed() {
    let facts = service(serde_json::json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.5", "externalIPs": ["203.0.113.9"] },
        "status": { "loadBalancer": { "ingress": [
            { "ip": "192.0.2.1" }, { "ip": "192.0.2.2", "ipMode": "Proxy" }, { "hostname": "x.example" },
        ] } },
    }))
    .unwrap();
    let ips: Vec<String> = facts.external_ips.iter().map(IpAddr::to_string).collect();
    assert_eq!(ips, ["203.0.113.9", "192.0.2.1"]);
}

#[test]
fn absent_conditions_mean_ready() {
    let slice = |endpoint: serde_json::Value| {
        let slice = serde_json::json!({
            "metadata": {
                "namespace": "ns", "name": "s-1", "labels": { "kubernetes.io/service-name": "s" },
            },
            "addressType": "IPv4", "ports": [{ "name": "", "port": 8080 }], "endpoints": [endpoint],
        });
        SliceFacts::of(&serde_json::from_value(slice).unwrap()).unwrap().endpoints.remove(0)
    };
    let endpoint = slice(serde_json::json!({ "addresses": ["10.244.0.2"] }));
    assert!(endpoint.ready && endpoint.serving && !endpoint.terminating);
    let endpoint = slice(serde_json::json!({
        "addresses": ["10.244.0.2"], "conditions": { "ready": false },
    }));
    assert!(!endpoint.ready && !endpoint.serving);
    let endpoint = slice(serde_json::json!({
        "addresses": ["10.244.0.2"],
        "conditions": { "ready": false, "serving": true, "terminating": true },
    }));
    assert!(!endpoint.ready && endpoint.serving && endpoint.terminating);
}

#[test]
fn slices_of_names_are_ignored() {
    let slice = serde_json::json!({
        "metadata": { "namespace": "ns", "labels": { "kubernetes.io/service-name": "s" } },
        "addressType": "FQDN", "endpoints": [{ "addresses": ["a.example"] }],
    });
    assert_eq!(SliceFacts::of(&serde_json::from_value(slice).unwrap()), None);
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let slice = |service: &str| -> EndpointSlice {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "namespace": "ns", "name": "x", "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4", "endpoints": [],
        }))
        .unwrap()
    };
    let mut world = World::default();
    let key = ObjectKey::new("ns", "x");
    world.set_slice(&key, None, Some(&slice("a")));
    world.set_slice(&key, Some(&slice("a")), Some(&slice("b")));
    assert_eq!(world.slices.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["b"]);
    world.set_slice(&key, Some(&slice("b")), None);
    assert!(world.slices.is_empty());
}

#[test]
fn addresses_with_leading_zeros_are_decimal() {
    for (text, ip) in [
        ("10.96.0.1", Some("10.96.0.1")),
        ("010.096.000.001", Some("10.96.0.1")),
        ("fd00::1", Some("fd00::1")),
        ("None", None),
        ("", None),
        ("10.96.0", None),
        ("10.96.0.1.2", None),
        ("10.96.0.256", None),
        ("10.96.0.+1", None),
    ] {
        assert_eq!(parse_ip(text), ip.map(|ip| ip.parse().unwrap()), "{text:?}");
    }
}
