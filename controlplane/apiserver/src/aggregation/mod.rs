//! Groups that other servers answer: APIServices lead to them.
//!
//! `table.rs` is the index of APIServices, `remote.rs` hands requests on, `available.rs` finds out
//! who answers, `front_proxy.rs` is how those servers know that it is this one that asks,
//! `discovery.rs` lists their groups among our own. `metrics` is a group that is answered in this
//! process although it is none of the registry's.
//!
//! Source of behaviour: kubernetes `staging/src/k8s.io/kube-aggregator`, v1.36.

mod available;
pub(crate) mod discovery;
mod front_proxy;
mod inside;
pub(crate) mod metrics;
mod register;
mod remote;
mod table;

use std::sync::Arc;

use http::Request;
use objects::ApiError;
use serde_json::Value;
use store::Record;
use tokio::sync::Notify;

use crate::answer::Answer;
use crate::body::Body;
use crate::encode;
use crate::identity::User;
use crate::route::RequestInfo;
use crate::server::Server;
use front_proxy::FrontProxy;
use table::{Table, Target};

/// Where APIServices are kept.
pub(crate) const SCOPE: &str = "apiregistration.k8s.io/apiservices/";

/// The aggregator's state.
#[derive(Debug, Default)]
pub struct Aggregation {
    table: Table,
    readings: metrics::Readings,
    identity: std::sync::OnceLock<FrontProxy>,
    changed: Notify,
}

/// Who answers a path.
pub(crate) enum Answerer {
    /// Another server.
    Remote(Arc<Target>),
    /// This process: `metrics.k8s.io`.
    Metrics,
}

impl Aggregation {
    /// Takes note of an APIService, or of its end.
    pub(crate) fn apply(&self, key: &str, record: Option<&Record>) {
        let name = key.rsplit('/').next().unwrap_or_default();
        let object: Option<Value> = record.map(encode::parse);
        self.table.apply(name, object.as_ref());
        self.changed.notify_one();
    }

    /// Who answers a path, if it is not the registry's kinds.
    pub(crate) fn answerer(&self, path: &str) -> Option<Answerer> {
        let mut parts = path.trim_start_matches('/').split('/');
        let (Some("apis"), Some(group), Some(version)) = (parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        match self.table.find(group, version) {
            Some(target) => Some(Answerer::Remote(target)),
            None if (group, version) == (metrics::GROUP, metrics::VERSION) => {
                Some(Answerer::Metrics)
            }
            None => None,
        }
    }
}

/// Answers a request that is another server's.
pub(crate) async fn answer(
    server: &Arc<Server>,
    request: Request<Body>,
    info: &RequestInfo,
    user: &User,
    answerer: Answerer,
) -> Result<Answer, ApiError> {
    match answerer {
        Answerer::Metrics => {
            let (head, _) = request.into_parts();
            metrics::answer(server, &head.headers, info).await
        }
        Answerer::Remote(target) => Ok(remote::forward(server, request, user, &target).await),
    }
}

/// Prepares the identity and checks servers, until shutdown.
pub(crate) async fn run(server: Arc<Server>) {
    match front_proxy::prepare(&server).await {
        Ok(identity) => {
            // Nobody else sets it.
            let _set = server.aggregation.identity.set(identity);
        }
        Err(error) => {
            tracing::error!(%error, "aggregated API servers cannot be told who asks");
            return;
        }
    }
    let work = async { tokio::join!(available::run(&server), register::run(&server)) };
    server.shutdown.run_until_cancelled(work).await;
}
