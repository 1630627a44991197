//! Subresources, and the kinds that are answered but never stored.

mod binding;
mod eviction;
pub(crate) mod kubelet;
mod log;
mod port_forward;
pub(crate) mod proxy;
pub(crate) mod relay;
mod remote_command;
pub(crate) mod reviews;
mod scale;
mod spdy;
mod streaming;
mod target;
mod token;
mod tunnel;

use std::sync::Arc;

use http::Request;
use objects::ApiError;
use serde_json::{Value, json};

use crate::admission::webhooks;
use crate::answer::{self, Answer};
use crate::body::Body;
use crate::call::Call;
use crate::route::Verb;
use crate::router::{method_not_allowed, read};
use crate::server::Server;
use crate::verbs;

pub(crate) use scale::show as show_scale;

/// Answers a request on a subresource.
pub(crate) async fn answer(
    server: &Arc<Server>,
    call: Call,
    request: Request<Body>,
) -> Result<Answer, ApiError> {
    let name = call.path.subresource.as_str();
    let Some(subresource) = call.kind.subresource(name) else {
        return Err(ApiError::no_such_path());
    };
    let proxied = matches!(name, "proxy");
    if !call.path.rest.trim_end_matches('/').is_empty() && !proxied {
        return Err(ApiError::no_such_path());
    }
    if !subresource.verbs.iter().any(|verb| verb == call.verb.as_str()) {
        return Err(method_not_allowed());
    }
    match name {
        "exec" | "attach" | "portforward" => {
            let options = connect_options(&call);
            let connect = webhooks::Operation::Connect;
            let warnings = webhooks::action(server, &call, connect, &options, false).await?;
            let mut answer = streaming::answer(server, &call, request).await?;
            answer::warn(&mut answer, &warnings);
            Ok(answer)
        }
        "log" => log::answer(server, &call).await,
        "proxy" => {
            let options = connect_options(&call);
            let connect = webhooks::Operation::Connect;
            webhooks::action(server, &call, connect, &options, false).await?;
            proxy::answer(server, &call, request).await
        }
        "scale" => scale::answer(server, &call, &read(request.into_body()).await?).await,
        "binding" => binding::answer(server, &call, &read(request.into_body()).await?).await,
        "eviction" => eviction::answer(server, &call, &read(request.into_body()).await?).await,
        "token" => token::answer(server, &call, &read(request.into_body()).await?).await,
        _ => part(server, &call, request.into_body()).await,
    }
}

/// What a client asks for when it connects to a pod, as admission sees it.
fn connect_options(call: &Call) -> Value {
    let kind = match call.path.subresource.as_str() {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        "proxy" => match call.path.resource.as_str() {
            "nodes" => "NodeProxyOptions",
            "services" => "ServiceProxyOptions",
            _ => "PodProxyOptions",
        },
        _ => "PodPortForwardOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    if call.path.subresource == "proxy" && !call.path.rest.is_empty() {
        options["path"] = call.path.rest.as_str().into();
    }
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if matches!(call.query.text(flag), "true" | "1") {
            options[flag] = true.into();
        }
    }
    let container = call.query.text("container");
    if !container.is_empty() {
        options["container"] = container.into();
    }
    let command: Vec<&str> = call.query.all("command").collect();
    if !command.is_empty() {
        options["command"] = json!(command);
    }
    options
}

/// Subresources that are a part of their parent: `status`, `finalize`, `approval`,
/// `ephemeralcontainers`, `resize`. Which part is the kind's behaviour.
async fn part(server: &Server, call: &Call, body: Body) -> Result<Answer, ApiError> {
    match call.verb {
        Verb::Get => verbs::get::get(server, call).await,
        Verb::Update => verbs::update::update(server, call, &read(body).await?).await,
        Verb::Patch => verbs::patch::patch(server, call, &read(body).await?).await,
        _ => Err(method_not_allowed()),
    }
}
