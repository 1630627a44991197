//! exec, attach and port-forward: after the client is let in, its upgraded connection is joined to
//! one of the kubelet's.
//!
//! Clients that speak channels over a WebSocket are joined byte by byte: the kubelet speaks the
//! same. SPDY, plain or within a WebSocket, ends here.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use objects::ApiError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{Instrument as _, debug, debug_span};

use super::target::{Target, container, target};
use super::tunnel::Tunnel;
use super::{kubelet, port_forward, remote_command};
use crate::answer::{self, Answer};
use crate::body::{self, Body};
use crate::call::Call;
use crate::server::Server;

/// The header in which SPDY's clients list protocols, and the server names the chosen one.
const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
/// The header that lists what would have been accepted.
const ACCEPTED_VERSIONS: &str = "x-accepted-stream-protocol-versions";
/// What port-forward over SPDY speaks.
const PORT_FORWARD: &str = "portforward.k8s.io";
/// The same within a WebSocket.
const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";

/// Answers.
pub(super) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    request: Request<Body>,
) -> Result<Answer, ApiError> {
    let target = target(server, call)?;
    let headers = request.headers();
    let Some(upgrade) = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let is_spdy = upgrade.to_ascii_lowercase().starts_with("spdy/3.1");
    match call.path.subresource.as_str() {
        "portforward" if is_spdy => forward_ports(server, call, request, &target),
        "portforward" if offers(headers, TUNNELED) => {
            forward_ports_tunneled(server, call, request, &target)
        }
        "portforward" => {
            let ports = pairs(call, &[("ports", "port")]);
            let uri = kubelet::uri(&["portForward", call.namespace(), call.name()], &ports);
            pass(server, call, request, &target, uri).await
        }
        verb => {
            let container = container(call, &target.pod)?;
            // The kubelet's names of the streams are older than the API's.
            let streams = [
                ("command", "command"),
                ("stdin", "input"),
                ("stdout", "output"),
                ("stderr", "error"),
                ("tty", "tty"),
            ];
            let path = [verb, call.namespace(), call.name(), &container];
            let uri = kubelet::uri(&path, &pairs(call, &streams));
            if is_spdy {
                run_command(server, call, request, &target, uri).await
            } else {
                pass(server, call, request, &target, uri).await
            }
        }
    }
}

/// Query parameters under the kubelet's names; flags become `1`.
fn pairs(call: &Call, names: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (ours, theirs) in names {
        if matches!(*ours, "command" | "ports") {
            out.extend(
                call.query.all(ours).map(|value| ((*theirs).to_string(), value.to_string())),
            );
        } else if call.query.flag(ours) {
            out.push(((*theirs).to_string(), "1".into()));
        }
    }
    out
}

/// Every item of a header that is a list, over several lines or in one.
fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| item.trim().to_string()).collect()
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    listed(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str()).iter().any(|own| own == protocol)
}

/// exec and attach over SPDY.
async fn run_command(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
    target: &Target,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let protocol = match negotiate(request.headers(), &remote_command::PROTOCOLS)? {
        Ok(protocol) => protocol,
        Err(refusal) => return Ok(refusal),
    };
    let tty = call.query.flag("tty");
    let wanted = remote_command::Wanted {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        // A terminal has one output.
        stderr: call.query.flag("stderr") && !tty,
        tty,
    };
    // Before the client is answered: a refusal is then an answer that it understands.
    let socket = kubelet::websocket(server, &target.place, uri).await?;
    let client = hyper::upgrade::on(&mut request);
    spawn(server, call, client, move |client| {
        remote_command::carry(client, socket, wanted, protocol)
    });
    Ok(switching("SPDY/3.1", &[(PROTOCOL_VERSION, protocol)]))
}

/// port-forward over SPDY.
fn forward_ports(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
    target: &Target,
) -> Result<Answer, ApiError> {
    let protocol = match negotiate(request.headers(), &[PORT_FORWARD])? {
        Ok(protocol) => protocol,
        Err(refusal) => return Ok(refusal),
    };
    let pod = port_forward::Pod::new(server, call, target);
    let client = hyper::upgrade::on(&mut request);
    spawn(server, call, client, move |client| port_forward::carry(client, pod));
    Ok(switching("SPDY/3.1", &[(PROTOCOL_VERSION, protocol)]))
}

/// port-forward over SPDY within a WebSocket.
fn forward_ports_tunneled(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
    target: &Target,
) -> Result<Answer, ApiError> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return Err(ApiError::bad_request("the WebSocket key is missing"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let pod = port_forward::Pod::new(server, call, target);
    let client = hyper::upgrade::on(&mut request);
    spawn(server, call, client, move |client| async move {
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
        port_forward::carry(Tunnel::new(socket), pod).await;
    });
    let named = [
        (header::SEC_WEBSOCKET_PROTOCOL.as_str(), TUNNELED),
        (header::SEC_WEBSOCKET_ACCEPT.as_str(), accept.as_str()),
    ];
    Ok(switching("websocket", &named))
}

/// The first of the client's protocols that is served; else what it is refused with.
///
/// Source: apimachinery `pkg/util/httpstream`, `Handshake`, v1.36.
fn negotiate(
    headers: &HeaderMap,
    served: &[&'static str],
) -> Result<Result<&'static str, Answer>, ApiError> {
    let offered = listed(headers, PROTOCOL_VERSION);
    if offered.is_empty() {
        return Err(ApiError::bad_request(
            "unable to upgrade: X-Stream-Protocol-Version is required",
        ));
    }
    let chosen = offered.iter().find_map(|own| served.iter().find(|one| own == *one));
    if let Some(chosen) = chosen {
        return Ok(Ok(*chosen));
    }
    let why = format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]\n",
        offered.join(" "),
        served.join(" "),
    );
    let mut refusal = answer::text(403, why);
    for one in served {
        refusal.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(one));
    }
    Ok(Err(refusal))
}

fn switching(protocol: &'static str, named: &[(&str, &str)]) -> Answer {
    let mut answer = http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, protocol);
    for (name, value) in named {
        answer = answer.header(*name, *value);
    }
    answer.body(body::empty()).expect("constant names and base64 are fit for headers")
}

/// Works on the client's connection once it is upgraded, until the work ends or the server shuts
/// down.
fn spawn<W, F>(server: &Arc<Server>, call: &Call, client: OnUpgrade, work: W)
where
    W: FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let span = debug_span!("stream", pod = call.name(), what = call.path.subresource);
    let shutdown = server.shutdown.clone();
    let task = async move {
        match client.await {
            Ok(client) => {
                shutdown.run_until_cancelled(work(TokioIo::new(client))).await;
            }
            Err(error) => debug!(%error, "not upgraded"),
        }
    };
    tokio::spawn(task.instrument(span));
}

/// Hands the upgrade on to the kubelet, and then the bytes of both sides.
async fn pass(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
    target: &Target,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let client = hyper::upgrade::on(&mut request);
    let mut forwarded = Request::get(uri);
    for (header, value) in request.headers() {
        // Whoever the client is, the kubelet is spoken to as the API server.
        if *header != header::AUTHORIZATION && *header != header::HOST {
            forwarded = forwarded.header(header, value);
        }
    }
    let forwarded = forwarded.body(body::empty()).expect("copied parts make a request");
    let mut answer = kubelet::send(server, &target.place, forwarded).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(kubelet::refused(answer).await);
    }
    let kubelet = hyper::upgrade::on(&mut answer);
    spawn(server, call, client, move |client| join(client, kubelet));
    let (head, _) = answer.into_parts();
    Ok(Answer::from_parts(head, body::empty()))
}

/// Copies bytes both ways until one side ends.
pub(super) async fn join(mut client: TokioIo<Upgraded>, other: OnUpgrade) {
    let mut other = match other.await {
        Ok(other) => TokioIo::new(other),
        Err(error) => return debug!(%error, "not upgraded"),
    };
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut other).await {
        debug!(%error, "stream broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PROTOCOL_VERSION, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn the_clients_order_decides() {
        let served = ["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"];
        for (lines, wanted) in [
            (&["v4.channel.k8s.io", "v3.channel.k8s.io"][..], "v4.channel.k8s.io"),
            (&["v3.channel.k8s.io, v4.channel.k8s.io"], "v3.channel.k8s.io"),
            (&["v5.channel.k8s.io", "channel.k8s.io"], "channel.k8s.io"),
        ] {
            let chosen = negotiate(&headers(lines), &served).expect("offers something");
            assert_eq!(chosen.ok(), Some(wanted), "{lines:?}");
        }
        assert!(negotiate(&headers(&[]), &served).is_err());
        let refusal = negotiate(&headers(&["v9"]), &served).expect("offers something");
        let refusal = refusal.expect_err("nothing in common");
        assert_eq!(refusal.status(), 403);
        assert_eq!(refusal.headers().get_all(ACCEPTED_VERSIONS).iter().count(), 3);
    }
}
