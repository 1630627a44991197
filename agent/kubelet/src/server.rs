//! The kubelet's HTTPS server: logs, exec, attach, port forwarding, statistics.
//!
//! Clients show a certificate of the cluster's authority (TLS checks that); whoever is not named in
//! the configuration gets 403. Paths and parameters are upstream's
//! (kubernetes pkg/kubelet/server/server.go, v1.36).

mod auth;
mod channels;
mod connections;
mod exec;
mod forward;
mod logs;
mod outgoing;
mod query;
mod route;
mod stats;
#[cfg(test)]
mod tests;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::pods::Registry;
use connections::Limits;

/// A body that is in memory or comes piece by piece.
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// What handlers need.
pub(crate) struct Server {
    context: Arc<Context>,
    registry: Arc<Registry>,
    streams: Streams,
}

/// What goes on after a request has been answered: no more of it is there once the server ends.
#[derive(Debug, Clone)]
struct Streams {
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Streams {
    fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), shutdown }
    }

    /// Does this in the background, until it is done or the server shuts down.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { shutdown.run_until_cancelled(work).await });
    }

    /// Waits until nothing is left; call it after shutdown.
    async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Serves until shutdown. Requests under way are answered first; streams are cut, which kills the
/// processes that were started for them.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, registry: Arc<Registry>) {
    let shutdown = context.shutdown.clone();
    let streams = Streams::new(shutdown.clone());
    let server =
        Arc::new(Server { context: Arc::clone(&context), registry, streams: streams.clone() });
    let answer = move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move { route::answer(&server, request).await }
    };
    connections::serve(listener, &context.config.server, Limits::default(), answer, shutdown).await;
    streams.ended().await;
}
