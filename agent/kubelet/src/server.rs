//! The kubelet's HTTPS server: logs, exec, attach, port forwarding, statistics.
//!
//! Clients show a certificate of the cluster's authority (TLS checks that); whoever is not named in
//! the configuration gets 403. Paths and parameters are upstream's
//! (kubernetes pkg/kubelet/server/server.go, v1.36).

mod channels;
mod exec;
mod forward;
mod logs;
mod query;
mod route;
mod stats;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tracing::Instrument as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ServerConfig;
use crate::context::Context;
use crate::pods::Registry;

/// Longest TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A body that is in memory or comes piece by piece.
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// What handlers need.
pub(crate) struct Server {
    context: Arc<Context>,
    registry: Arc<Registry>,
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

/// Serves until shutdown.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, registry: Arc<Registry>) {
    let server = Arc::new(Server { context: Arc::clone(&context), registry });
    let acceptor = TlsAcceptor::from(Arc::clone(&context.config.server.tls));
    loop {
        let accepted = tokio::select! {
            () = context.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let task = connection(Arc::clone(&server), acceptor.clone(), stream);
                tokio::spawn(task.instrument(tracing::info_span!("connection", %peer)));
            }
            Err(error) => {
                // Out of descriptors, most likely: let some be closed first.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) {
    // Interactive streams send small pieces.
    drop(stream.set_nodelay(true));
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let allowed = is_allowed(certificates, &server.context.config.server);
    let shutdown = server.context.shutdown.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move {
            let response = if allowed {
                route::answer(&server, request).await
            } else {
                text(StatusCode::FORBIDDEN, "Forbidden: this client may not use the kubelet")
            };
            Ok::<_, Infallible>(response)
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(error, "connection broke");
        },
        () = shutdown.cancelled() => {}
    }
}

/// Whether the client's certificate names somebody who may use this server.
fn is_allowed(certificates: Option<&[CertificateDer<'_>]>, config: &ServerConfig) -> bool {
    let Some(first) = certificates.and_then(|certificates| certificates.first()) else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return false };
    let subject = certificate.subject();
    let is_one_of = |listed: &[String], name: Result<&str, _>| {
        let name: Result<&str, x509_parser::error::X509Error> = name;
        name.is_ok_and(|name| listed.iter().any(|known| known == name))
    };
    subject.iter_common_name().any(|name| is_one_of(&config.client_names, name.as_str()))
        || subject
            .iter_organization()
            .any(|name| is_one_of(&config.client_organizations, name.as_str()))
}
