use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::dump::dump;

fn node() -> NodeFacts {
    NodeFacts {
        name: "n1".to_owned(),
        zone: Some("z1".to_owned()),
        addresses: vec!["192.168.7.1".parse().unwrap(), "fd07::1".parse().unwrap()],
        own_addresses: vec!["10.96.0.10".parse().unwrap()],
        networks: BTreeMap::new(),
    }
}

fn service(name: &str, spec: Value) -> (ObjectKey, Value) {
    (ObjectKey::new("ns", name), json!({ "spec": spec }))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Value {
    json!({
        "metadata": { "namespace": "ns", "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

fn world(services: &[(ObjectKey, Value)], slices: &[Value]) -> World {
    let mut world = World::default();
    for (key, service) in services {
        let service: Service = serde_json::from_value(service.clone()).unwrap();
        world.set_service(key, Some(&service));
    }
    for (number, slice) in slices.iter().enumerate() {
        let slice: EndpointSlice = serde_json::from_value(slice.clone()).unwrap();
        let key = ObjectKey::new("ns", &format!("slice-{number}"));
        world.set_slice(&key, None, Some(&slice));
    }
    world
}

fn check(services: &[(ObjectKey, Value)], slices: &[Value], expected: Expect) {
    let planned = plan(&world(services, slices), &node(), &mut Ids::default());
    assert_eq!(planned.fault(), None);
    expected.assert_eq(&dump(&planned));
}

/// An endpoint `on` a node: `r`eady, `t`erminating but serving, or `n`ot ready.
fn on(node: &str, ip: &str, state: char) -> Value {
    let conditions = match state {
        'r' => json!({ "ready": true, "serving": true, "terminating": false }),
        't' => json!({ "ready": false, "serving": true, "terminating": true }),
        _ => json!({ "ready": false, "serving": false, "terminating": false }),
    };
    json!({ "addresses": [ip], "nodeName": node, "conditions": conditions })
}

#[test]
fn named_ports_and_protocols_find_their_slices_ports() {
    check(
        &[service(
            "web",
            json!({ "clusterIP": "10.96.0.5", "ports": [
            { "name": "http", "port": 80, "protocol": "TCP", "targetPort": "web" },
            { "name": "dns", "port": 53, "protocol": "UDP" },
            { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
        ] }),
        )],
        &[
            slice(
                "web",
                json!([{ "name": "http", "port": 8080 }, { "name": "dns", "port": 5353, "protocol": "UDP" }]),
                json!([on("n1", "10.244.0.2", 'r'), on("n2", "10.244.1.2", 'r')]),
            ),
            // A rolling update changed what the name means: each endpoint keeps its own number.
            slice(
                "web",
                json!([{ "name": "http", "port": 9090 }]),
                json!([on("n1", "10.244.0.3", 'r')]),
            ),
        ],
        expect![[r#"
            10.96.0.5:53/TCP internal -> refuse
            10.96.0.5:53/UDP internal -> 10.244.0.2:5353 local, 10.244.1.2:5353
            10.96.0.5:80/TCP internal -> 10.244.0.2:8080 local, 10.244.0.3:9090 local, 10.244.1.2:8080
        "#]],
    );
}

#[test]
fn node_ports_and_external_addresses() {
    check(
        &[service(
            "web",
            json!({
                "type": "NodePort", "clusterIP": "10.96.0.5", "externalIPs": ["203.0.113.9"],
                "externalTrafficPolicy": "Local", "ports": [{ "port": 80, "nodePort": 30080 }],
            }),
        )],
        &[slice(
            "web",
            json!([{ "name": "", "port": 8080 }]),
            json!([on("n1", "10.244.0.2", 'r'), on("n2", "10.244.1.2", 'r'),]),
        )],
        expect![[r#"
            10.96.0.5:80/TCP internal -> 10.244.0.2:8080 local, 10.244.1.2:8080
            127.0.0.1:30080/TCP internal host-only -> 10.244.0.2:8080 local, 10.244.1.2:8080
            192.168.7.1:30080/TCP internal -> 10.244.0.2:8080 local, 10.244.1.2:8080
            192.168.7.1:30080/TCP external local -> 10.244.0.2:8080 local
            203.0.113.9:80/TCP internal -> 10.244.0.2:8080 local, 10.244.1.2:8080
            203.0.113.9:80/TCP external local -> 10.244.0.2:8080 local
        "#]],
    );
}

#[test]
fn terminating_endpoints_serve_where_no_ready_one_does() {
    let spec = |policy: &str| {
        json!({
            "type": "NodePort", "clusterIP": "10.96.0.5", "internalTrafficPolicy": policy,
            "externalTrafficPolicy": policy, "ports": [{ "port": 80, "nodePort": 30080 }],
        })
    };
    let ports = json!([{ "name": "", "port": 8080 }]);
    // Elsewhere ready, here only terminating: Local serves the terminating one.
    check(
        &[service("web", spec("Local"))],
        &[slice(
            "web",
            ports.clone(),
            json!([
                on("n1", "10.244.0.2", 't'),
                on("n2", "10.244.1.2", 'r'),
                on("n1", "10.244.0.3", 'n'),
            ]),
        )],
        expect![[r#"
            10.96.0.5:80/TCP internal local -> 10.244.0.2:8080 local
            127.0.0.1:30080/TCP internal host-only -> 10.244.1.2:8080
            192.168.7.1:30080/TCP internal -> 10.244.1.2:8080
            192.168.7.1:30080/TCP external local -> 10.244.0.2:8080 local
        "#]],
    );
    // Only terminating ones anywhere: Cluster serves them too.
    check(
        &[service("web", spec("Cluster"))],
        &[slice(
            "web",
            ports.clone(),
            json!([
                on("n1", "10.244.0.2", 't'),
                on("n2", "10.244.1.2", 't'),
                on("n1", "10.244.0.3", 'n'),
            ]),
        )],
        expect![[r#"
            10.96.0.5:80/TCP internal -> 10.244.0.2:8080 local, 10.244.1.2:8080
            127.0.0.1:30080/TCP internal host-only -> 10.244.0.2:8080 local, 10.244.1.2:8080
            192.168.7.1:30080/TCP internal -> 10.244.0.2:8080 local, 10.244.1.2:8080
            192.168.7.1:30080/TCP external -> 10.244.0.2:8080 local, 10.244.1.2:8080
        "#]],
    );
    // Local without local endpoints refuses, though others are ready.
    check(
        &[service(
            "web",
            json!({
                "clusterIP": "10.96.0.5", "internalTrafficPolicy": "Local", "ports": [{ "port": 80 }],
            }),
        )],
        &[slice("web", ports, json!([on("n2", "10.244.1.2", 'r')]))],
        expect![[r#"
            10.96.0.5:80/TCP internal local -> refuse
        "#]],
    );
}

#[test]
fn hints_narrow_the_choice_only_when_they_are_complete() {
    let hinted = |ip: &str, zones: &[&str], nodes: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>();
        json!({
            "addresses": [ip], "hints": { "forZones": names(zones), "forNodes": names(nodes) },
        })
    };
    let spec = json!({ "clusterIP": "10.96.0.5", "ports": [{ "port": 80 }] });
    let ports = json!([{ "name": "", "port": 8080 }]);
    let cases = [
        (
            "zones",
            vec![hinted("10.0.0.1", &["z1"], &[]), hinted("10.0.0.2", &["z2"], &[])],
            "10.0.0.1:8080",
        ),
        (
            "nodes before zones",
            vec![hinted("10.0.0.1", &["z1"], &["n2"]), hinted("10.0.0.2", &["z2"], &["n1"])],
            "10.0.0.2:8080",
        ),
        (
            "one without a hint",
            vec![hinted("10.0.0.1", &["z1"], &[]), hinted("10.0.0.2", &[], &[])],
            "10.0.0.1:8080, 10.0.0.2:8080",
        ),
        (
            "none for this zone",
            vec![hinted("10.0.0.1", &["z3"], &[]), hinted("10.0.0.2", &["z2"], &[])],
            "10.0.0.1:8080, 10.0.0.2:8080",
        ),
        (
            "nodes, none for this one: by zone",
            vec![hinted("10.0.0.1", &["z1"], &["n2"]), hinted("10.0.0.2", &["z2"], &["n3"])],
            "10.0.0.1:8080",
        ),
    ];
    for (name, endpoints, expected) in cases {
        let services = [service("web", spec.clone())];
        let world = world(&services, &[slice("web", ports.clone(), json!(endpoints))]);
        let text = dump(&plan(&world, &node(), &mut Ids::default()));
        assert_eq!(text, format!("10.96.0.5:80/TCP internal -> {expected}\n"), "{name}");
    }
}

#[test]
fn both_families_each_with_its_own_endpoints() {
    let mut v6 = slice(
        "web",
        json!([{ "name": "", "port": 8080 }]),
        json!([
            { "addresses": ["fd00::2"], "nodeName": "n1" },
        ]),
    );
    v6["addressType"] = json!("IPv6");
    check(
        &[service(
            "web",
            json!({
                "type": "NodePort", "clusterIPs": ["fd96::5", "10.96.0.5"],
                "ports": [{ "port": 80, "nodePort": 30080 }],
            }),
        )],
        &[
            slice(
                "web",
                json!([{ "name": "", "port": 8080 }]),
                json!([on("n2", "10.244.1.2", 'r')]),
            ),
            v6,
        ],
        expect![[r#"
            10.96.0.5:80/TCP internal -> 10.244.1.2:8080
            127.0.0.1:30080/TCP internal host-only -> 10.244.1.2:8080
            192.168.7.1:30080/TCP internal -> 10.244.1.2:8080
            192.168.7.1:30080/TCP external -> 10.244.1.2:8080
            [::1]:30080/TCP internal host-only -> [fd00::2]:8080 local
            [fd07::1]:30080/TCP internal -> [fd00::2]:8080 local
            [fd07::1]:30080/TCP external -> [fd00::2]:8080 local
            [fd96::5]:80/TCP internal -> [fd00::2]:8080 local
        "#]],
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_as_ready() {
    let ports = json!([{ "name": "", "port": 8080 }]);
    check(
        &[service(
            "web",
            json!({
                "clusterIP": "10.96.0.5", "sessionAffinity": "ClientIP", "ports": [{ "port": 80 }],
            }),
        )],
        &[
            slice("web", ports.clone(), json!([on("n1", "10.244.0.2", 'n')])),
            slice("web", ports, json!([on("n1", "10.244.0.2", 'r')])),
        ],
        expect![[r#"
            10.96.0.5:80/TCP internal affinity=10800s -> 10.244.0.2:8080 local
        "#]],
    );
}

#[test]
fn the_dns_address_is_left_to_the_node() {
    check(
        &[service(
            "kube-dns",
            json!({
                "type": "NodePort", "clusterIP": "10.96.0.10",
                "ports": [{ "name": "dns", "port": 53, "protocol": "UDP" }],
            }),
        )],
        &[],
        expect![""],
    );
}

#[test]
fn host_ports_lead_to_their_pod_and_win() {
    let mut world = world(
        &[service(
            "web",
            json!({
                "type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{ "port": 80, "nodePort": 30080 }],
            }),
        )],
        &[],
    );
    let port = |host_ip: Option<&str>, host_port| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        protocol: Protocol::Tcp,
        pod_ips: vec!["10.244.0.2".parse().unwrap()],
        container_port: 8080,
    };
    let ports = vec![port(None, 30080), port(Some("127.0.0.1"), 81), port(Some("192.168.7.1"), 82)];
    world.host_ports.insert("uid".to_owned(), ports);
    expect![[r#"
        10.96.0.5:80/TCP internal -> refuse
        127.0.0.1:81/TCP internal host-only local -> 10.244.0.2:8080 local
        127.0.0.1:30080/TCP internal host-only local -> 10.244.0.2:8080 local
        192.168.7.1:82/TCP internal local -> 10.244.0.2:8080 local
        192.168.7.1:82/TCP external local -> 10.244.0.2:8080 local
        192.168.7.1:30080/TCP internal local -> 10.244.0.2:8080 local
        192.168.7.1:30080/TCP external local -> 10.244.0.2:8080 local
    "#]]
    .assert_eq(&dump(&plan(&world, &node(), &mut Ids::default())));
}
