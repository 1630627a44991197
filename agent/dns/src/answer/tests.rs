use std::net::IpAddr;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::records::{self, Records};

fn zone() -> Zone {
    Zone {
        domain: "cluster.local.".parse().unwrap(),
        server_ips: vec!["10.96.0.10".parse().unwrap()],
    }
}

fn set(records: &mut Records, name: &str, spec: Value, slices: Vec<Value>) {
    let service: ServiceObject = serde_json::from_value(json!({ "spec": spec })).unwrap();
    let slices: Vec<EndpointSlice> =
        slices.into_iter().map(|slice| serde_json::from_value(slice).unwrap()).collect();
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let service_name = Service { namespace: "ns".to_owned(), name: name.to_owned() };
    records.set_service(&service_name, records::record(&service, &slices));
}

fn slice(family: &str, endpoints: Value) -> Value {
    json!({
        "addressType": family, "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080 }, { "name": "dns", "port": 5353, "protocol": "UDP" }],
    })
}

fn cluster() -> Records {
    let mut records = Records::default();
    records.synced = true;
    let ports =
        json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    let dual = json!({ "clusterIPs": ["10.96.0.5", "fd96::5"], "ports": ports });
    set(&mut records, "dual", dual, vec![slice("IPv4", json!([{ "addresses": ["10.244.0.9"] }]))]);
    set(
        &mut records,
        "plain",
        json!({ "clusterIP": "10.96.0.6", "ports": [{ "port": 80 }] }),
        vec![],
    );
    set(
        &mut records,
        "outside",
        json!({ "type": "ExternalName", "externalName": "www.example.org" }),
        vec![],
    );
    set(
        &mut records,
        "db",
        json!({ "clusterIP": "None", "clusterIPs": ["None"], "ports": ports }),
        vec![
            slice(
                "IPv4",
                json!([
                    { "addresses": ["10.244.0.2"], "hostname": "db-0" },
                    { "addresses": ["10.244.0.3"] },
                    { "addresses": ["10.244.0.4"], "conditions": { "ready": false, "terminating": true } },
                ]),
            ),
            slice("IPv6", json!([{ "addresses": ["fd00::2"], "hostname": "db-0" }])),
        ],
    );
    set(&mut records, "empty", json!({ "clusterIP": "None", "ports": ports }), vec![]);
    records
}

/// An answer as zone-file lines, without TTLs; `+` marks what is additional, `!` the SOA.
fn show(records: &Records, name: &str, wanted: RecordType) -> String {
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    let outcome = answer(records, &zone(), &name, wanted, 0);
    let (reply, tail) = match outcome {
        Outcome::Forward => return "forward\n".to_owned(),
        Outcome::Chase(reply, target) => (reply, format!("chase {target}\n")),
        Outcome::Reply(reply) => (reply, String::new()),
    };
    let line = |mark: &str, record: &Record| {
        format!("{mark}{} {} {}\n", record.name, record.record_type(), record.data)
    };
    let mut text = match reply.code {
        ResponseCode::NoError => String::new(),
        code => format!("{code}\n"),
    };
    text.extend(reply.answers.iter().map(|record| line("", record)));
    text.extend(reply.additionals.iter().map(|record| line("+", record)));
    text.extend(reply.authorities.iter().map(|record| format!("!{}\n", record.record_type())));
    text + &tail
}

fn check(name: &str, wanted: RecordType, expected: Expect) {
    expected.assert_eq(&show(&cluster(), name, wanted));
}

#[test]
fn services_have_addresses_of_their_families() {
    check(
        "dual.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        dual.ns.svc.cluster.local. A 10.96.0.5
    "#]],
    );
    check(
        "dual.ns.svc.cluster.local",
        RecordType::AAAA,
        expect![[r#"
        dual.ns.svc.cluster.local. AAAA fd96::5
    "#]],
    );
    check(
        "plain.ns.svc.cluster.local",
        RecordType::AAAA,
        expect![[r#"
        !SOA
    "#]],
    );
    check(
        "plain.ns.svc.cluster.local",
        RecordType::MX,
        expect![[r#"
        !SOA
    "#]],
    );
}

#[test]
fn the_case_of_the_question_is_kept() {
    check(
        "DuAl.nS.sVc.ClUsTeR.lOcAl",
        RecordType::A,
        expect![[r#"
        DuAl.nS.sVc.ClUsTeR.lOcAl. A 10.96.0.5
    "#]],
    );
}

#[test]
fn headless_services_are_their_ready_endpoints() {
    check(
        "db.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        db.ns.svc.cluster.local. A 10.244.0.2
        db.ns.svc.cluster.local. A 10.244.0.3
    "#]],
    );
    check(
        "db-0.db.ns.svc.cluster.local",
        RecordType::AAAA,
        expect![[r#"
        db-0.db.ns.svc.cluster.local. AAAA fd00::2
    "#]],
    );
    check(
        "10-244-0-3.db.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        10-244-0-3.db.ns.svc.cluster.local. A 10.244.0.3
    "#]],
    );
    check(
        "10-244-0-4.db.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        Non-Existent Domain
        !SOA
    "#]],
    );
    check(
        "empty.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        Non-Existent Domain
        !SOA
    "#]],
    );
}

#[test]
fn named_ports_have_srv_records() {
    check(
        "_http._tcp.dual.ns.svc.cluster.local",
        RecordType::SRV,
        expect![[r#"
        _http._tcp.dual.ns.svc.cluster.local. SRV 0 100 80 dual.ns.svc.cluster.local.
        +dual.ns.svc.cluster.local. A 10.96.0.5
        +dual.ns.svc.cluster.local. AAAA fd96::5
    "#]],
    );
    check(
        "_http._tcp.db.ns.svc.cluster.local",
        RecordType::SRV,
        expect![[r#"
        _http._tcp.db.ns.svc.cluster.local. SRV 0 33 8080 10-244-0-3.db.ns.svc.cluster.local.
        _http._tcp.db.ns.svc.cluster.local. SRV 0 33 8080 db-0.db.ns.svc.cluster.local.
        _http._tcp.db.ns.svc.cluster.local. SRV 0 33 8080 db-0.db.ns.svc.cluster.local.
        +10-244-0-3.db.ns.svc.cluster.local. A 10.244.0.3
        +db-0.db.ns.svc.cluster.local. A 10.244.0.2
        +db-0.db.ns.svc.cluster.local. AAAA fd00::2
    "#]],
    );
    check(
        "_http._tcp.dual.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        !SOA
    "#]],
    );
    check(
        "_tcp.dual.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        !SOA
    "#]],
    );
    for absent in
        ["_http._udp.dual", "_nope._tcp.dual", "_http._tcp.plain", "_tcp.plain", "_x._tcp.no"]
    {
        let name = format!("{absent}.ns.svc.cluster.local");
        assert_eq!(
            show(&cluster(), &name, RecordType::SRV),
            "Non-Existent Domain\n!SOA\n",
            "{name}"
        );
    }
}

#[test]
fn addresses_lead_back_to_names() {
    check(
        "5.0.96.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        5.0.96.10.in-addr.arpa. PTR dual.ns.svc.cluster.local.
    "#]],
    );
    check(
        "2.0.244.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        2.0.244.10.in-addr.arpa. PTR db-0.db.ns.svc.cluster.local.
    "#]],
    );
    let v6 = Name::from("fd96::5".parse::<IpAddr>().unwrap()).to_string();
    assert!(
        show(&cluster(), v6.trim_end_matches('.'), RecordType::PTR)
            .ends_with(" PTR dual.ns.svc.cluster.local.\n")
    );
    check(
        "5.0.96.10.in-addr.arpa",
        RecordType::A,
        expect![[r#"
        !SOA
    "#]],
    );
    check(
        "1.2.0.192.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        forward
    "#]],
    );
    check(
        "96.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        forward
    "#]],
    );
}

#[test]
fn external_names_are_aliases_for_every_type() {
    check(
        "outside.ns.svc.cluster.local",
        RecordType::CNAME,
        expect![[r#"
        outside.ns.svc.cluster.local. CNAME www.example.org.
    "#]],
    );
    check(
        "outside.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        outside.ns.svc.cluster.local. CNAME www.example.org.
        chase www.example.org.
    "#]],
    );
    check(
        "x.outside.ns.svc.cluster.local",
        RecordType::A,
        expect![[r#"
        Non-Existent Domain
        !SOA
    "#]],
    );
}

#[test]
fn the_domain_and_its_branches_exist() {
    check(
        "dns-version.cluster.local",
        RecordType::TXT,
        expect![[r#"
        dns-version.cluster.local. TXT 1.1.0
    "#]],
    );
    check(
        "ns.dns.cluster.local",
        RecordType::A,
        expect![[r#"
        ns.dns.cluster.local. A 10.96.0.10
    "#]],
    );
    check(
        "cluster.local",
        RecordType::NS,
        expect![[r#"
        cluster.local. NS ns.dns.cluster.local.
        +ns.dns.cluster.local. A 10.96.0.10
    "#]],
    );
    check(
        "cluster.local",
        RecordType::SOA,
        expect![[r#"
        cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    for branch in
        ["svc.cluster.local", "ns.svc.cluster.local", "cluster.local", "pod.cluster.local"]
    {
        assert_eq!(show(&cluster(), branch, RecordType::A), "!SOA\n", "{branch}");
    }
    check(
        "10-244-0-2.ns.pod.cluster.local",
        RecordType::A,
        expect![[r#"
        10-244-0-2.ns.pod.cluster.local. A 10.244.0.2
    "#]],
    );
}

#[test]
fn what_does_not_exist_is_said_only_when_everything_is_known() {
    let names = [
        "no.ns.svc.cluster.local",
        "no.svc.cluster.local",
        "no.pod.cluster.local",
        "web.no.pod.cluster.local",
        "www.example.org.ns.svc.cluster.local",
        "www.example.org.svc.cluster.local",
        "www.example.org.cluster.local",
        "empty.ns.svc.cluster.local",
    ];
    let mut records = cluster();
    for name in names {
        for wanted in [RecordType::A, RecordType::AAAA, RecordType::MX] {
            assert_eq!(show(&records, name, wanted), "Non-Existent Domain\n!SOA\n", "{name}");
        }
    }
    records.synced = false;
    for name in names {
        assert_eq!(show(&records, name, RecordType::A), "Server Failure\n", "{name}");
    }
    let known = show(&records, "dual.ns.svc.cluster.local", RecordType::A);
    assert_eq!(known, "dual.ns.svc.cluster.local. A 10.96.0.5\n");
}

#[test]
fn other_domains_are_for_others_and_ours_is_not_handed_out() {
    for name in ["www.example.org", "cluster.local.example.org", "xcluster.local", "local"] {
        assert_eq!(show(&cluster(), name, RecordType::A), "forward\n", "{name}");
    }
    check(
        "cluster.local",
        RecordType::AXFR,
        expect![[r#"
        Query Refused
        !SOA
    "#]],
    );
}

#[test]
fn answers_take_turns() {
    let records = cluster();
    let name: Name = "db.ns.svc.cluster.local.".parse().unwrap();
    let first = |turn| {
        let Outcome::Reply(reply) = answer(&records, &zone(), &name, RecordType::A, turn) else {
            panic!("it is the cluster's");
        };
        reply.answers[0].data.to_string()
    };
    assert_eq!([first(0), first(1), first(2)], ["10.244.0.2", "10.244.0.3", "10.244.0.2"]);
}

#[test]
fn a_changed_service_leaves_nothing_of_its_past() {
    let mut records = cluster();
    set(&mut records, "dual", json!({ "clusterIP": "None" }), vec![]);
    assert_eq!(show(&records, "5.0.96.10.in-addr.arpa", RecordType::PTR), "forward\n");
    set(&mut records, "db", json!({ "clusterIP": "10.96.0.7" }), vec![]);
    assert_eq!(show(&records, "2.0.244.10.in-addr.arpa", RecordType::PTR), "forward\n");
    // The address of a deleted Service goes to another before the deletion has been seen.
    set(&mut records, "heir", json!({ "clusterIP": "10.96.0.7" }), vec![]);
    let gone = Service { namespace: "ns".to_owned(), name: "db".to_owned() };
    records.set_service(&gone, None);
    let back = show(&records, "7.0.96.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(back, "7.0.96.10.in-addr.arpa. PTR heir.ns.svc.cluster.local.\n");
}
