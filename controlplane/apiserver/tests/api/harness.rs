//! An API server to send requests to, and what is read of its answers.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Config, Service};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Longest wait for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A server, and a client of it with all rights.
pub(crate) struct Api {
    pub(crate) server: ApiServer,
    client: Service,
    shutdown: CancellationToken,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// One whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{body}");
        self.json()
    }
}

impl Api {
    /// Starts a server with the configuration of [`config`].
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server whose configuration `change` has altered.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(store::Store::in_memory().await, change).await
    }

    /// The same on a store of the caller's.
    pub(crate) async fn start_on(store: store::Store, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let shutdown = CancellationToken::new();
        let server = ApiServer::start(config, store, kinds::builtin(), shutdown.clone())
            .await
            .expect("the server starts");
        let client = server.client_service("admin", &["system:masters", "system:authenticated"]);
        Self { server, client, shutdown }
    }

    /// The same server as another user.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Client {
        Client { service: self.server.client_service(user, groups) }
    }

    /// The same server without credentials other than those in the request's headers.
    pub(crate) fn anonymous(&self) -> Client {
        Client { service: self.server.service() }
    }

    /// A client that may do everything.
    pub(crate) fn admin(&self) -> Client {
        Client { service: self.client.clone() }
    }
}

/// Sends requests as one user.
#[derive(Clone)]
pub(crate) struct Client {
    service: Service,
}

impl Client {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// Sends a patch of type `json-patch+json`, `merge-patch+json`, `strategic-merge-patch+json` or
    /// `apply-patch+yaml`.
    pub(crate) async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        let content_type = format!("application/{kind}");
        let headers = [("content-type", content_type.as_str())];
        self.send(Method::PATCH, path, &headers, body.to_string().into()).await
    }

    async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().into()).await
    }

    /// Sends any request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a valid request");
        let Ok(answer) = self.service.clone().oneshot(request).await;
        let (parts, body) = answer.into_parts();
        let body = tokio::time::timeout(BOUND, body.collect()).await.expect("the answer ends");
        let body = body.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

/// A namespace, made; its default service account with it.
pub(crate) async fn namespace(api: &Api, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.admin().post("/api/v1/namespaces", &body).await.expect(201);
    let account = json!({"metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    api.admin().post(&path, &account).await.expect(201);
}

/// The configuration that tests start from.
pub(crate) fn config() -> Config {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let kubelet_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Config {
        advertise_address: "127.0.0.1".parse().expect("an address"),
        advertise_port: 6443,
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        node_ports: (30000, 32767),
        cluster_domain: "cluster.local".into(),
        cluster_ca_pem: String::new(),
        service_account_issuer: "https://kubernetes.default.svc".into(),
        service_account_key_pem: rcgen::KeyPair::generate().expect("a key").serialize_pem(),
        anonymous: true,
        kubelet_tls: Arc::new(kubelet_tls),
        event_ttl: Duration::from_secs(3600),
        admission: apiserver::admission::optional::AdmissionConfig::default(),
        audit: None,
        build: "skeg".into(),
    }
}
