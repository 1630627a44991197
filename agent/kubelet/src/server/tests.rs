//! The server from outside: connections over TLS, WebSockets with a client of another make.

mod connections;
mod forward;
mod process;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something must happen, some time.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// An authority and what it has made.
pub(super) struct Tls {
    pub(super) server: Arc<rustls::ServerConfig>,
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn key_of(pair: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(pair.serialize_der()).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Made once: keys cost time.
pub(super) fn tls() -> &'static Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    TLS.get_or_init(|| {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key_of(&own))
            .unwrap();
        Tls { server: Arc::new(server), issuer, roots }
    })
}

impl Tls {
    fn identity(&self, name: &str, organization: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key_of(&key))
    }

    fn client(&self, identity: Option<Identity>) -> Arc<rustls::ClientConfig> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        Arc::new(match identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        })
    }
}

type Near = WebSocketStream<DuplexStream>;

/// Both ends of a WebSocket: the server's, the client's.
async fn sockets() -> (Near, Near) {
    let (server, client) = tokio::io::duplex(64 * 1024);
    (
        WebSocketStream::from_raw_socket(server, Role::Server, None).await,
        WebSocketStream::from_raw_socket(client, Role::Client, None).await,
    )
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(client: &mut WebSocketStream<S>, message: &[u8]) {
    let message = Message::Binary(Bytes::copy_from_slice(message));
    soon("a message to be sent", client.send(message)).await.unwrap();
}

/// The next message of the server; `None` at its end.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut WebSocketStream<S>,
) -> Option<(u8, Bytes)> {
    loop {
        match soon("a message", client.next()).await? {
            Ok(Message::Binary(mut message)) => {
                let body = message.split_off(1);
                return Some((message[0], body));
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            // Reading on answers it. Without a frame it is the echo of the client's own close.
            Ok(Message::Close(frame)) => {
                assert!(frame.is_none_or(|frame| frame.code == CloseCode::Normal));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// Everything until the end, joined by channel in the order of their first messages.
async fn hear_all<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut WebSocketStream<S>,
) -> Vec<(u8, Vec<u8>)> {
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    while let Some((channel, bytes)) = hear(client).await {
        match all.iter_mut().find(|(known, _)| *known == channel) {
            Some((_, text)) => text.extend_from_slice(&bytes),
            None => all.push((channel, bytes.to_vec())),
        }
    }
    all
}
