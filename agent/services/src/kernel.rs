//! Tests against the real kernel: programs attached to a cgroup of their own, namespaces as pods.
//!
//! Each test runs in a process of its own, in its own network and mount namespace and its own
//! cgroup, all of which are gone when it ends, however it ends.

mod pod;
mod socket;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
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

/// Names the cgroup of the process that carries out a test.
const CGROUP: &str = "SKEG_TEST_CGROUP";
const NODE_IP: &str = "192.168.77.1";

/// Removes the test's cgroup, and whatever still runs in it.
struct Cgroup(String);

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = host::cgroup::remove(&self.0) {
            eprintln!("cgroup {} stays: {error:#}", self.0);
        }
    }
}

/// Runs `body` on a node of its own. `test` is the path of the calling test in this binary.
fn on_a_node(test: &str, body: fn(&mut TestNode)) {
    if std::env::var_os(CGROUP).is_some() {
        return body(&mut TestNode::new());
    }
    let cgroup = Cgroup(format!("skeg-test-svc-{}-{}", std::process::id(), test.len()));
    let test = test.split_once("::").expect("a test is in a crate").1;
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CGROUP, &cgroup.0)
        .output()
        .unwrap();
    let streams = [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
    assert!(output.status.success(), "{}{}", streams[0], streams[1]);
    assert!(streams[0].contains("1 passed"), "{test} did not run:\n{}", streams[0]);
}

/// A node: this process, in namespaces and a cgroup of its own.
struct TestNode {
    config: Config,
    maps: BpfMaps,
    actual: MapSet,
    ids: Ids,
    world: World,
}

impl TestNode {
    fn new() -> Self {
        let cgroup = std::env::var(CGROUP).unwrap();
        host::cgroup::join_v2(&cgroup, 0).unwrap();
        // Nothing of this test shows up in the machine's /run.
        ip_run("mount", &["-t", "tmpfs", "none", "/run"]);
        ip("link set lo up");
        ip("link add pods0 type bridge");
        ip("link set pods0 up");
        ip("addr add 10.244.0.1/24 dev pods0");
        ip("addr add fd00:244::1/64 dev pods0 nodad");
        ip(&format!("addr add {NODE_IP}/32 dev lo"));
        let config = Config {
            node_name: "n1".to_owned(),
            bpffs_dir: PathBuf::from("/run/skeg/bpf"),
            cgroup2_dir: host::cgroup::v2_mount().unwrap().join(cgroup),
            node_addresses: vec![NODE_IP.parse().unwrap()],
            own_addresses: Vec::new(),
            uplinks: Vec::new(),
            masquerade_pods: false,
            frontends_max: 4096,
            backends_max: 4096,
        };
        let maps = BpfMaps::open(&config).unwrap();
        Self {
            config,
            maps,
            actual: MapSet::default(),
            ids: Ids::default(),
            world: World::default(),
        }
    }

    /// Sets the Service `ns/name` and its endpoints, all on port 8080 of both protocols.
    fn serve(&mut self, name: &str, spec: Value, endpoints: &[&Pod]) {
        let ips: Vec<IpAddr> = endpoints.iter().map(|pod| pod.ip).collect();
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

    fn write(&mut self) {
        let node = NodeFacts::of(&self.config, None);
        let desired = plan(&self.world, &node, &mut self.ids);
        act(&mut self.maps, &mut self.actual, &desired).unwrap();
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

fn ip(arguments: &str) {
    ip_run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn ip_run(program: &str, arguments: &[&str]) {
    host::command::run_args(program, arguments).unwrap();
}
