//! The node half of the process: the same on a server and on an agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::IpNet;
use network::Network;
use services::Services;

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

/// Starts everything that a node runs, and returns its dumps.
pub(crate) async fn start(
    config: &Config,
    client: kube::Client,
    _trust: Trust,
    supervisor: &mut Supervisor,
) -> Result<BTreeMap<Part, Dump>> {
    let shutdown = supervisor.shutdown();
    let network = Network::open(network_config(config)?).await.context("open the pod network")?;
    let services_config = services_config(config, &network)?;
    let services = tokio::task::spawn_blocking(move || Services::open(services_config))
        .await
        .context("open the Services' BPF maps")?
        .context("open the Services' BPF maps")?;
    let services = Arc::new(services);
    let views = services::Views::reflect(&client, &config.node_name, &shutdown);
    let nodes = network::reflect_nodes(&client, &shutdown);

    let (running, token) = (network.clone(), shutdown.clone());
    supervisor.start("network", async move { running.run(nodes, token).await.map_err(Into::into) });
    let (running, token) = (Arc::clone(&services), shutdown.clone());
    supervisor
        .start("services", async move { running.run(views, token).await.map_err(Into::into) });

    let mut dumps: BTreeMap<Part, Dump> = BTreeMap::new();
    dumps.insert(
        Part::Services,
        Arc::new(move || {
            let services = Arc::clone(&services);
            Box::pin(async move { services.dump() })
        }),
    );
    Ok(dumps)
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
