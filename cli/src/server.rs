//! `skeg server`: the control plane and, unless told otherwise, a node.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::ApiServer;
use apiserver::admission::optional::AdmissionConfig;
use informer::{Object, Source, View, reflect};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tracing::info;

use crate::debug::{Dump, Part};
use crate::encryption::ConfigFile;
use crate::identities::Identities;
use crate::pki::Serving;
use crate::settings::{AuditSettings, Config};
use crate::supervisor::Supervisor;
use crate::{check, debug, kubeconfig, node, signer, token};

/// How long Events are kept: upstream's hour.
const EVENT_TTL: Duration = Duration::from_secs(60 * 60);
/// A node that is silent so long counts as unreachable: upstream's.
const NODE_GRACE: Duration = Duration::from_secs(40);
/// Finished pods that are kept: upstream's `--terminated-pod-gc-threshold`.
const FINISHED_PODS_MAX: usize = 12_500;
/// Node ports, as upstream.
const NODE_PORTS: (u16, u16) = (30000, 32767);

/// Runs until shutdown is asked for or a component fails.
pub(crate) async fn run(config: Config) -> Result<()> {
    if !config.disable_node {
        check::require()?;
    }
    for folder in [config.data_dir.join("server"), config.run_dir.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut supervisor = Supervisor::new()?;
    let store = open_store(&config, &mut supervisor).await?;
    let service_cidr: IpNet = config
        .service_cidr
        .parse()
        .with_context(|| format!("--service-cidr {:?}", config.service_cidr))?;
    let service_ip =
        service_cidr.hosts().next().context("--service-cidr has no room for a Service")?;
    let identities = Identities::open(&config, service_ip)?;
    let api_config = api_config(&config, service_cidr, &identities)?;
    let api = ApiServer::start(api_config, store.clone(), kinds::builtin(), supervisor.shutdown())
        .await
        .context("start the API server")?;
    let api_serving = serve_api(&config, &identities, &api, &mut supervisor).await?;
    write_kubeconfig(&config, &identities)?;
    start_control_plane(&config, &identities, &api, &mut supervisor).await?;

    let mut dumps: BTreeMap<Part, Dump> = BTreeMap::new();
    let dumped = store.clone();
    dumps.insert(
        Part::Store,
        Arc::new(move || {
            let text = dumped.describe("");
            Box::pin(async move { text })
        }),
    );
    let kubelet_serving = Serving::new(&identities.kubelet_serving()?)?;
    if !config.disable_node {
        let node_user = format!("system:node:{}", config.node_name);
        let client = client(&api, &node_user, &["system:nodes"]);
        let trust = node::Trust {
            authority_pem: identities.authority.certificate_pem().to_string(),
            serving: Arc::clone(&kubelet_serving),
        };
        dumps.extend(node::start(&config, client, trust, &mut supervisor).await?);
    }
    let shutdown = supervisor.shutdown();
    supervisor.start("debug socket", debug::serve(config.run_dir.clone(), dumps, shutdown));
    let shutdown = supervisor.shutdown();
    supervisor.start("certificates", async move {
        identities.keep_current(api_serving, kubelet_serving, shutdown).await;
        Ok(())
    });
    let outcome = supervisor.wait().await;
    store.close().await;
    outcome
}

async fn open_store(config: &Config, supervisor: &mut Supervisor) -> Result<store::Store> {
    let folder = config.data_dir.join("server/store");
    let encryption = config.encryption_config.as_deref().map(ConfigFile::read).transpose()?;
    let in_force = encryption.as_ref().map(|file| Arc::clone(&file.encryption)).unwrap_or_default();
    let options = store::Options::default();
    let store = match &config.etcd {
        None => {
            let backend = store::EmbeddedBackend::open_encrypted(&folder, in_force)
                .await
                .with_context(|| format!("open the store in {}", folder.display()))?;
            store::Store::open(Box::new(backend), options)
                .await
                .with_context(|| format!("load the store in {}", folder.display()))?
        }
        Some(etcd) => {
            let endpoints = etcd.endpoints.join(",");
            let backend = store::EtcdBackend::open(etcd.clone())
                .await
                .with_context(|| format!("open the store in etcd at {endpoints}"))?;
            store::Store::open_shared(Arc::new(backend.encrypted(in_force)), options)
                .await
                .with_context(|| format!("load the store from etcd at {endpoints}"))?
        }
    };
    if let Some(file) = encryption {
        let (store, shutdown) = (store.clone(), supervisor.shutdown());
        supervisor.start("encryption", async move {
            file.follow(store, shutdown).await;
            Ok(())
        });
    }
    Ok(store)
}

/// What the API server is told.
fn api_config(
    config: &Config,
    service_cidr: IpNet,
    identities: &Identities,
) -> Result<apiserver::Config> {
    Ok(apiserver::Config {
        advertise_address: config.node_ip,
        advertise_port: config.api_port,
        service_cidrs: vec![service_cidr],
        node_ports: NODE_PORTS,
        cluster_domain: config.cluster_domain.clone(),
        cluster_ca_pem: identities.authority.certificate_pem().to_string(),
        service_account_issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
        service_account_key_pem: identities.service_account_key_pem.clone(),
        anonymous: true,
        kubelet_tls: identities.kubelet_client_tls()?,
        event_ttl: EVENT_TTL,
        admission: AdmissionConfig { rules: config.admission_rules.iter().copied().collect() },
        audit: config.audit.as_ref().map(audit_config).transpose()?,
        build: "skeg".into(),
    })
}

fn audit_config(settings: &AuditSettings) -> Result<apiserver::audit::AuditConfig> {
    let path = settings.policy.display();
    let text = fs::read_to_string(&settings.policy)
        .with_context(|| format!("read audit policy {path}"))?;
    let policy = apiserver::audit::Policy::parse(&text).with_context(|| format!("in {path}"))?;
    Ok(apiserver::audit::AuditConfig { policy, log: settings.log.clone() })
}

async fn serve_api(
    config: &Config,
    identities: &Identities,
    api: &ApiServer,
    supervisor: &mut Supervisor,
) -> Result<Arc<Serving>> {
    let serving = Serving::new(&identities.api_serving()?)?;
    let tls = Arc::new(serving.tls(identities.authority.certificate_pem(), false)?);
    // All addresses of the primary family: clients come from the node, its pods and outside.
    let any: IpAddr = match config.node_ip {
        IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
        IpAddr::V6(_) => IpAddr::from([0_u16; 8]),
    };
    let address = SocketAddr::new(any, config.api_port);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let (api, shutdown) = (api.clone(), supervisor.shutdown());
    supervisor.start("API", async move {
        api.serve(listener, tls, shutdown).await.context("serve the API")
    });
    info!(%address, "the API answers");
    Ok(serving)
}

fn write_kubeconfig(config: &Config, identities: &Identities) -> Result<()> {
    let address = SocketAddr::new(config.node_ip, config.api_port);
    let text = kubeconfig::text(
        &format!("https://{address}"),
        identities.authority.certificate_pem(),
        "kubernetes-admin",
        &identities.admin()?,
    );
    let own = config.data_dir.join("server/admin.kubeconfig");
    for path in [&own, &config.kubeconfig] {
        crate::pki::write_private(path, &text)?;
    }
    Ok(())
}

/// A client inside this process, as a user.
fn client(api: &ApiServer, user: &str, groups: &[&str]) -> kube::Client {
    kube::Client::new(api.client_service(user, groups), "default")
}

/// A view of all objects of a kind.
fn view<K: Object + k8s_openapi::Resource>(
    client: &kube::Client,
    supervisor: &Supervisor,
) -> View<K> {
    reflect(client.clone(), Source::of::<K>(), Vec::new(), supervisor.shutdown())
}

async fn start_control_plane(
    config: &Config,
    identities: &Identities,
    api: &ApiServer,
    supervisor: &mut Supervisor,
) -> Result<()> {
    let pod_cidr: IpNet = config
        .cluster_cidr
        .parse()
        .with_context(|| format!("--cluster-cidr {:?}", config.cluster_cidr))?;
    let controllers = controllers::Config {
        root_ca_pem: identities.authority.certificate_pem().to_string(),
        pod_cidrs: vec![pod_cidr],
        // As upstream: 254 pods of a node, 256 nodes of the default range.
        node_prefix_v4: 24,
        node_prefix_v6: 64,
        node_grace: NODE_GRACE,
        finished_pods_max: FINISHED_PODS_MAX,
    };
    let client_of_controllers = client(api, "system:kube-controller-manager", &["system:masters"]);
    let world = controllers::World::reflect(&client_of_controllers, &supervisor.shutdown());
    // One view of each kind for the whole control plane: the cluster's state is in memory once.
    let views = scheduler::Views {
        pods: world.pods.clone(),
        nodes: world.nodes.clone(),
        namespaces: world.namespaces.clone(),
        volumes: view(&client_of_controllers, supervisor),
        claims: view(&client_of_controllers, supervisor),
        budgets: view(&client_of_controllers, supervisor),
    };
    let shutdown = supervisor.shutdown();
    supervisor.start("controllers", async move {
        controllers::run(controllers, client_of_controllers, world, shutdown).await;
        Ok(())
    });
    let client_of_scheduler = client(api, "system:kube-scheduler", &["system:masters"]);
    let scheduler = scheduler::Config { scheduler_name: "default-scheduler".into() };
    let shutdown = supervisor.shutdown();
    supervisor.start("scheduler", async move {
        scheduler::run(scheduler, client_of_scheduler, views, shutdown).await;
        Ok(())
    });
    let client_of_signer = client(api, "system:kube-controller-manager", &["system:masters"]);
    let authority = Arc::clone(&identities.authority);
    let shutdown = supervisor.shutdown();
    supervisor.start("signer", signer::run(client_of_signer, authority, shutdown));
    let join = token::lasting(
        &config.data_dir.join("server/node-token"),
        identities.authority.certificate_pem(),
    )?;
    let admin = client(api, "kubernetes-admin", &["system:masters"]);
    token::allow_joining(&admin).await?;
    token::publish(&admin, &join, Duration::ZERO).await
}
