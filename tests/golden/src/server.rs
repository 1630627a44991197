//! The server under test: the API with its controllers, no scheduler and no node, as in the
//! recording.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Config, Service, User};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;

/// A running server.
pub struct Server {
    service: Service,
    user: User,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    /// Starts a server.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        let shutdown = CancellationToken::new();
        let store = store::Store::in_memory().await;
        let api = ApiServer::start(config(), store, kinds::builtin(), shutdown.clone())
            .await
            .expect("the API starts");
        let user = "system:kube-controller-manager";
        let client = kube::Client::new(api.client_service(user, &["system:masters"]), "default");
        let world = controllers::World::reflect(&client, &shutdown);
        let config = controllers::Config {
            root_ca_pem: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(),
            pod_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
            node_prefix_v4: 24,
            node_prefix_v6: 64,
            node_grace: Duration::from_secs(40),
            finished_pods_max: 12_500,
        };
        tokio::spawn(controllers::run(config, client, world, shutdown.clone()));
        let mut user = User::authenticated("admin", &["system:masters"]);
        // What a client certificate leaves.
        let hash = "0123456789abcdef".repeat(4);
        let credential = vec![format!("X509SHA256={hash}")];
        user.extra.insert("authentication.kubernetes.io/credential-id".into(), credential);
        Self { service: api.service(), user, shutdown }
    }

    /// Sends a request as the administrator.
    ///
    /// # Panics
    /// If the body breaks off.
    pub async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        let mut request = request.map(|bytes| apiserver::body::boxed(Full::new(bytes)));
        request.extensions_mut().insert(self.user.clone());
        let (head, body) = self.service.answer(request).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Response::from_parts(head, body)
    }
}

fn config() -> Config {
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
