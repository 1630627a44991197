//! exec, attach and port-forward: after the client is let in, its upgraded connection is joined to
//! one of the kubelet's, which speaks the protocol that the two agree on.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use objects::ApiError;
use tracing::{Instrument as _, debug, debug_span};

use super::kubelet;
use super::target::{container, target};
use crate::answer::Answer;
use crate::body::{self, Body};
use crate::call::Call;
use crate::server::Server;

/// Answers.
pub(super) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
) -> Result<Answer, ApiError> {
    let target = target(server, call)?;
    let (namespace, name) = (call.namespace(), call.name());
    let uri = match call.path.subresource.as_str() {
        "portforward" => {
            let ports: Vec<(String, String)> = pairs(call, &[("ports", "port")]);
            kubelet::uri(&["portForward", namespace, name], &ports)
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
            kubelet::uri(&[verb, namespace, name, &container], &pairs(call, &streams))
        }
    };
    if !request.headers().contains_key(http::header::UPGRADE) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let client = hyper::upgrade::on(&mut request);
    let mut forwarded = Request::builder().method(http::Method::GET).uri(uri);
    if call.path.subresource != "portforward" && request.method() == http::Method::POST {
        // SPDY clients post; WebSocket ones get.
        forwarded = forwarded.method(http::Method::POST);
    }
    for (header, value) in request.headers() {
        // Whoever the client is, the kubelet is spoken to as the API server.
        if *header != http::header::AUTHORIZATION && *header != http::header::HOST {
            forwarded = forwarded.header(header, value);
        }
    }
    let forwarded = forwarded.body(body::empty()).expect("copied parts make a request");
    let mut answer = kubelet::send(server, &target.place, forwarded).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, incoming) = answer.into_parts();
        let text = incoming.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_string();
        return Err(refused(head.status.as_u16(), text));
    }
    let kubelet_side = hyper::upgrade::on(&mut answer);
    join(server, call, client, kubelet_side);
    let (head, _) = answer.into_parts();
    Ok(Answer::from_parts(head, body::empty()))
}

fn refused(code: u16, text: String) -> ApiError {
    match code {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(404, "NotFound", text),
        403 => ApiError::new(403, "Forbidden", text),
        _ => ApiError::internal(format!("unable to upgrade connection: {text}")),
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

/// Copies bytes both ways until one side ends, or the server shuts down.
fn join(server: &Arc<Server>, call: &Call, client: OnUpgrade, kubelet: OnUpgrade) {
    let span = debug_span!("stream", pod = call.name(), what = call.path.subresource);
    let shutdown = server.shutdown.clone();
    tokio::spawn(
        async move {
            let (client, kubelet) = match tokio::try_join!(client, kubelet) {
                Ok(both) => both,
                Err(error) => return debug!(%error, "not upgraded"),
            };
            let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
            tokio::select! {
                copied = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => {
                    if let Err(error) = copied {
                        debug!(%error, "stream broke off");
                    }
                }
                () = shutdown.cancelled() => {}
            }
        }
        .instrument(span),
    );
}
