//! TLS connections: accepting, limits, HTTP/1.1 and HTTP/2, and a graceful end.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::auth::{PeerAddress, PeerIdentity, x509};
use crate::body;
use crate::server::Service;

/// Connections served at once; a thousand nodes have a few each. Further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 8192;
/// A client that has not finished its TLS handshake or request head by then is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Header bytes of a request: tokens are a few KiB.
const HEADERS_MAX_BYTES: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection, upstream's default.
const STREAMS_MAX: u32 = 250;
/// How often an idle HTTP/2 connection is asked whether its peer is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long running requests may take to finish at shutdown. Watches end at once.
const DRAIN: Duration = Duration::from_secs(5);

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is broken.
    #[error("accept a connection")]
    Accept(#[source] std::io::Error),
}

/// Serves until shutdown.
///
/// # Errors
/// [`ServeError`].
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    service: Service,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let slot = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if transient(&error) => {
                    tracing::warn!(%error, "accept failed, trying again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(ServeError::Accept(error)),
            },
        };
        let connection = connection(stream, acceptor.clone(), service.clone(), graceful.watcher());
        tokio::spawn(
            async move {
                connection.await;
                drop(slot);
            }
            .instrument(tracing::debug_span!("connection")),
        );
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still running at the end of the drain period were cut off");
    }
    Ok(())
}

/// Out of descriptors or memory, or a connection that died in the queue: the listener is fine.
fn transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::OutOfMemory
    ) || matches!(error.raw_os_error(), Some(23 | 24))
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: Service,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
    let peer = stream.peer_addr().ok().map(|address| PeerAddress(address.ip().to_canonical()));
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let identity = certificates
        .and_then(|chain| chain.first())
        .and_then(x509::user)
        .map(|user| PeerIdentity(Arc::new(user)));
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        let service = service.clone();
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        async move { Ok::<_, std::convert::Infallible>(service.answer(request.map(body::boxed)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEADERS_MAX_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX_BYTES)
        .keep_alive_interval(PING_EVERY);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, "connection ended");
    }
}
