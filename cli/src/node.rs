//! The node half of the process: the same on a server and on an agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dns::Dns;
use images::ImageStore;
use ipnet::IpNet;
use network::Network;
use runtime::{LinuxRuntime, Runtime};
use services::Services;
use tracing::info;

use crate::debug::{Dump, Part};
use crate::pki::Serving;
use crate::settings::Config;
use crate::supervisor::Supervisor;

/// Whom the node trusts, and what it shows.
pub(crate) struct Trust {
    /// The cluster's authority, PEM.
    pub(crate) authority_pem: String,
    /// The kubelet's serving certificate.
    pub(crate) serving: Arc<Serving>,
}

/// Most Service ports and endpoints that the BPF tables hold: upstream's tested limits are 10,000
/// Services and 250,000 endpoints; a table of 65,536 costs a few MiB of kernel memory when full.
const FRONTENDS_MAX: u32 = 65_536;
const BACKENDS_MAX: u32 = 65_536;

/// Containers being started at the same time: a start waits mostly for the kernel, so two for each
/// of a small machine's cores.
const PARALLEL_STARTS_MAX: usize = 8;
/// Container logs: upstream's 10 MiB, five files.
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_MAX_FILES: u32 = 5;
/// Kept for the node itself: the agent and the kernel's share of it.
const RESERVED: kubelet::Reserved = kubelet::Reserved { cpu_millis: 50, memory_bytes: 128 << 20 };
/// Where the API server reaches the kubelet.
const KUBELET_PORT: u16 = 10250;

/// Starts everything that a node runs, and returns its dumps.
pub(crate) async fn start(
    config: &Config,
    client: kube::Client,
    trust: Trust,
    supervisor: &mut Supervisor,
) -> Result<BTreeMap<Part, Dump>> {
    let shutdown = supervisor.shutdown();
    let network = Network::open(network_config(config)?).await.context("open the pod network")?;
    let services_config = services_config(config, &network)?;
    let services = tokio::task::spawn_blocking(move || Services::open(services_config))
        .await
        .context("open the Services' BPF maps")?
        .context("open the Services' BPF maps")?;
    // Pods' own sockets to a backend that is gone are ended too, in their namespaces.
    services.set_network(network.clone());
    let services = Arc::new(services);
    let runtime =
        LinuxRuntime::open(runtime_config(config)).await.context("open the container runtime")?;
    info!(cgroups = runtime.cgroup_layout(), "the container runtime is open");
    let images = ImageStore::open(images::Config {
        plain_http_registries: config.plain_http_registries.clone(),
        ..images::Config::new(crate::image::folder(&config.data_dir))
    })
    .await
    .context("open the image store")?;

    // One view of each kind for the whole node.
    let dns_views = dns::Views::reflect(&client, &shutdown);
    let nodes = network::reflect_nodes(&client, &shutdown);
    let views = services::Views {
        services: dns_views.services.clone(),
        slices: dns_views.slices.clone(),
        nodes: nodes.clone(),
    };
    let deps = kubelet::Deps {
        client: client.clone(),
        runtime: Arc::new(runtime.clone()),
        images: Arc::new(images),
        network: Arc::new(network.clone()),
        services: views.services.clone(),
    };
    let kubelet_config = kubelet_config(config, &trust, services.host_ports())?;
    let dns = Arc::new(Dns::new(dns_config(config)).context("set up cluster DNS")?);

    let (running, token) = (network, shutdown.clone());
    supervisor.start("network", async move { running.run(nodes, token).await.map_err(Into::into) });
    let (running, token) = (Arc::clone(&services), shutdown.clone());
    supervisor
        .start("services", async move { running.run(views, token).await.map_err(Into::into) });
    let (running, token) = (Arc::clone(&dns), shutdown.clone());
    supervisor.start("dns", async move { running.run(dns_views, token).await.map_err(Into::into) });
    supervisor.start("kubelet", async move {
        kubelet::run(kubelet_config, deps, shutdown).await.map_err(Into::into)
    });
    Ok(dumps(services, dns, runtime))
}

fn dumps(services: Arc<Services>, dns: Arc<Dns>, runtime: LinuxRuntime) -> BTreeMap<Part, Dump> {
    let mut dumps: BTreeMap<Part, Dump> = BTreeMap::new();
    dumps.insert(
        Part::Services,
        Arc::new(move || {
            let services = Arc::clone(&services);
            Box::pin(async move { services.dump() })
        }),
    );
    dumps.insert(
        Part::Dns,
        Arc::new(move || {
            let dns = Arc::clone(&dns);
            Box::pin(async move { dns.dump() })
        }),
    );
    dumps.insert(
        Part::Pods,
        Arc::new(move || {
            let runtime = runtime.clone();
            Box::pin(async move {
                match runtime.observe().await {
                    Ok(sandboxes) => crate::pods_dump::text(&sandboxes),
                    Err(error) => format!("failed to observe: {error}"),
                }
            })
        }),
    );
    dumps
}

fn runtime_config(config: &Config) -> runtime::Config {
    runtime::Config {
        run_dir: config.run_dir.join("runtime"),
        cgroup_root: config.cgroup_root.clone(),
        cgroup2_root: None,
        executable: PathBuf::from("/proc/self/exe"),
        parallel_starts_max: PARALLEL_STARTS_MAX,
    }
}

fn dns_config(config: &Config) -> dns::Config {
    dns::Config {
        domain: config.cluster_domain.clone(),
        addresses: vec![SocketAddr::new(config.cluster_dns, 53)],
        upstreams: Vec::new(),
        stub_domains: Vec::new(),
        resolv_conf: PathBuf::from(RESOLV_CONF),
        hold_dir: Some(config.run_dir.join("dns")),
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

fn kubelet_config(
    config: &Config,
    trust: &Trust,
    host_ports: services::HostPorts,
) -> Result<kubelet::Config> {
    let any: IpAddr = match config.node_ip {
        IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
        IpAddr::V6(_) => IpAddr::from([0_u16; 8]),
    };
    let data_dir = config.data_dir.join("kubelet");
    Ok(kubelet::Config {
        node_name: config.node_name.clone(),
        node_ips: vec![config.node_ip],
        node_labels: config.node_labels.iter().cloned().collect(),
        static_pods_dir: Some(config.data_dir.join("manifests")),
        pods_max: config.max_pods,
        pod_pids_max: None,
        cluster_dns: vec![config.cluster_dns],
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: PathBuf::from(RESOLV_CONF),
        seccomp_dir: data_dir.join("seccomp"),
        data_dir,
        reserved: RESERVED,
        eviction_hard: config.eviction_hard,
        unsafe_sysctls: Vec::new(),
        log_max_bytes: LOG_MAX_BYTES,
        log_max_files: LOG_MAX_FILES,
        registry_credentials: BTreeMap::new(),
        server: kubelet::ServerConfig {
            listen: SocketAddr::new(any, KUBELET_PORT),
            tls: Arc::new(trust.serving.tls(&trust.authority_pem, true)?),
            client_names: vec!["system:kube-apiserver-kubelet-client".into()],
            client_organizations: vec!["system:masters".into()],
        },
        host_ports: Arc::new(NodePorts(host_ports)),
        version: format!("v1.36.2+skeg-{}", env!("CARGO_PKG_VERSION")),
        lease_period: Duration::from_secs(10),
        status_period: Duration::from_secs(5 * 60),
    })
}

/// Host ports of pods, served by the Services' programs.
struct NodePorts(services::HostPorts);

impl kubelet::HostPorts for NodePorts {
    fn set(&self, pod_uid: &str, ports: Vec<kubelet::HostPort>) {
        self.0.set(pod_uid, ports.into_iter().filter_map(host_port).collect());
    }
}

/// A host port as the Services' tables hold it; `None` for a protocol they do not serve.
fn host_port(port: kubelet::HostPort) -> Option<services::HostPort> {
    Some(services::HostPort {
        host_ip: port.host_ip,
        host_port: port.host_port,
        protocol: services::Protocol::parse(&port.protocol)?,
        pod_ips: port.pod_ips,
        container_port: port.container_port,
    })
}

fn service_cidr(config: &Config) -> Result<IpNet> {
    config.service_cidr.parse().with_context(|| format!("--service-cidr {:?}", config.service_cidr))
}

fn network_config(config: &Config) -> Result<network::Config> {
    Ok(network::Config {
        node_name: config.node_name.clone(),
        state_dir: config.run_dir.join("network"),
        node_addresses: vec![config.node_ip],
        own_addresses: vec![config.cluster_dns],
        service_cidrs: vec![service_cidr(config)?],
        mtu_bytes: None,
        set_sysctls: true,
    })
}

fn services_config(config: &Config, network: &Network) -> Result<services::Config> {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    Ok(services::Config {
        node_name: config.node_name.clone(),
        bpffs_dir: config.run_dir.join("bpf"),
        cgroup2_dir: service_cgroup(config)?,
        node_addresses: vec![config.node_ip, loopback],
        own_addresses: vec![config.cluster_dns],
        uplinks: network.uplinks().to_vec(),
        masquerade_pods: true,
        frontends_max: FRONTENDS_MAX,
        backends_max: BACKENDS_MAX,
    })
}

/// The cgroup v2 folder in which Services work.
fn service_cgroup(config: &Config) -> Result<PathBuf> {
    if let Some(folder) = &config.service_cgroup {
        return Ok(folder.clone());
    }
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("cgroup.controllers").exists())
        .context("no cgroup v2 hierarchy: `skeg check` says how to get one")
}
