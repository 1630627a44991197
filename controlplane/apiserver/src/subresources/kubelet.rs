//! Connections to kubelets: over TLS, to the address and port in the Node's status.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Uri};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use objects::{ApiError, GroupResource, ObjectExt};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::{Instrument as _, debug, debug_span};

use crate::body::Body;
use crate::encode;
use crate::server::Server;

/// How long connecting may take: a node that is gone does not answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Upstream's default port of the kubelet.
const DEFAULT_PORT: u16 = 10250;

/// Where a kubelet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    node: String,
    address: IpAddr,
    port: u16,
}

/// Where the kubelet of a node listens.
pub(super) fn place(server: &Server, node: &str) -> Result<Place, ApiError> {
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
pub(super) async fn send(
    server: &Server,
    place: &Place,
    mut request: Request<Body>,
) -> Result<http::Response<hyper::body::Incoming>, ApiError> {
    let mut sender = place.connect(server).await?;
    let host = http::HeaderValue::from_str(&place.authority());
    request.headers_mut().insert(http::header::HOST, host.expect("an address is a header value"));
    let answer = sender.send_request(request).await;
    answer.map_err(|error| ApiError::internal(format!("error sending request: {error}")))
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
