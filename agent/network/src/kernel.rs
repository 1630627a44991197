//! Tests against the real kernel, in namespaces of their own.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use host::isolated::{Namespace, ip, isolated};
use informer::View;
use k8s_openapi::api::core::v1::Node;
use objects::Revision;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Config, Network, NetworkError, PodNetwork as _};

const PATIENCE: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config {
        node_name: "n1".to_owned(),
        state_dir: "/run/skeg/network".into(),
        node_addresses: vec!["192.168.7.1".parse().unwrap()],
        own_addresses: vec!["10.96.0.10".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        mtu_bytes: None,
        set_sysctls: true,
    }
}

/// An uplink to nowhere, with the node's address and a small MTU.
fn uplink() {
    ip("link add uplink mtu 1400 type veth peer name switch0");
    ip("addr add 192.168.7.1/24 dev uplink");
    ip("addr add fd07::1/64 dev uplink nodad");
    ip("link set uplink up");
    ip("link set switch0 up");
    let state = || ip("link show uplink");
    let is_up = || if state().contains("state UP") { Ok(()) } else { Err(state()) };
    host::wait_for("uplink", PATIENCE, is_up).unwrap();
}

async fn open() -> Network {
    let network = Network::open(config()).await.unwrap();
    let cidrs = ["10.244.3.0/24", "fd00:3::/64"].map(|cidr| cidr.parse().unwrap());
    network.set_pod_cidrs(&cidrs);
    network
}

/// Index and name of every link.
fn links() -> Vec<String> {
    let listing = ip("-o link show");
    listing.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Runs a test's body on a small runtime.
fn block_on<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body)
}

/// Answers every connection with the client's address.
fn serve(pod: &Namespace, address: IpAddr) {
    pod.run(move || {
        let listener = TcpListener::bind((address, 80)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let client = stream.peer_addr().unwrap().ip();
                // A client that has gone away is its own business.
                _ = write!(stream, "{client}");
            }
        });
    });
}

/// Whom the server at `address` saw.
fn ask(address: IpAddr) -> std::io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.parse().expect("servers answer with an address"))
}

#[test]
fn pods_and_the_node_reach_each_other_in_both_families() {
    isolated(
        concat!(module_path!(), "::pods_and_the_node_reach_each_other_in_both_families"),
        |_| {
            uplink();
            let (a, b) = (Namespace::new(), Namespace::new());
            block_on(async {
                let network = open().await;
                let a_ips = network.attach("uid-a", a.path()).await.unwrap();
                let b_ips = network.attach("uid-b", b.path()).await.unwrap();
                assert_eq!(a_ips[0].to_string(), "10.244.3.2");
                assert_eq!(a_ips[1].to_string(), "fd00:3::2");
                assert_eq!(network.addresses("uid-b"), Some(b_ips.clone()));
                for (ip_a, ip_b) in a_ips.into_iter().zip(b_ips) {
                    serve(&b, ip_b);
                    assert_eq!(a.run(move || ask(ip_b).unwrap()), ip_a, "the source is kept");
                    let node = if ip_b.is_ipv4() { "192.168.7.1" } else { "fd07::1" };
                    assert_eq!(ask(ip_b).unwrap().to_string(), node, "not the DNS address");
                }
                // The node's own address, from a pod: no neighbour is looked for first.
                serve_here("10.96.0.10".parse().unwrap());
                let start = Instant::now();
                a.run(|| ask("10.96.0.10".parse().unwrap()).unwrap());
                assert!(start.elapsed() < Duration::from_millis(500));
                let mtu = a.run(|| ip("link show eth0"));
                assert!(mtu.contains("mtu 1400"), "{mtu}");
            });
        },
    );
}

fn serve_here(address: IpAddr) {
    let listener = TcpListener::bind((address, 80)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            _ = write!(stream.unwrap(), "127.0.0.1");
        }
    });
}

#[test]
fn unused_addresses_are_unreachable_at_once() {
    isolated(concat!(module_path!(), "::unused_addresses_are_unreachable_at_once"), |_| {
        uplink();
        ip("route add default via 192.168.7.254");
        let pod = Namespace::new();
        block_on(async {
            let network = open().await;
            network.attach("uid", pod.path()).await.unwrap();
            let own: Node = serde_json::from_value(json!({
                "metadata": { "name": "n1" }, "spec": { "podCIDRs": ["10.244.3.0/24"] },
            }))
            .unwrap();
            let view = View::fixed([own], Vec::new());
            run_until(&network, view, |t| t.contains("unreachable 10.244.3.0/24")).await;
            for unused in ["10.244.3.99", "10.96.77.7"] {
                let unused: IpAddr = unused.parse().unwrap();
                let start = Instant::now();
                assert!(pod.run(move || ask(unused)).is_err());
                assert!(ask(unused).is_err());
                assert!(start.elapsed() < Duration::from_secs(1), "{unused}");
            }
        });
    });
}

/// Runs the routes' loop until the kernel's table is as `expected`.
async fn run_until(network: &Network, nodes: View<Node>, expected: impl Fn(&str) -> bool) {
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (network, shutdown) = (network.clone(), shutdown.clone());
        async move { network.run(nodes, shutdown).await }
    });
    let start = Instant::now();
    loop {
        let table = ip("route show");
        if expected(&table) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "not as expected:\n{table}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[test]
fn routes_follow_the_nodes() {
    isolated(concat!(module_path!(), "::routes_follow_the_nodes"), |_| {
        uplink();
        let nodes = |octet: u8| -> [Node; 2] {
            let own = json!({
                "metadata": { "name": "n1" }, "spec": { "podCIDRs": ["10.244.3.0/24"] },
            });
            let other = json!({
                "metadata": { "name": "n2" }, "spec": { "podCIDRs": ["10.244.4.0/24"] },
                "status": { "addresses": [
                    { "type": "InternalIP", "address": format!("192.168.7.{octet}") },
                ] },
            });
            [own, other].map(|node| serde_json::from_value(node).unwrap())
        };
        block_on(async {
            let network = Network::open(config()).await.unwrap();
            let view = View::fixed(nodes(2), Vec::new());
            let via = |ip: &'static str| {
                move |table: &str| table.contains(&format!("10.244.4.0/24 via {ip} dev uplink"))
            };
            run_until(&network, view, via("192.168.7.2")).await;
            // A node that got another address, seen by the next agent.
            let network = Network::open(config()).await.unwrap();
            let view = View::fixed(nodes(9), Vec::new());
            run_until(&network, view, via("192.168.7.9")).await;
            assert!(!ip("route show").contains("192.168.7.2 "));
            let (view, writer) = View::new(Vec::new());
            writer.replace(Vec::new(), Revision(1));
            run_until(&network, view, |table| !table.contains("10.244.")).await;
            assert!(ip("route show").contains("unreachable 10.96.0.0/16"));
        });
    });
}

#[test]
fn attaching_again_and_restarting_change_nothing() {
    isolated(concat!(module_path!(), "::attaching_again_and_restarting_change_nothing"), |_| {
        uplink();
        let (a, b) = (Namespace::new(), Namespace::new());
        block_on(async {
            let network = open().await;
            let ips = network.attach("uid-a", a.path()).await.unwrap();
            serve(&a, ips[0]);
            let before = links();
            assert_eq!(network.attach("uid-a", a.path()).await.unwrap(), ips);
            let network = open().await;
            assert_eq!(network.addresses("uid-a"), Some(ips.clone()));
            assert_eq!(network.attach("uid-a", a.path()).await.unwrap(), ips);
            assert_eq!(links(), before);
            assert!(ask(ips[0]).is_ok());
            assert_ne!(network.attach("uid-b", b.path()).await.unwrap(), ips);

            // A new sandbox of the same pod keeps the addresses and gets a link of its own.
            let again = Namespace::new();
            assert_eq!(network.attach("uid-a", again.path()).await.unwrap(), ips);
            serve(&again, ips[0]);
            assert!(ask(ips[0]).is_ok());
            assert_eq!(network.namespaces(), [again.path(), b.path()]);
        });
    });
}

#[test]
fn detaching_leaves_nothing_and_can_be_repeated() {
    isolated(concat!(module_path!(), "::detaching_leaves_nothing_and_can_be_repeated"), |_| {
        uplink();
        let clean = (links(), ip("route show"));
        let pod = Namespace::new();
        block_on(async {
            let network = open().await;
            let ips = network.attach("uid", pod.path()).await.unwrap();
            network.detach("uid").await.unwrap();
            network.detach("uid").await.unwrap();
            assert_eq!((links(), ip("route show")), clean);
            assert_eq!(network.addresses("uid"), None);
            assert!(std::fs::read_dir("/run/skeg/network").unwrap().next().is_none());
            let other = network.attach("other", pod.path()).await.unwrap();
            assert_ne!(other, ips, "freed addresses come last");
            let gone = network.attach("uid", "/run/no-such-namespace".as_ref()).await;
            assert!(matches!(gone, Err(NetworkError::Io { .. })), "{gone:?}");
            network.detach("uid").await.unwrap();
        });
    });
}
