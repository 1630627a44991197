use serde_json::json;

use super::*;

fn allocations(cidr: &str, ports: (u16, u16)) -> Allocations {
    Allocations { cidrs: vec![cidr.parse().unwrap()], node_ports: ports, tables: Mutex::default() }
}

#[test]
fn a_small_range_is_used_up_and_given_back() {
    let all = allocations("10.0.0.0/29", (30000, 30001));
    let cidr = all.cidrs()[0];
    let mut reservation = all.reserve("u1");
    let mut seen: Vec<IpAddr> = (0..6).map(|_| reservation.any_ip(&cidr).unwrap()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    assert_eq!(reservation.any_ip(&cidr), Err(AllocateError::Full));
    drop(reservation);
    assert!(all.reserve("u2").any_ip(&cidr).is_ok());
}

#[test]
fn given_addresses() {
    let all = allocations("10.0.0.0/24", (30000, 30001));
    let mut first = all.reserve("u1");
    first.take_ip("10.0.0.7".parse().unwrap()).unwrap();
    let mut second = all.reserve("u2");
    let cases = [
        ("10.0.0.7", AllocateError::Taken { what: "IP" }),
        (
            "10.0.1.7",
            AllocateError::OtherNetwork {
                ip: "10.0.1.7".parse().unwrap(),
                ranges: "10.0.0.0/24".into(),
            },
        ),
        ("10.0.0.0", AllocateError::NotUsable),
        ("10.0.0.255", AllocateError::NotUsable),
    ];
    for (ip, want) in cases {
        assert_eq!(second.take_ip(ip.parse().unwrap()), Err(want), "{ip}");
    }
    let range = AllocateError::PortOutOfRange { first: 30000, last: 30001 };
    assert_eq!(second.take_port(99), Err(range));
}

#[test]
fn a_changed_service_gives_back_what_it_no_longer_has() {
    let all = allocations("10.0.0.0/24", (30000, 30001));
    let service = |port: u16| {
        json!({
            "metadata": {"uid": "u1"},
            "spec": {"clusterIPs": ["10.0.0.7"], "ports": [{"nodePort": port}]},
        })
    };
    all.observe("", Some(&service(30000)));
    all.observe("", Some(&service(30001)));
    let mut other = all.reserve("u2");
    assert!(other.take_port(30000).is_ok());
    assert!(other.take_port(30001).is_err());
    all.release(&service(30001));
    assert!(other.take_port(30001).is_ok());
}
