//! A control plane for one test.

use std::sync::Arc;
use std::time::Duration;

use apiserver::ApiServer;
use controllers::World;
use informer::{Object, Source, View, reflect};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use objects::ObjectKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything: many times what an unloaded machine needs.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pods: View<Pod>,
    shutdown: CancellationToken,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Cluster {
    pub(crate) async fn start(nodes: &[&str]) -> Self {
        drop(
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_test_writer()
                .try_init(),
        );
        let shutdown = CancellationToken::new();
        let store = store::Store::in_memory().await;
        let api = ApiServer::start(api_config(), store, kinds::builtin(), shutdown.clone())
            .await
            .expect("the server starts");
        let client_of =
            |user: &str| Client::new(api.client_service(user, &["system:masters"]), "default");
        let client = client_of("kubernetes-admin");
        let world = World::reflect(&client_of("system:kube-controller-manager"), &shutdown);
        let views = scheduler::Views {
            pods: world.pods.clone(),
            nodes: world.nodes.clone(),
            namespaces: world.namespaces.clone(),
            volumes: world.volumes.clone(),
            claims: world.claims.clone(),
            budgets: world.disruption_budgets.clone(),
        };
        let controllers = controllers::run(
            controllers_config(),
            client_of("system:kube-controller-manager"),
            world,
            shutdown.clone(),
        );
        let scheduler = scheduler::run(
            scheduler::Config { scheduler_name: "default-scheduler".into() },
            client_of("system:kube-scheduler"),
            views,
            shutdown.clone(),
        );
        let source = Source::of::<Pod>();
        let pods = reflect(client.clone(), source, Vec::new(), shutdown.clone());
        let kubelets = play_kubelets(client.clone(), pods.clone());
        let stop = shutdown.clone();
        let kubelets = async move {
            tokio::select! {
                () = kubelets => {}
                () = stop.cancelled() => {}
            }
        };
        let running =
            vec![tokio::spawn(controllers), tokio::spawn(scheduler), tokio::spawn(kubelets)];
        let cluster = Self { client, pods, shutdown, running };
        for node in nodes {
            cluster.add_node(node).await;
        }
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        cluster.wait(account, "there", |account| !account["metadata"]["name"].is_null()).await;
        cluster
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for task in self.running {
            task.await.expect("no component panics");
        }
    }

    /// A node that is Ready and has a range, with room for 110 pods.
    pub(crate) async fn add_node(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.create("/api/v1/nodes", node).await;
        let path = format!("/api/v1/nodes/{name}");
        let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let status = json!({"status": {
            "capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastHeartbeatTime": now(), "lastTransitionTime": now()}],
        }});
        self.merge(&format!("{path}/status"), status).await;
        self.wait(&path, "admits pods", |node| {
            let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
            taints == 0 && node["spec"]["podCIDR"].is_string()
        })
        .await;
    }

    /// A request that has to work. One that another writer overtook is made again.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        form: &str,
        body: &Value,
    ) -> Value {
        loop {
            match send(&self.client, method, path, form, body).await {
                Ok(answer) => return answer,
                Err(kube::Error::Api(status)) if status.reason == "Conflict" => {}
                Err(error) => panic!("{method} {path}: {error}"),
            }
        }
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        self.request("POST", path, "application/json", &object).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Value {
        self.request("PATCH", path, "application/merge-patch+json", &patch).await
    }

    pub(crate) async fn strategic(&self, path: &str, patch: Value) -> Value {
        self.request("PATCH", path, "application/strategic-merge-patch+json", &patch).await
    }

    pub(crate) async fn delete(&self, path: &str, options: Value) -> Value {
        self.request("DELETE", path, "application/json", &options).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request("GET", path, "application/json", &Value::Null).await
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        match send(&self.client, "GET", path, "application/json", &Value::Null).await {
            Ok(value) => Some(value),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        self.get(path).await["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until an object (or list) is as wanted. Polls: a test may look at anything.
    pub(crate) async fn wait(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) {
        let begun = tokio::time::Instant::now();
        loop {
            let value = self.try_get(path).await.unwrap_or(Value::Null);
            if wanted(&value) {
                return;
            }
            if begun.elapsed() > WAIT_MAX {
                let pods = self.list("/api/v1/pods").await;
                panic!("{path}: not {what}:\n{value:#}\n{} pods: {:#}", pods.len(), json!(pods));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn wait_count(&self, path: &str, count: usize) {
        let items = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
        self.wait(path, &format!("{count} items"), |list| items(list) == count).await;
    }

    pub(crate) async fn wait_gone(&self, path: &str) {
        self.wait(path, "gone", Value::is_null).await;
    }

    /// Waits until the pod has a node, as a watcher sees it.
    pub(crate) async fn wait_bound(&self, key: &ObjectKey) {
        let mut progress = self.pods.progress();
        let bound = |pod: Arc<Pod>| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        while !self.pods.get(key).is_some_and(bound) {
            progress.changed().await.expect("the view is fed");
        }
    }
}

async fn send(
    client: &Client,
    method: &str,
    path: &str,
    form: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", form)
        .body(body)
        .expect("a valid request");
    client.request(request).await
}

fn now() -> String {
    objects::time::format_time(jiff::Timestamp::now())
}

/// Says of every bound pod that it runs and is ready, and lets those go that are to go.
async fn play_kubelets(client: Client, pods: View<Pod>) {
    let mut changes = pods.changes();
    let mut last_address = 0_u32;
    while let Some(change) = changes.next().await {
        let changed = match change {
            informer::Change::Resync => pods.list(),
            informer::Change::Object { new, .. } => new.into_iter().collect(),
        };
        for pod in changed {
            let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let path =
                format!("/api/v1/namespaces/{}/pods/{}", pod.key().namespace, pod.key().name);
            if pod.is_terminating() && is_bound {
                let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid()}});
                drop(send(&client, "DELETE", &path, "application/json", &options).await);
            } else if is_bound && phase == Some("Pending") {
                last_address += 1;
                let ip = format!("10.244.{}.{}", last_address / 250, last_address % 250 + 1);
                let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now()});
                let ends = pod.metadata.labels.as_ref().is_some_and(|l| l.contains_key("ends"));
                let phase = if ends { "Succeeded" } else { "Running" };
                let status = json!({"metadata": {"uid": pod.uid()}, "status": {
                    "phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now(),
                    "conditions": [condition("Ready"), condition("ContainersReady"),
                        condition("Initialized"), condition("PodScheduled")],
                }});
                let form = "application/strategic-merge-patch+json";
                let path = format!("{path}/status");
                if let Err(error) = send(&client, "PATCH", &path, form, &status).await {
                    tracing::debug!(%error, path, "status refused");
                }
            }
        }
    }
}

fn controllers_config() -> controllers::Config {
    controllers::Config {
        root_ca_pem: "PEM".into(),
        pod_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
        node_prefix_v4: 24,
        node_prefix_v6: 64,
        node_grace: Duration::from_secs(40),
        finished_pods_max: 12_500,
    }
}

fn api_config() -> apiserver::Config {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let kubelet_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    apiserver::Config {
        advertise_address: "127.0.0.1".parse().expect("an address"),
        advertise_port: 6443,
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        node_ports: (30000, 32767),
        cluster_domain: "cluster.local".into(),
        cluster_ca_pem: "PEM".into(),
        service_account_issuer: "https://kubernetes.default.svc".into(),
        service_account_key_pem: rcgen::KeyPair::generate().expect("a key").serialize_pem(),
        anonymous: true,
        kubelet_tls: Arc::new(kubelet_tls),
        event_ttl: Duration::from_secs(3600),
        admission: apiserver::admission::optional::AdmissionConfig::default(),
        audit: None,
        build: "test".into(),
    }
}
