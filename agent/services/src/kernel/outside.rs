//! The programs on the uplinks.

use std::io::ErrorKind;
use std::net::UdpSocket;

use serde_json::json;

use super::pod::{Answer, Pod, tcp, udp};
use super::{NODE_IP, OUTSIDE_IP, TestNode, on_a_node};

const NODE_PORT: &str = "192.168.77.1:30080";
const NODE_PORT_V6: &str = "[fd77::1]:30080";
const EXTERNAL: &str = "203.0.113.9:80";

fn spec(policy: &str) -> serde_json::Value {
    json!({
        "type": "NodePort", "clusterIPs": ["10.96.0.5", "fd96::5"],
        "externalIPs": ["203.0.113.9"], "externalTrafficPolicy": policy,
        "ports": [
            { "name": "tcp", "port": 80, "nodePort": 30080 },
            { "name": "udp", "port": 80, "nodePort": 30080, "protocol": "UDP" },
        ],
    })
}

fn refused(result: std::io::Result<Answer>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn v4() -> UdpSocket {
    UdpSocket::bind("0.0.0.0:0").unwrap()
}

#[test]
fn clients_outside_reach_node_ports_and_external_addresses_and_are_seen_as_they_are() {
    on_a_node(
        concat!(
            module_path!(),
            "::clients_outside_reach_node_ports_and_external_addresses_and_are_seen_as_they_are"
        ),
        |node| {
            let pod = node.pod().serve();
            node.serve("web", spec("Local"), &[&pod]);
            node.outside.run(|| super::ip("route add 203.0.113.9 via 192.168.77.1"));
            node.outside.run(|| {
                for address in [NODE_PORT, EXTERNAL] {
                    let answer = tcp(address).unwrap();
                    assert_eq!((&*answer.server, &*answer.client), ("10.244.0.2", OUTSIDE_IP));
                    let answer = udp(&v4(), address).unwrap();
                    assert_eq!((&*answer.client, &*answer.peer.to_string()), (OUTSIDE_IP, address));
                }
                let answer = tcp(NODE_PORT_V6).unwrap();
                assert_eq!((&*answer.server, &*answer.client), ("fd00:244::2", "fd77::9"));
                let answer = udp(&UdpSocket::bind("[::]:0").unwrap(), NODE_PORT_V6).unwrap();
                assert_eq!((&*answer.client, &*answer.peer.to_string()), ("fd77::9", NODE_PORT_V6));
                for _ in 0..200 {
                    tcp(NODE_PORT).unwrap();
                }
            });
        },
    );
}

#[test]
fn without_endpoints_a_node_port_is_refused_and_a_udp_client_follows() {
    on_a_node(
        concat!(
            module_path!(),
            "::without_endpoints_a_node_port_is_refused_and_a_udp_client_follows"
        ),
        |node: &mut TestNode| {
            let (a, b) = (node.pod().serve(), node.pod().serve());
            node.serve("web", spec("Cluster"), &[]);
            let socket = node.outside.run(|| {
                refused(tcp(NODE_PORT));
                let socket = v4();
                socket.connect(NODE_PORT).unwrap();
                socket
            });
            // One socket, one source port, through all of it.
            let ask = |node: &TestNode| {
                let socket = socket.try_clone().unwrap();
                node.outside.run(move || {
                    socket.set_read_timeout(Some(super::pod::PATIENCE)).unwrap();
                    socket.send(b"?")?;
                    let mut buffer = [0; 64];
                    let length = socket.recv(&mut buffer)?;
                    std::io::Result::Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
                })
            };
            assert_eq!(ask(node).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            for pod in [&a, &b] {
                node.serve("web", spec("Cluster"), &[pod]);
                assert_eq!(ask(node).unwrap(), format!("{} {OUTSIDE_IP}", pod.name()));
            }
            node.serve("web", spec("Cluster"), &[]);
            assert_eq!(ask(node).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        },
    );
}

#[test]
fn a_backend_elsewhere_is_reached_through_this_node_and_back() {
    on_a_node(
        concat!(module_path!(), "::a_backend_elsewhere_is_reached_through_this_node_and_back"),
        |node| {
            // Another node's pod, which is the client's own machine here: any address that is
            // not this node's will do.
            node.outside.run(|| super::ip("addr add 10.244.9.2/32 dev lo"));
            super::ip("route add 10.244.9.0/24 via 192.168.77.9");
            let remote = Pod::new(std::mem::take(&mut node.outside), vec![[10, 244, 9, 2].into()]);
            let remote = remote.serve();
            node.serve("web", spec("Cluster"), &[]);
            node.place_elsewhere("web", &remote);
            remote.run(|| {
                for _ in 0..50 {
                    let answer = tcp(NODE_PORT).unwrap();
                    assert_eq!((&*answer.server, &*answer.client), ("10.244.9.2", NODE_IP));
                }
                let socket = v4();
                for _ in 0..3 {
                    let answer = udp(&socket, NODE_PORT).unwrap();
                    assert_eq!((&*answer.client, &*answer.peer.to_string()), (NODE_IP, NODE_PORT));
                }
            });
            // With a Local policy there is nobody here.
            let mut local = spec("Local");
            local["ports"][0]["name"] = json!("tcp");
            node.serve("web", local, &[]);
            node.place_elsewhere("web", &remote);
            remote.run(|| refused(tcp(NODE_PORT)));
        },
    );
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address_and_stay_in_it_with_their_own() {
    on_a_node(
        concat!(
            module_path!(),
            "::pods_leave_the_cluster_with_the_nodes_address_and_stay_in_it_with_their_own"
        ),
        |node| {
            let outside = Pod::new(
                std::mem::take(&mut node.outside),
                vec![OUTSIDE_IP.parse().unwrap(), "fd77::9".parse().unwrap()],
            );
            let outside = outside.serve();
            // To see pods' own addresses, the outside must know the way back.
            outside.run(|| {
                super::ip("route add 10.244.0.0/24 via 192.168.77.1");
                super::ip("route add fd00:244::/64 via fd77::1");
            });
            let pod = node.pod();
            let seen = |pod: &Pod, address: &'static str| pod.run(move || tcp(address).unwrap());
            node.set_nodes(&["192.168.77.1"], &["10.244.0.0/24", "fd00:244::/64"]);
            for _ in 0..50 {
                assert_eq!(seen(&pod, "192.168.77.9:8080").client, NODE_IP);
            }
            assert_eq!(seen(&pod, "[fd77::9]:8080").client, "fd77::1");
            let answer = pod.run(|| udp(&v4(), "192.168.77.9:8080").unwrap());
            assert_eq!(
                (&*answer.client, &*answer.peer.to_string()),
                (NODE_IP, "192.168.77.9:8080")
            );
            // The same place as a node of the cluster.
            node.set_nodes(&["192.168.77.1", OUTSIDE_IP], &["10.244.0.0/24", "fd00:244::/64"]);
            assert_eq!(seen(&pod, "192.168.77.9:8080").client, pod.name());
            assert_eq!(tcp("192.168.77.9:8080").unwrap().client, NODE_IP);
        },
    );
}
