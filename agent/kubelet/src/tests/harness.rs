//! A kubelet with everything around it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use images::ImageConfig;
use images::fake::FakeImages;
use informer::View;
use k8s_openapi::api::core::v1::Service;
use network::{NetworkError, PodNetwork};
use parking_lot::Mutex;
use runtime::fake::FakeRuntime;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use crate::{Config, Deps, EvictionThresholds, NoHostPorts, Reserved, ServerConfig, run};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses by pod.
#[derive(Default)]
struct Network(Mutex<BTreeMap<String, Vec<IpAddr>>>);

impl PodNetwork for Network {
    fn attach<'a>(
        &'a self,
        pod_uid: &'a str,
        _netns: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        let mut pods = self.0.lock();
        let next = u8::try_from(pods.len() + 2).expect("few pods");
        let addresses =
            pods.entry(pod_uid.to_owned()).or_insert_with(|| vec![[10, 1, 0, next].into()]);
        let addresses = addresses.clone();
        Box::pin(async { Ok(addresses) })
    }

    fn detach<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        self.0.lock().remove(pod_uid);
        Box::pin(async { Ok(()) })
    }

    fn addresses(&self, pod_uid: &str) -> Option<Vec<IpAddr>> {
        self.0.lock().get(pod_uid).cloned()
    }
}

/// A node whose agent can be stopped and started.
pub(super) struct TestNode {
    pub(super) api: Api,
    pub(super) runtime: Arc<FakeRuntime>,
    pub(super) images: Arc<FakeImages>,
    network: Arc<Network>,
    folder: tempfile::TempDir,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

pub(super) fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/n/pods/{name}")
}

impl TestNode {
    /// A node with image `app`, whose agent runs.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Arc::new(FakeRuntime::default());
        runtime.set_now(jiff::Timestamp::now().as_nanosecond());
        let images = FakeImages::new(folder.path().join("roots"));
        let config = ImageConfig { cmd: vec!["serve".into()], ..ImageConfig::default() };
        images.publish("app", config);
        let mut node = Self {
            api: Api::new(),
            runtime,
            images: Arc::new(images),
            network: Arc::default(),
            folder,
            agent: None,
        };
        node.start();
        node
    }

    pub(super) fn start(&mut self) {
        let shutdown = CancellationToken::new();
        let deps = Deps {
            client: self.api.client(),
            runtime: Arc::clone(&self.runtime) as _,
            images: Arc::clone(&self.images) as _,
            network: Arc::clone(&self.network) as _,
            services: View::<Service>::fixed([], Vec::new()),
        };
        let (config, token) = (self.config(), shutdown.clone());
        let task = tokio::spawn(async move { run(config, deps, token).await.expect("it begins") });
        self.agent = Some((shutdown, task));
    }

    pub(super) async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.agent.take() {
            shutdown.cancel();
            tokio::time::timeout(PATIENCE, task).await.expect("the agent ends").unwrap();
        }
    }

    fn config(&self) -> Config {
        Config {
            node_name: "node".into(),
            node_ips: vec![[192, 0, 2, 1].into()],
            node_labels: BTreeMap::new(),
            data_dir: self.folder.path().join("data"),
            static_pods_dir: Some(self.folder.path().join("manifests")),
            pods_max: 10,
            pod_pids_max: None,
            cluster_dns: vec![[10, 96, 0, 10].into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            seccomp_dir: "/seccomp".into(),
            reserved: Reserved { cpu_millis: 0, memory_bytes: 0 },
            eviction_hard: EvictionThresholds::default(),
            unsafe_sysctls: Vec::new(),
            log_max_bytes: 1 << 20,
            log_max_files: 2,
            registry_credentials: BTreeMap::new(),
            server: ServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                tls: tls(),
                client_names: Vec::new(),
                client_organizations: Vec::new(),
            },
            host_ports: Arc::new(NoHostPorts),
            version: "v1.36.0".into(),
            lease_period: Duration::from_secs(10),
            status_period: Duration::from_secs(300),
        }
    }

    pub(super) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.folder.path().join("data/pods").join(uid)
    }

    /// Binds a pod of this spec to the node; its uid is `u-NAME`.
    pub(super) fn add_pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "n", "uid": format!("u-{name}"), "generation": 1},
            "spec": spec,
            "status": {"phase": "Pending"},
        });
        self.api.put(&pod_path(name), pod);
    }

    /// Begins the deletion of a pod, as the API server does.
    pub(super) fn delete_pod(&self, name: &str, grace_secs: i64) {
        let mut pod = self.api.get(&pod_path(name)).expect("the pod is there");
        pod["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_secs);
        self.api.put(&pod_path(name), pod);
    }

    /// Waits until the pod meets a condition.
    pub(super) async fn wait_pod(
        &self,
        name: &str,
        what: &str,
        meets: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut revision = self.api_revision();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.api.get(&pod_path(name)).unwrap_or(Value::Null);
            if meets(&pod) {
                return pod;
            }
            let changed = tokio::time::timeout_at(deadline, revision.changed()).await;
            assert!(changed.is_ok(), "waited for {what}, but {name} is {pod:#}");
        }
    }

    fn api_revision(&self) -> tokio::sync::watch::Receiver<u64> {
        self.api.changes()
    }

    /// Waits until a condition holds that nothing announces.
    pub(super) async fn wait(&self, what: &str, meets: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !meets() {
            assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn tls() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}
