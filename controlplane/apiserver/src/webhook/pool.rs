//! Connections to webhooks, kept for the next call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{Instrument as _, debug, debug_span};

use super::target::Target;
use super::trust;
use crate::body::Body;

/// Kept HTTP/1 connections of one webhook: as many calls as usually go on at once.
const IDLE_PER_TARGET: usize = 8;
/// Webhooks with kept connections. Past this all are forgotten: a cluster has some dozens, and
/// changed configurations leave old ones behind.
const TARGETS: usize = 256;

/// One open connection.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    pub(super) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                if let Some(path) = request.uri().path_and_query().cloned() {
                    // The authority is in `Host`.
                    *request.uri_mut() = path.into();
                }
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                // It is in `:authority`.
                request.headers_mut().remove(http::header::HOST);
                sender.send_request(request).await
            }
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Target, Vec<Connection>>>,
}

impl Pool {
    /// A kept connection that is open as far as is known; that of HTTP/2 stays for others too.
    pub(super) fn take(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(target)?;
        kept.retain(|connection| !connection.is_closed());
        match kept.pop()? {
            Connection::Http2(sender) => {
                kept.push(Connection::Http2(sender.clone()));
                Some(Connection::Http2(sender))
            }
            one @ Connection::Http1(_) => Some(one),
        }
    }

    /// Keeps a connection.
    pub(super) fn put(&self, target: &Target, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() >= TARGETS && !idle.contains_key(target) {
            idle.clear();
        }
        let kept = idle.entry(target.clone()).or_default();
        kept.retain(|connection| !connection.is_closed());
        let shared = kept.iter().any(|one| matches!(one, Connection::Http2(_)));
        if kept.len() < IDLE_PER_TARGET && !shared {
            kept.push(connection);
        }
    }
}

/// Opens a connection to the first address that takes one.
pub(super) async fn connect(target: &Target, places: &[SocketAddr]) -> Result<Connection, String> {
    let name = ServerName::try_from(target.server_name())
        .map_err(|_| format!("{:?} is no server name", target.server_name()))?;
    let config = Arc::new(trust::client_config(target.ca_bundle.as_deref()).await?);
    let mut last = String::from("no address to dial");
    for place in places {
        match dial(*place).await {
            Ok(stream) => {
                let connector = TlsConnector::from(Arc::clone(&config));
                let stream = connector.connect(name, stream).await;
                return speak(stream.map_err(|error| trust::explain(&error))?).await;
            }
            Err(error) => last = format!("dial tcp {place}: connect: {}", go_text(&error)),
        }
    }
    Err(last)
}

async fn dial(place: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Go names errors without their number.
fn go_text(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::HostUnreachable => "no route to host".into(),
        ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}

/// Begins the protocol that both sides chose.
async fn speak(stream: TlsStream<TcpStream>) -> Result<Connection, String> {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let span = debug_span!("webhook_connection", h2);
    if h2 {
        let executor = TokioExecutor::new();
        let (sender, connection) = http2::handshake(executor, TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(drive(connection).instrument(span));
        return Ok(Connection::Http2(sender));
    }
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(drive(connection).instrument(span));
    Ok(Connection::Http1(sender))
}

/// Moves a connection's bytes; it ends when the other side closes it or nobody keeps its sender.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        debug!(%error, "connection to a webhook ended");
    }
}
