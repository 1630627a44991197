//! Connections: how many there may be, how long they may take, how they end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, ready};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::auth::{Access, judge};
use super::{Body, text};
use crate::config::ServerConfig;

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time, those that carry streams included; further ones wait.
    pub(super) connections_max: usize,
    /// Longest TLS handshake.
    pub(super) handshake: Duration,
    /// Longest wait for the head of a request, the pause between two requests included.
    pub(super) headers: Duration,
    /// How long requests may go on after shutdown.
    pub(super) drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A node has a few hundred pods at most: three streams for each.
            connections_max: 1000,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// A place among the connections. Requests carry it as an extension, so that what comes after an
/// upgrade can keep it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Accepts connections until shutdown and answers their requests, then waits for those under way.
pub(super) async fn serve<A, R>(
    listener: TcpListener,
    config: &ServerConfig,
    limits: Limits,
    answer: A,
    shutdown: CancellationToken,
) where
    A: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let mut tls = (*config.tls).clone();
    // HTTP/2 has no upgrades, which exec needs.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: let some be closed first.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = Connection {
            config: config.clone(),
            limits,
            place,
            answer: answer.clone(),
            shutdown: shutdown.clone(),
        };
        let task = connection.run(acceptor.clone(), stream);
        connections.spawn(task.instrument(tracing::info_span!("connection", %peer)));
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, std::net::SocketAddr, Place)> {
    let permit = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, Place { _permit: Arc::new(permit) }))
}

struct Connection<A> {
    config: ServerConfig,
    limits: Limits,
    place: Place,
    answer: A,
    shutdown: CancellationToken,
}

impl<A, R> Connection<A>
where
    A: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream) {
        // Interactive streams send small pieces.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small pieces may wait");
        }
        let handshake = tokio::time::timeout(self.limits.handshake, acceptor.accept(stream));
        let Some(shaken) = self.shutdown.run_until_cancelled(handshake).await else { return };
        match shaken {
            Ok(Ok(stream)) => self.requests(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn requests(self, stream: TlsStream<TcpStream>) {
        let access = judge(stream.get_ref().1.peer_certificates(), &self.config);
        let (answer, place) = (self.answer, self.place);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(place.clone());
            let answered = match refusal(&access) {
                Some(refusal) => Either::Left(ready(refusal)),
                None => Either::Right(answer(request)),
            };
            answered.map(Ok::<_, Infallible>)
        });
        // Not hyper-util's builder for any version: it looks at the first bytes to learn which one
        // it is, and waits for them without limit.
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = std::pin::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = self.shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.limits.drain, served).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!("a request went on for too long"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection broke");
        }
    }
}

fn refusal(access: &Access) -> Option<Response<Body>> {
    match access {
        Access::Full => None,
        Access::Unknown => Some(text(StatusCode::UNAUTHORIZED, "Unauthorized\n")),
        Access::Refused(name) => {
            let message = format!("Forbidden: user \"{name}\" may not use this kubelet\n");
            Some(text(StatusCode::FORBIDDEN, message))
        }
    }
}
