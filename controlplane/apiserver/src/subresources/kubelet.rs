//! Connections to kubelets: over TLS, to the address and port in the Node's status.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use objects::{ApiError, GroupResource, ObjectExt};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{Instrument as _, debug, debug_span};

use crate::body::{self, Body};
use crate::encode;
use crate::server::Server;

/// How long connecting may take: a node that is gone does not answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Upstream's default port of the kubelet.
const DEFAULT_PORT: u16 = 10250;
/// The protocol of streams that kubelets are spoken to in.
const CHANNELS: &str = "v5.channel.k8s.io";
/// A kubelet's reason not to upgrade is a line of text.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

/// Where a kubelet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    node: String,
    address: IpAddr,
    port: u16,
}

/// Where the kubelet of a node listens.
pub(crate) fn place(server: &Server, node: &str) -> Result<Place, ApiError> {
    let record = server.store.get(&format!("/nodes//{node}"));
    let Some(record) = record else {
        return Err(ApiError::not_found(&GroupResource::new("", "nodes"), node));
    };
    place_of(&encode::parse(&record)).ok_or_else(|| {
        ApiError::internal(format!(
            "no preferred addresses found; known addresses of node {node}: []"
        ))
    })
}

/// The internal address is preferred, as by upstream's default
/// `--kubelet-preferred-address-types`, of which names are left out: nodes need not be in any DNS.
fn place_of(node: &Value) -> Option<Place> {
    let addresses = node.list_at(&["status", "addresses"]);
    let of_type = |kind: &str| {
        let found = addresses.iter().filter(|one| one["type"] == kind);
        found.filter_map(|one| one["address"].as_str()?.parse::<IpAddr>().ok()).next()
    };
    let port = node.i64_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    Some(Place {
        node: node.name().to_string(),
        address: of_type("InternalIP").or_else(|| of_type("ExternalIP"))?,
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT),
    })
}

impl Place {
    /// Opens a connection of its own for one request, which may be upgraded.
    pub(super) async fn connect(&self, server: &Server) -> Result<SendRequest<Body>, ApiError> {
        let unreachable = |why: String| {
            let (address, port) = (self.address, self.port);
            debug!(node = self.node, %address, port, why, "kubelet not reached");
            ApiError::internal(format!("error dialing backend: dial tcp {address}:{port}: {why}"))
        };
        let open = async {
            let stream = TcpStream::connect((self.address, self.port)).await?;
            stream.set_nodelay(true)?;
            let tls = TlsConnector::from(Arc::clone(&server.config.kubelet_tls));
            tls.connect(ServerName::IpAddress(self.address.into()), stream).await
        };
        let stream = match tokio::time::timeout(CONNECT_LIMIT, open).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("i/o timeout".into())),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let span = debug_span!("kubelet_connection", node = self.node);
        tokio::spawn(
            async move {
                if let Err(error) = connection.with_upgrades().await {
                    debug!(%error, "connection to the kubelet ended");
                }
            }
            .instrument(span),
        );
        Ok(sender)
    }

    /// The value of `Host` for requests to it.
    pub(super) fn authority(&self) -> String {
        std::net::SocketAddr::new(self.address, self.port).to_string()
    }
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    server: &Server,
    place: &Place,
    mut request: Request<Body>,
) -> Result<http::Response<hyper::body::Incoming>, ApiError> {
    let mut sender = place.connect(server).await?;
    let host = http::HeaderValue::from_str(&place.authority());
    request.headers_mut().insert(header::HOST, host.expect("an address is a header value"));
    let answer = sender.send_request(request).await;
    answer.map_err(|error| ApiError::internal(format!("error sending request: {error}")))
}

/// A WebSocket to a kubelet.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Opens a WebSocket on which the first byte of each message names a channel
/// (`v5.channel.k8s.io`).
///
/// # Errors
/// The kubelet's refusal, or 500 if it is not reached.
pub(super) async fn websocket(
    server: &Server,
    place: &Place,
    uri: Uri,
) -> Result<Socket, ApiError> {
    let request = Request::get(uri)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, CHANNELS)
        .body(body::empty())
        .expect("constant headers make a request");
    let mut answer = send(server, place, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(answer).await);
    }
    let upgraded = hyper::upgrade::on(&mut answer).await;
    let upgraded = upgraded
        .map_err(|error| ApiError::internal(format!("unable to upgrade connection: {error}")))?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// What a kubelet says instead of upgrading the connection.
pub(super) async fn refused(answer: http::Response<hyper::body::Incoming>) -> ApiError {
    let (head, incoming) = answer.into_parts();
    let incoming = http_body_util::Limited::new(incoming, REFUSAL_MAX_BYTES);
    let text = incoming.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_string();
    match head.status.as_u16() {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(404, "NotFound", text),
        403 => ApiError::new(403, "Forbidden", text),
        _ => ApiError::internal(format!("unable to upgrade connection: {text}")),
    }
}

/// The path of a request to a kubelet: segments and a query, escaped.
pub(super) fn uri(segments: &[&str], query: &[(String, String)]) -> Uri {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        // Names are DNS names: only a stray character is escaped.
        let kept = segment.replace(['-', '.', '_'], "");
        if kept.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            text.push_str(segment);
        } else {
            text.extend(utf8_percent_encode(segment, NON_ALPHANUMERIC));
        }
    }
    if !query.is_empty() {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        pairs.extend_pairs(query);
        text.push('?');
        text.push_str(&pairs.finish());
    }
    text.parse().expect("escaped segments and pairs are a path and query")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_internal_address_is_preferred() {
        let node = json!({
            "metadata": {"name": "n1"},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "192.0.2.1"},
                    {"type": "InternalIP", "address": "10.0.0.1"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
            },
        });
        let place = place_of(&node).expect("a place");
        assert_eq!(place.authority(), "10.0.0.1:1234");
        assert_eq!(place_of(&json!({"metadata": {"name": "n1"}})), None);
    }

    #[test]
    fn paths_are_escaped() {
        let query = [("command".to_string(), "a b&c".to_string())];
        assert_eq!(
            uri(&["exec", "default", "web-0", "c"], &query).to_string(),
            "/exec/default/web-0/c?command=a+b%26c"
        );
        assert_eq!(uri(&["exec", "a/b"], &[]).to_string(), "/exec/a%2Fb");
    }
}
