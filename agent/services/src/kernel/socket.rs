//! The socket hooks.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::UdpSocket;

use serde_json::json;

use super::pod::{Answer, PATIENCE, Pod, tcp, udp};
use super::{NODE_IP, on_a_node, ports};
use crate::maps::Maps as _;

const VIP: &str = "10.96.0.5:80";

fn spec() -> serde_json::Value {
    json!({ "clusterIP": "10.96.0.5", "ports": ports() })
}

/// How often each server answered `count` requests.
fn spread(client: &Pod, address: &'static str, count: usize) -> BTreeMap<String, usize> {
    client.run(move || {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            *spread.entry(tcp(address).unwrap().server).or_insert(0) += 1;
        }
        spread
    })
}

fn refused(result: std::io::Result<Answer>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_cluster_ip_spreads_connections_and_hides_the_backends() {
    on_a_node(
        concat!(module_path!(), "::a_cluster_ip_spreads_connections_and_hides_the_backends"),
        |node| {
            let (a, b, client) = (node.pod().serve(), node.pod().serve(), node.pod());
            node.serve("web", spec(), &[&a, &b]);
            let seen = spread(&client, VIP, 200);
            assert_eq!(seen.len(), 2, "{seen:?}");
            assert!(seen.values().all(|count| *count > 50), "{seen:?}");
            let answer = client.run(|| tcp(VIP).unwrap());
            assert_eq!(answer.peer.to_string(), VIP, "getpeername");
            assert_eq!(answer.client, client.name(), "the source is kept");
            // From the node itself, and over a dual-stack socket.
            assert_eq!(tcp(VIP).unwrap().client, NODE_IP);
            let mapped = client.run(|| tcp("[::ffff:10.96.0.5]:80").unwrap());
            assert_eq!(mapped.peer.to_string(), "[::ffff:10.96.0.5]:80");
        },
    );
}

#[test]
fn without_endpoints_both_protocols_are_refused_at_once() {
    on_a_node(
        concat!(module_path!(), "::without_endpoints_both_protocols_are_refused_at_once"),
        |node| {
            let (a, client) = (node.pod().serve(), node.pod());
            node.serve("web", spec(), &[]);
            let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let twin = socket.try_clone().unwrap();
            client.run(move || {
                let start = std::time::Instant::now();
                refused(tcp(VIP));
                refused(tcp("[::ffff:10.96.0.5]:80"));
                refused(udp(&twin, VIP));
                assert_eq!(
                    UdpSocket::bind("0.0.0.0:0").unwrap().connect(VIP).unwrap_err().kind(),
                    ErrorKind::ConnectionRefused
                );
                assert!(start.elapsed().as_millis() < 50);
            });
            // The same socket works as soon as there is an endpoint, and stops when it has gone.
            node.serve("web", spec(), &[&a]);
            let twin = socket.try_clone().unwrap();
            client.run(move || assert_eq!(udp(&twin, VIP).unwrap().server, "10.244.0.2"));
            client.run(|| assert_eq!(tcp(VIP).unwrap().server, "10.244.0.2"));
            node.serve("web", spec(), &[]);
            client.run(move || refused(udp(&socket, VIP)));
        },
    );
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    on_a_node(concat!(module_path!(), "::a_pod_reaches_itself_through_its_service"), |node| {
        let pod = node.pod().serve();
        let spec = json!({ "clusterIPs": ["10.96.0.5", "fd96::5"], "ports": ports() });
        node.serve("web", spec, &[&pod]);
        for (own, any, address) in
            [(pod.ips[0], "0.0.0.0:0", VIP), (pod.ips[1], "[::]:0", "[fd96::5]:80")]
        {
            let expected = (own.to_string(), address.parse().unwrap());
            pod.run(move || {
                for _ in 0..50 {
                    let answer = tcp(address).unwrap();
                    assert_eq!((answer.server, answer.peer), expected);
                }
                let answer = udp(&UdpSocket::bind(any).unwrap(), address).unwrap();
                assert_eq!((answer.server, answer.peer), expected);
            });
        }
    });
}

#[test]
fn datagrams_of_a_socket_stay_with_a_backend_until_it_goes() {
    on_a_node(
        concat!(module_path!(), "::datagrams_of_a_socket_stay_with_a_backend_until_it_goes"),
        |node| {
            let (a, b, client) = (node.pod().serve(), node.pod().serve(), node.pod());
            node.serve("web", spec(), &[&a, &b]);
            let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let ask = |socket: &UdpSocket| {
                let socket = socket.try_clone().unwrap();
                client.run(move || udp(&socket, VIP).unwrap())
            };
            let first = ask(&socket);
            assert_eq!(first.peer.to_string(), VIP, "the answer comes from the Service");
            for _ in 0..20 {
                assert_eq!(ask(&socket), first);
            }
            let left = if first.server == "10.244.0.2" { &b } else { &a };
            node.serve("web", spec(), &[left]);
            let answer = ask(&socket);
            assert_eq!(answer.server, left.name());
            assert_eq!(answer.peer.to_string(), VIP);
            // A connected socket sees the Service too, whichever call it reads with.
            client.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(VIP).unwrap();
                assert_eq!(socket.peer_addr().unwrap().to_string(), VIP);
                socket.send(b"?").unwrap();
                let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
                assert_eq!(peer.to_string(), VIP);
            });
        },
    );
}

#[test]
fn node_ports_from_pods_and_on_the_nodes_own_loopback_only() {
    on_a_node(
        concat!(module_path!(), "::node_ports_from_pods_and_on_the_nodes_own_loopback_only"),
        |node| {
            let (a, client) = (node.pod().serve(), node.pod());
            let spec = json!({
                "type": "NodePort", "clusterIP": "10.96.0.5",
                "ports": [{ "name": "tcp", "port": 80, "nodePort": 30080 }],
            });
            node.serve("web", spec, &[&a]);
            assert_eq!(tcp("127.0.0.1:30080").unwrap().server, "10.244.0.2");
            assert_eq!(tcp("192.168.77.1:30080").unwrap().peer.ip().to_string(), NODE_IP);
            client.run(|| {
                assert_eq!(tcp("192.168.77.1:30080").unwrap().server, "10.244.0.2");
                // A pod's loopback is its own.
                refused(tcp("127.0.0.1:30080"));
            });
        },
    );
}

#[test]
fn clients_with_affinity_are_pinned_by_namespace_until_their_backend_goes() {
    on_a_node(
        concat!(
            module_path!(),
            "::clients_with_affinity_are_pinned_by_namespace_until_their_backend_goes"
        ),
        |node| {
            let (a, b, client) = (node.pod().serve(), node.pod().serve(), node.pod());
            let mut spec = spec();
            spec["sessionAffinity"] = json!("ClientIP");
            node.serve("web", spec.clone(), &[&a, &b]);
            let seen = spread(&client, VIP, 30);
            assert_eq!(seen.len(), 1, "{seen:?}");
            let (left, name) = if seen.contains_key("10.244.0.2") {
                (&b, "10.244.0.3")
            } else {
                (&a, "10.244.0.2")
            };
            node.serve("web", spec.clone(), &[left]);
            assert_eq!(spread(&client, VIP, 5), BTreeMap::from([(name.to_owned(), 5)]));
            // Pinned anew: the old backend coming back changes nothing.
            node.serve("web", spec.clone(), &[&a, &b]);
            assert_eq!(spread(&client, VIP, 30), BTreeMap::from([(name.to_owned(), 30)]));
            spec["sessionAffinity"] = json!("None");
            node.serve("web", spec, &[&a, &b]);
            assert_eq!(spread(&client, VIP, 100).len(), 2);
        },
    );
}

#[test]
fn traffic_goes_on_without_an_agent_and_under_the_next_one() {
    on_a_node(
        concat!(module_path!(), "::traffic_goes_on_without_an_agent_and_under_the_next_one"),
        |node| {
            let (a, b, client) = (node.pod().serve(), node.pod().serve(), node.pod());
            node.serve("web", spec(), &[&a]);
            let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let ask = |socket: &UdpSocket| {
                let socket = socket.try_clone().unwrap();
                client.run(move || udp(&socket, VIP).unwrap())
            };
            let before = ask(&socket);
            let held = node.actual.clone();
            node.restart();
            assert_eq!(node.actual, held);
            assert_eq!(ask(&socket), before);
            assert_eq!(spread(&client, VIP, 10).len(), 1);
            node.serve("web", spec(), &[&a, &b]);
            assert_eq!(spread(&client, VIP, 100).len(), 2);
            assert_eq!(ask(&socket), before);
            assert!(held.backends.keys().all(|id| node.actual.backends.contains_key(id)));
        },
    );
}

#[test]
fn a_connected_udp_socket_fails_when_its_backend_goes_and_can_connect_again() {
    on_a_node(
        concat!(
            module_path!(),
            "::a_connected_udp_socket_fails_when_its_backend_goes_and_can_connect_again"
        ),
        |node| {
            let (a, b, client) = (node.pod().serve(), node.pod().serve(), node.pod());
            let spec = json!({ "clusterIPs": ["10.96.0.5", "fd96::5"], "ports": ports() });
            node.serve("web", spec.clone(), &[&a]);
            let connected = || {
                [("0.0.0.0:0", VIP), ("[::]:0", "[fd96::5]:80")].map(|(any, address)| {
                    let socket = UdpSocket::bind(any).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    socket.connect(address).unwrap();
                    socket.send(b"?").unwrap();
                    socket.recv(&mut [0; 64]).unwrap();
                    socket
                })
            };
            let (in_pod, on_node) = (client.run(connected), connected());
            node.serve("web", spec, &[&b]);
            for socket in in_pod.iter().chain(&on_node) {
                let failed = socket.recv(&mut [0; 64]).unwrap_err();
                assert_eq!(failed.kind(), ErrorKind::ConnectionAborted);
            }
            client.run(move || {
                let [v4, _] = in_pod;
                v4.connect(VIP).unwrap();
                v4.send(b"?").unwrap();
                let mut buffer = [0; 64];
                let length = v4.recv(&mut buffer).unwrap();
                assert!(buffer[..length].starts_with(b"10.244.0.3 "));
            });
        },
    );
}

#[test]
fn programs_that_are_detached_are_noticed_and_attached_again() {
    on_a_node(
        concat!(module_path!(), "::programs_that_are_detached_are_noticed_and_attached_again"),
        |node| {
            let (a, client) = (node.pod().serve(), node.pod());
            node.serve("web", spec(), &[&a]);
            assert!(node.maps.is_attached());
            let pins = node.config.bpffs_dir.clone();
            // The link alone, and then everything.
            let is_ours = |path: &std::path::PathBuf| path.is_dir();
            let mut entries = std::fs::read_dir(&pins).unwrap().map(|entry| entry.unwrap().path());
            let links = entries.find(is_ours).unwrap();
            std::fs::remove_file(links.join("links/connect4")).unwrap();
            // The kernel detaches in the background.
            let is_detached = || match tcp(VIP) {
                Ok(answer) => Err(format!("{answer:?}")),
                Err(_) => Ok(()),
            };
            client.run(move || host::wait_for("detached", PATIENCE, is_detached).unwrap());
            assert!(!node.maps.is_attached());
            node.maps.attach_again().unwrap();
            client.run(|| assert_eq!(tcp(VIP).unwrap().server, "10.244.0.2"));

            std::fs::remove_dir_all(&links).unwrap();
            assert!(!node.maps.is_attached());
            node.maps.attach_again().unwrap();
            node.actual = node.maps.read().unwrap();
            assert!(node.actual.frontends.is_empty());
            node.write();
            client.run(|| assert_eq!(tcp(VIP).unwrap().server, "10.244.0.2"));
        },
    );
}
