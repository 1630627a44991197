//! Handing a request on to another HTTP server, and its answer back: what `proxy` and aggregated
//! API servers have in common.
//!
//! Source of behaviour: apimachinery `pkg/util/proxy`, `UpgradeAwareHandler`, v1.36.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::streaming;
use crate::answer::Answer;
use crate::body::{self, Body};
use crate::server::Server;

/// How long connecting may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Headers that are about one connection and not about what is said on it (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A server that requests are handed on to.
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The value of `Host`.
    pub(crate) authority: String,
    /// How it is spoken to in TLS, and the name its certificate has to be for.
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Backend {
    /// A server without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, authority: address.to_string(), tls: None }
    }

    /// A server whose certificate nobody looks at: `https` targets of `proxy`, as upstream.
    pub(crate) fn unverified(address: SocketAddr) -> Self {
        let name = ServerName::IpAddress(address.ip().into());
        Self { tls: Some((UNVERIFIED.clone(), name)), ..Self::plain(address) }
    }

    async fn open(&self) -> Result<Box<dyn Io>, String> {
        let address = self.address;
        let open = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let Some((config, name)) = &self.tls else {
                return Ok(Box::new(stream) as Box<dyn Io>);
            };
            let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
            Ok(Box::new(tls) as Box<dyn Io>)
        };
        match tokio::time::timeout(CONNECT_LIMIT, open).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err::<_, std::io::Error>(error)) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    Err(format!("dial tcp {address}: connect: connection refused"))
                }
                _ => Err(format!("dial tcp {address}: {error}")),
            },
            Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        }
    }

    /// Sends a request on a connection of its own. The answer of an upgrade comes with the
    /// client's and the server's bytes joined.
    ///
    /// # Errors
    /// Why the server was not reached, in words.
    pub(crate) async fn send(
        &self,
        server: &Arc<Server>,
        mut request: Request<Body>,
    ) -> Result<Answer, String> {
        let upgrade = upgrade(request.headers());
        strip(request.headers_mut());
        let client = upgrade.map(|protocol| {
            let headers = request.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, protocol);
            hyper::upgrade::on(&mut request)
        });
        let host = HeaderValue::from_str(&self.authority).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        *request.version_mut() = http::Version::HTTP_11;
        let stream = TokioIo::new(self.open().await?);
        let connected = http1::handshake(stream).await;
        let (mut sender, connection) = connected.map_err(|error| error.to_string())?;
        let address = self.address;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%address, %error, "connection of a handed on request ended");
            }
        });
        let mut answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut head, incoming) = answer.into_parts();
            strip(&mut head.headers);
            return Ok(Answer::from_parts(head, body::boxed(incoming)));
        }
        let Some(client) = client else { return Err("an upgrade that nobody asked for".into()) };
        let other = hyper::upgrade::on(&mut answer);
        let shutdown = server.shutdown.clone();
        tokio::spawn(async move {
            match client.await {
                Ok(client) => {
                    let joined = streaming::join(TokioIo::new(client), other);
                    shutdown.run_until_cancelled(joined).await;
                }
                Err(error) => debug!(%error, "not upgraded"),
            }
        });
        let (head, _) = answer.into_parts();
        Ok(Answer::from_parts(head, body::empty()))
    }
}

/// The protocol that a request wants to change to.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get_all(header::CONNECTION).iter();
    let mut named = connection.filter_map(|value| value.to_str().ok()).flat_map(|t| t.split(','));
    let asked = named.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Takes off what is about the connection, also what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&listed) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// TLS that believes every certificate.
pub(crate) static UNVERIFIED: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_no_client_auth();
    Arc::new(config)
});

/// Believes every certificate, but not that its owner need not have the key.
#[derive(Debug)]
pub(crate) struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_the_connection_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(upgrade(&headers), None, "an upgrade that Connection does not name");
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(upgrade(&headers), Some(HeaderValue::from_static("websocket")));
    }
}
