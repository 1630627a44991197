//! The server: its shared state, its start, and the service that clients call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use kinds::Registry;
use objects::ApiError;
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::admission::allocation::Allocations;
use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::auth::rbac::Rbac;
use crate::auth::tokens::TokenKeys;
use crate::body::{self, Body, BoxError};
use crate::codec::Schemas;
use crate::config::Config;
use crate::encode::SharedFrames;
use crate::flow::Flow;
use crate::identity::User;
use crate::metrics::Metrics;
use crate::router;
use crate::verbs::list;
use crate::{admission, aggregation, background, bootstrap, webhook};

/// How long a read waits for a resource version that the view has not reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);

/// What every request handler shares.
pub struct Server {
    /// Configuration.
    pub config: Config,
    /// The store.
    pub store: Store,
    /// What is served now.
    pub registry: ArcSwap<Registry>,
    /// Schemas of what is served now.
    pub schemas: Schemas,
    /// Rules and bindings, indexed.
    pub rbac: Rbac,
    /// Keys of service-account tokens.
    pub tokens: TokenKeys,
    /// Cluster IPs and node ports in use.
    pub allocations: Allocations,
    /// Who runs when there is too much to do.
    pub flow: Flow,
    /// Groups that other servers answer.
    pub aggregation: Aggregation,
    /// The audit log, if there is one.
    pub audit: Option<Arc<Audit>>,
    /// Admission webhooks as configured.
    pub(crate) admission_webhooks: admission::webhooks::Configured,
    /// Connections to webhooks.
    pub webhooks: webhook::Client,
    /// Frames of watch events, shared by watchers.
    pub(crate) frames: SharedFrames,
    /// Counters.
    pub metrics: Metrics,
    /// Ends everything that the server does.
    pub shutdown: CancellationToken,
}

impl Server {
    /// Waits until the view has reached a `resourceVersion` that a client sent. `""` is the newest
    /// there is, of whatever server; `"0"` is any.
    ///
    /// # Errors
    /// 400 for no number, 504 if it takes too long.
    pub async fn reach(&self, version: &str) -> Result<(), ApiError> {
        match version {
            "0" => return Ok(()),
            // At once unless other servers write to the same store.
            "" => {
                let newest = tokio::time::timeout(REACH_TIMEOUT, self.store.consistent()).await;
                return match newest {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(crate::pipeline::unavailable(&error)),
                    Err(_) => Err(ApiError::timeout("the store does not say what is newest")),
                };
            }
            _ => {}
        }
        let asked: u64 = version.parse().map_err(|_| list::bad_version(version))?;
        let current = self.store.revision();
        if asked <= current {
            return Ok(());
        }
        match tokio::time::timeout(REACH_TIMEOUT, self.store.wait_for(asked)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(list::too_large(asked, self.store.revision())),
        }
    }
}

/// A failure to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The token key cannot be read.
    #[error("service-account key")]
    TokenKey(#[source] crate::auth::tokens::KeyError),
    /// The audit log cannot be opened.
    #[error("open the audit log")]
    AuditLog(#[source] std::io::Error),
    /// An object that every cluster has could not be made.
    #[error("create {object}: {error}")]
    Bootstrap {
        /// Kind and name.
        object: String,
        /// What the pipeline said.
        error: ApiError,
    },
}

/// A running API server. Clones share it.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

impl ApiServer {
    /// Starts the server on an open store: loads its indexes, makes the objects that every cluster
    /// has, and spawns its background tasks, which end with `shutdown`. It listens nowhere yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: Config,
        store: Store,
        registry: Registry,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let tokens = TokenKeys::new(&config).map_err(StartError::TokenKey)?;
        let allocations = Allocations::new(&config);
        let audit =
            config.audit.clone().map(Audit::open).transpose().map_err(StartError::AuditLog)?;
        let server = Arc::new(Server {
            store,
            registry: ArcSwap::from_pointee(registry),
            schemas: Schemas::new(),
            frames: SharedFrames::default(),
            rbac: Rbac::default(),
            tokens,
            allocations,
            flow: Flow::default(),
            aggregation: Aggregation::default(),
            audit,
            admission_webhooks: admission::webhooks::Configured::default(),
            webhooks: webhook::Client::default(),
            metrics: Metrics::default(),
            shutdown,
            config,
        });
        background::start(&server);
        bootstrap::run(&server).await?;
        let aggregated = aggregation::run(server.clone());
        tokio::spawn(aggregated.instrument(tracing::info_span!("aggregation")));
        Ok(Self { server })
    }

    /// The service for connections: requests authenticate themselves.
    pub fn service(&self) -> Service {
        Service { server: self.server.clone(), user: None }
    }

    /// A service for clients inside this process, as a user: no credentials, no socket. A
    /// `kube::Client` can be made from it.
    pub fn client_service(&self, user: &str, groups: &[&str]) -> Service {
        let user = User::authenticated(user, groups);
        Service { server: self.server.clone(), user: Some(user) }
    }

    /// The same for a service account.
    pub fn service_account_service(&self, namespace: &str, name: &str) -> Service {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let group = format!("system:serviceaccounts:{namespace}");
        self.client_service(&user, &["system:serviceaccounts", &group])
    }

    /// The state shared with handlers, for dumps and tests.
    pub fn state(&self) -> &Arc<Server> {
        &self.server
    }

    /// Serves connections of a listener until `shutdown`; then lets running requests finish.
    ///
    /// # Errors
    /// Those of accepting connections that cannot be retried.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), crate::serve::ServeError> {
        crate::serve::serve(listener, tls, self.service(), shutdown).await
    }
}

/// The API as a tower service over any body.
#[derive(Clone)]
pub struct Service {
    server: Arc<Server>,
    user: Option<User>,
}

impl Service {
    /// Answers one request.
    pub async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if let Some(user) = &self.user {
            request.extensions_mut().insert(user.clone());
        }
        router::handle(&self.server, request).await
    }
}

impl<B> tower::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let request = request.map(body::boxed);
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
