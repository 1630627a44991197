//! Measures what a Service costs a connection: `connect` to a ClusterIP among 1,000 Services against
//! `connect` to the pod itself, in alternation, on a node and in pods of its own.
//!
//! Prints one line of JSON: medians in microseconds and their ratio.
//! `cargo run --release -p services --example connect_bench`

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use host::isolated::{Namespace, ip};
use network::{Network, PodNetwork as _};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket,
};
use objects::ObjectKey;
use serde_json::json;
use services::{BpfMaps, Config, Ids, MapSet, NodeFacts, World, act, plan};

/// Names the cgroup of the process that measures.
const CGROUP: &str = "SKEG_BENCH_CGROUP";
const SERVICES: u8 = 250;
/// Four Services by each of 250 numbers.
const SERVICES_EACH: u8 = 4;
const ROUNDS: usize = 400;
const CONNECTS_PER_ROUND: usize = 25;
const PORT: u16 = 8080;

fn main() -> ExitCode {
    if let Ok(cgroup) = std::env::var(CGROUP) {
        measure(&cgroup);
        return ExitCode::SUCCESS;
    }
    let cgroup = format!("skeg-bench-connect-{}", std::process::id());
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().expect("a process knows its file"))
        .env(CGROUP, &cgroup)
        .status();
    host::cgroup::remove(&cgroup).expect("remove the bench's cgroup");
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn measure(cgroup: &str) {
    host::cgroup::join_v2(cgroup, 0).expect("join the bench's cgroup");
    host::command::run_args("mount", &["-t", "tmpfs", "none", "/run"]).expect("mount a /run");
    ip("link set lo up");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("start a runtime");
    let (server, client) = (Namespace::new(), Namespace::new());
    let network = runtime.block_on(Network::open(network_config())).expect("open the network");
    network.set_pod_cidrs(&["10.244.0.0/24".parse().expect("a range")]);
    let attach = |pod: &Namespace, uid: &str| {
        let ips = runtime.block_on(network.attach(uid, pod.path())).expect("attach a pod");
        ips.into_iter().next().expect("it has an address")
    };
    let server_ip = attach(&server, "server");
    attach(&client, "client");
    server.run(move || {
        let listener = TcpListener::bind((server_ip, PORT)).expect("listen in the pod");
        thread::spawn(move || listener.incoming().for_each(drop));
    });
    let _maps = serve(cgroup, &server_ip.to_string());

    let direct = server_ip.to_string().parse().expect("an IPv4 address");
    // One in the middle, whatever the order of the table is.
    let service = Ipv4Addr::new(10, 96, 2, 125);
    let (mut direct_nanos, mut service_nanos) = client.run(move || {
        let targets = [SocketAddrV4::new(direct, PORT), SocketAddrV4::new(service, 80)];
        let mut nanos = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for which in [round % 2, (round + 1) % 2] {
                let seen = if which == 0 { &mut nanos.0 } else { &mut nanos.1 };
                seen.extend((0..CONNECTS_PER_ROUND).map(|_| connect_nanos(targets[which])));
            }
        }
        nanos
    });
    let (direct, service) = (median(&mut direct_nanos), median(&mut service_nanos));
    let line = json!({
        "bench": "connect", "services": usize::from(SERVICES) * usize::from(SERVICES_EACH),
        "direct_micros": direct / 1e3, "cluster_ip_micros": service / 1e3,
        "ratio": service / direct,
    });
    println!("{line}");
}

/// Time of one `connect`; the connection is reset at once, so that none waits in TIME_WAIT.
fn connect_nanos(target: SocketAddrV4) -> u64 {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("make a socket");
    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&socket, Linger, &reset).expect("set a socket option");
    let address = SockaddrIn::from(target);
    let start = Instant::now();
    connect(socket.as_raw_fd(), &address).expect("connect");
    u64::try_from(start.elapsed().as_nanos()).expect("it took less than 500 years")
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a connect are far below 2^53")]
fn median(nanos: &mut [u64]) -> f64 {
    nanos.sort_unstable();
    nanos[nanos.len() / 2] as f64
}

/// A thousand Services, all of which lead to the pod.
fn serve(cgroup: &str, endpoint: &str) -> BpfMaps {
    let mut world = World::default();
    for third in 0..SERVICES_EACH {
        for fourth in 0..SERVICES {
            let name = format!("s-{third}-{fourth}");
            let service = json!({
                "spec": { "clusterIP": format!("10.96.{third}.{fourth}"), "ports": [{ "port": 80 }] },
            });
            let slice = json!({
                "metadata": {
                    "namespace": "ns", "labels": { "kubernetes.io/service-name": name },
                },
                "addressType": "IPv4", "ports": [{ "name": "", "port": PORT }],
                "endpoints": [{ "addresses": [endpoint] }],
            });
            let key = ObjectKey::new("ns", &name);
            world.set_service(&key, Some(&serde_json::from_value(service).expect("a Service")));
            let slice = serde_json::from_value(slice).expect("an EndpointSlice");
            world.set_slice(&key, None, Some(&slice));
        }
    }
    let config = Config {
        node_name: "n1".to_owned(),
        bpffs_dir: "/run/skeg/bpf".into(),
        cgroup2_dir: host::cgroup::v2_mount().expect("cgroup v2").join(cgroup),
        node_addresses: Vec::new(),
        own_addresses: Vec::new(),
        uplinks: Vec::new(),
        masquerade_pods: false,
        frontends_max: 65_536,
        backends_max: 65_536,
    };
    let mut maps = BpfMaps::open(&config).expect("load the programs");
    let desired = plan(&world, &NodeFacts::of(&config, []), &mut Ids::default());
    act(&mut maps, &mut MapSet::default(), &desired).expect("write the maps");
    maps
}

fn network_config() -> network::Config {
    network::Config {
        node_name: "n1".to_owned(),
        state_dir: "/run/skeg/network".into(),
        node_addresses: Vec::new(),
        own_addresses: Vec::new(),
        service_cidrs: Vec::new(),
        mtu_bytes: None,
        set_sysctls: true,
    }
}
