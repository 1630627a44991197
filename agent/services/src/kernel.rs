//! Tests against the real kernel: programs attached to a cgroup of their own, namespaces as pods.
//!
//! Each test runs in a process of its own, in its own network and mount namespace and its own
//! cgroup, all of which are gone when it ends, however it ends.

mod outside;
mod pod;
mod socket;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use host::isolated::{Namespace, ip, isolated};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::{Network, PodNetwork as _};
use objects::ObjectKey;
use serde_json::{Value, json};

use crate::Config;
use crate::act::act;
use crate::facts::{NodeFacts, World};
use crate::ids::Ids;
use crate::maps::{BpfMaps, Maps as _};
use crate::plan::plan;
use crate::state::MapSet;
use pod::Pod;

const NODE_IP: &str = "192.168.77.1";
const OUTSIDE_IP: &str = "192.168.77.9";

/// Runs `body` on a node of its own. `test` is the path of the calling test in this binary.
fn on_a_node(test: &str, body: fn(&mut TestNode)) {
    isolated(test, |cgroup| body(&mut TestNode::new(cgroup)));
}

/// A node: this process, in namespaces and a cgroup of its own, with a link to the outside.
struct TestNode {
    config: Config,
    maps: BpfMaps,
    actual: MapSet,
    ids: Ids,
    world: World,
    nodes: Vec<Node>,
    network: Network,
    /// Drives the network's netlink connections.
    runtime: tokio::runtime::Runtime,
    outside: Namespace,
}

impl TestNode {
    fn new(cgroup: &str) -> Self {
        let cgroup = host::cgroup::v2_mount().unwrap().join(cgroup);
        join(&cgroup.join("node"));
        let outside = Namespace::new();
        let not_ours = cgroup.join("outside");
        outside.run(move || join(&not_ours));
        make_uplink(&outside);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let network = runtime.block_on(Network::open(network_config())).unwrap();
        let cidrs = ["10.244.0.0/24", "fd00:244::/64"].map(|cidr| cidr.parse().unwrap());
        network.set_pod_cidrs(&cidrs);
        let config = Config {
            node_name: "n1".to_owned(),
            bpffs_dir: PathBuf::from("/run/skeg/bpf"),
            cgroup2_dir: cgroup.join("node"),
            node_addresses: vec![NODE_IP.parse().unwrap(), "fd77::1".parse().unwrap()],
            own_addresses: Vec::new(),
            uplinks: network.uplinks().to_vec(),
            masquerade_pods: true,
            frontends_max: 4096,
            backends_max: 4096,
        };
        let maps = BpfMaps::open(&config).unwrap();
        let (actual, ids, world) = (MapSet::default(), Ids::default(), World::default());
        Self { config, maps, actual, ids, world, nodes: Vec::new(), network, runtime, outside }
    }

    /// A new pod; the first has the address 10.244.0.2, the second .3, and so on.
    fn pod(&mut self) -> Pod {
        let namespace = Namespace::new();
        let uid = format!("uid-{}", namespace.tid());
        let attached = self.network.attach(&uid, namespace.path());
        let ips = self.runtime.block_on(attached).unwrap();
        Pod::new(namespace, ips)
    }

    /// Sets the Service `ns/name` and its endpoints, all on port 8080 of both protocols.
    fn serve(&mut self, name: &str, spec: Value, endpoints: &[&Pod]) {
        let ips: Vec<IpAddr> = endpoints.iter().flat_map(|pod| pod.ips.clone()).collect();
        let slices = ["IPv4", "IPv6"].map(|family| slice(name, family, &ips));
        let key = ObjectKey::new("ns", name);
        let service: Service = serde_json::from_value(json!({ "spec": spec })).unwrap();
        self.world.set_service(&key, Some(&service));
        for slice in slices {
            let key = ObjectKey::new("ns", slice.metadata.name.as_deref().unwrap());
            self.world.set_slice(&key, Some(&slice), Some(&slice));
        }
        self.write();
    }

    /// Makes a pod of another node the only endpoint of the Service `ns/name`.
    fn place_elsewhere(&mut self, name: &str, pod: &Pod) {
        let mut slice = slice(name, "IPv4", &pod.ips);
        for endpoint in slice.endpoints.iter_mut().flatten() {
            endpoint.node_name = Some("n2".to_owned());
        }
        let key = ObjectKey::new("ns", slice.metadata.name.as_deref().unwrap());
        self.world.set_slice(&key, Some(&slice), Some(&slice));
        self.write();
    }

    /// Sets the addresses and the pod ranges of the cluster's nodes.
    fn set_nodes(&mut self, ips: &[&str], cidrs: &[&str]) {
        let addresses: Vec<Value> =
            ips.iter().map(|ip| json!({ "type": "InternalIP", "address": ip })).collect();
        let node = json!({
            "metadata": { "name": "any" }, "spec": { "podCIDRs": cidrs },
            "status": { "addresses": addresses },
        });
        self.nodes = vec![serde_json::from_value(node).unwrap()];
        self.write();
    }

    fn write(&mut self) {
        let node = NodeFacts::of(&self.config, &self.nodes);
        let desired = plan(&self.world, &node, &mut self.ids);
        act(&mut self.maps, &mut self.actual, &desired).unwrap();
        let orphans = self.maps.take_orphans(&self.actual).unwrap();
        crate::sockets::destroy(&orphans, &self.network.namespaces()).unwrap();
        self.ids.keep(&desired);
    }

    /// Another agent takes over from this one.
    fn restart(&mut self) {
        self.maps = BpfMaps::open(&self.config).unwrap();
        self.actual = self.maps.read().unwrap();
        self.ids = Ids::recover(&self.actual);
    }
}

fn slice(service: &str, family: &str, ips: &[IpAddr]) -> EndpointSlice {
    let of_family = ips.iter().filter(|ip| ip.is_ipv6() == (family == "IPv6"));
    let endpoints: Vec<Value> =
        of_family.map(|ip| json!({ "addresses": [ip], "nodeName": "n1" })).collect();
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "ns", "name": format!("{service}-{family}"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "ports": [
            { "name": "tcp", "port": 8080 },
            { "name": "udp", "port": 8080, "protocol": "UDP" },
        ],
        "endpoints": endpoints,
    }))
    .unwrap()
}

/// A Service with a TCP and a UDP port 80.
fn ports() -> Value {
    json!([{ "name": "tcp", "port": 80 }, { "name": "udp", "port": 80, "protocol": "UDP" }])
}

/// Links the node to the outside, and waits until packets pass: first ones are lost while a link
/// comes up, and IPv6 neighbours are not looked for while its own address is being checked.
fn make_uplink(outside: &Namespace) {
    let no_dad = || std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
    no_dad();
    outside.run(no_dad);
    ip(&format!("link add uplink type veth peer name eth0 netns {}", outside.tid()));
    ip(&format!("addr add {NODE_IP}/24 dev uplink"));
    ip("addr add fd77::1/64 dev uplink nodad");
    ip("link set uplink up");
    outside.run(|| {
        ip("link set lo up");
        ip(&format!("addr add {OUTSIDE_IP}/24 dev eth0"));
        ip("addr add fd77::9/64 dev eth0 nodad");
        ip("link set eth0 up");
    });
    let is_up = |link: &str| {
        let state = ip(&format!("link show {link}"));
        if state.contains("state UP") { Ok(()) } else { Err(state) }
    };
    host::wait_for("uplink", pod::PATIENCE, || is_up("uplink")).unwrap();
    outside.run(move || host::wait_for("eth0", pod::PATIENCE, || is_up("eth0")).unwrap());
}

/// Puts the calling thread, and those it will start, into a cgroup. Clients outside must not be in
/// the node's, or its socket programs would translate for them.
fn join(cgroup: &Path) {
    std::fs::create_dir_all(cgroup).unwrap();
    std::fs::write(cgroup.join("cgroup.type"), "threaded").unwrap();
    std::fs::write(cgroup.join("cgroup.threads"), "0").unwrap();
}

fn network_config() -> network::Config {
    network::Config {
        node_name: "n1".to_owned(),
        state_dir: "/run/skeg/network".into(),
        node_addresses: vec![NODE_IP.parse().unwrap()],
        own_addresses: Vec::new(),
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        mtu_bytes: None,
        set_sysctls: true,
    }
}
