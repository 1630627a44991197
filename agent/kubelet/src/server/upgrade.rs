//! From a request to a WebSocket.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::connections::Place;
use super::{Body, text};

/// The WebSocket of a connection.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A request for a WebSocket that has been agreed to.
pub(super) struct Agreed {
    /// The answer that must be sent for the upgrade to happen.
    pub(super) response: Response<Body>,
    upgrade: OnUpgrade,
    place: Option<Place>,
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// Agrees to the first of our protocols that the client offers.
#[expect(clippy::result_large_err, reason = "an error is the answer itself")]
pub(super) fn agree(
    mut request: Request<Incoming>,
    ours: &[&'static str],
) -> Result<Agreed, Response<Body>> {
    let refuse = |message: String| Err(text(StatusCode::BAD_REQUEST, message));
    let headers = request.headers();
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return refuse("an upgrade to WebSocket is required\n".into());
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return refuse("the WebSocket key is missing\n".into());
    };
    let offered = offered(headers);
    let Some(protocol) = ours.iter().find(|ours| offered.iter().any(|o| o == *ours)).copied()
    else {
        return refuse(format!("none of {offered:?} is served; one of {ours:?} is needed\n"));
    };
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let own = response.headers_mut();
    own.clear();
    own.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    own.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    own.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).expect("base64 is fit for a header");
    own.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let place = request.extensions_mut().remove::<Place>();
    let upgrade = hyper::upgrade::on(&mut request);
    Ok(Agreed { response, upgrade, place })
}

impl Agreed {
    /// Splits into the answer and what is done with the socket once the answer has been sent.
    pub(super) fn split<W: Future<Output = ()>>(
        self,
        work: impl FnOnce(Socket) -> W,
    ) -> (Response<Body>, impl Future<Output = ()>) {
        let (upgrade, place) = (self.upgrade, self.place);
        let task = async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let io = TokioIo::new(upgraded);
                    work(WebSocketStream::from_raw_socket(io, Role::Server, None).await).await;
                }
                Err(error) => tracing::debug!(%error, "connection not upgraded"),
            }
            // Until here it counts as a connection.
            drop(place);
        };
        (self.response, task)
    }
}
