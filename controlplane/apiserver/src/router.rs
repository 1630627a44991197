//! From a request to its handler: who asks, may they, and which file answers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use objects::ApiError;

use crate::answer::{self, Answer};
use crate::audit::{Notes, Trail};
use crate::auth;
use crate::body::Body;
use crate::call::Call;
use crate::encode::View;
use crate::flow::{self, Sorted};
use crate::identity::User;
use crate::negotiate::{self, Form, Offers};
use crate::route::{self, RequestInfo, ResourcePath, Verb};
use crate::server::Server;
use crate::{aggregation, crd, discovery, health, openapi, subresources, verbs};

/// The largest body of a write: upstream's figure, which etcd's largest value and the overhead of
/// JSON over protobuf are behind.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;

/// Answers a request.
pub(crate) async fn handle(server: &Arc<Server>, request: Request<Body>) -> Answer {
    let started = std::time::Instant::now();
    let Some(info) = route::parse(request.method(), request.uri()) else {
        return answer::failure(Form::JSON, &ApiError::bad_request("the path is not UTF-8"));
    };
    let form = failure_form(request.headers());
    let (verb, resource) = (info.verb, metrics_resource(&info));
    let mut aside = Aside::default();
    let (mut answer, failure) = match dispatch(server, request, info, &mut aside).await {
        Ok(answer) => (answer, None),
        Err(error) => (answer::failure(form, &error), Some(error)),
    };
    if let Some(sorted) = &aside.sorted {
        sorted.sign(&mut answer);
    }
    if let Some(text) = aside.deprecation {
        answer::warn(&mut answer, &[text.to_owned()]);
    }
    server.metrics.request(verb.as_str(), &resource, answer.status().as_u16(), started.elapsed());
    match aside.trail {
        None => answer,
        Some(trail) => trail.answered(answer, failure.map(|error| error.to_status())).await,
    }
}

/// What is learned of a request beside its answer.
#[derive(Default)]
struct Aside {
    trail: Option<Trail>,
    sorted: Option<Sorted>,
    notes: Notes,
    /// What is to be said of a resource that is on its way out.
    deprecation: Option<String>,
}

fn metrics_resource(info: &RequestInfo) -> String {
    info.resource.as_ref().map(|path| path.resource.clone()).unwrap_or_default()
}

/// Failures come in the client's encoding if that is one of ours, else as JSON.
fn failure_form(headers: &HeaderMap) -> Form {
    match negotiate::accept(headers, None, Offers::Whole, true) {
        Ok(form) => form,
        Err(_) => Form::JSON,
    }
}

async fn dispatch(
    server: &Arc<Server>,
    mut request: Request<Body>,
    info: RequestInfo,
    aside: &mut Aside,
) -> Result<Answer, ApiError> {
    let identity = auth::authenticate(server, &request, &info);
    let notes = aside.notes.clone();
    if let Some(audit) = &server.audit {
        aside.trail =
            Trail::begin(audit, &mut request, &info, identity.as_ref().ok(), &notes).await;
    }
    let user = identity?.user;
    let attributes = auth::attributes(&info);
    aside.sorted = server.flow.sort(&user, &attributes);
    // Held until the answer is there.
    let _seat = match &aside.sorted {
        Some(sorted) if !info.is_long_running() => {
            match server.flow.seat(sorted, &user, &attributes).await {
                Ok(seat) => Some(seat),
                Err(error) => return Ok(flow::too_many(&error)),
            }
        }
        Some(_) | None => None,
    };
    let decision = auth::decide(server, &user, &attributes);
    if aside.trail.is_some() {
        let word = if decision.allowed { "allow" } else { "forbid" };
        notes.annotate("authorization.k8s.io/decision", word);
        notes.annotate("authorization.k8s.io/reason", decision.reason.clone());
    }
    if !decision.allowed {
        return Err(auth::forbidden(&user, &attributes, &decision.reason));
    }
    if let Some(trail) = &mut aside.trail {
        request = trail.body(request, &info).await?;
    }
    if let Some(answerer) = server.aggregation.answerer(&info.path) {
        let answered = aggregation::answer(server, request, &info, &user, answerer);
        return Box::pin(answered).await;
    }
    match info.resource.clone() {
        // In a box: what a write may go through makes a large future.
        Some(path) => Box::pin(resource(server, request, info, path, user, aside)).await,
        None => path(server, request, &info, &user).await,
    }
}

/// Paths that are no resource.
async fn path(
    server: &Arc<Server>,
    request: Request<Body>,
    info: &RequestInfo,
    _user: &User,
) -> Result<Answer, ApiError> {
    let path = info.path.as_str();
    let trimmed = path.trim_end_matches('/');
    let known = match trimmed.split('/').nth(1).unwrap_or("") {
        "api" | "apis" => discovery::answer(server, request.headers(), trimmed),
        "version" => health::version(server, trimmed),
        "healthz" | "livez" | "readyz" => health::answer(server, trimmed, &info.query),
        "metrics" => Some(health::metrics(server)),
        "openapi" => openapi::answer(server, request.headers(), trimmed, &info.query),
        ".well-known" => auth::oidc::configuration(server, trimmed),
        // /openid/v1/jwks
        "openid" => auth::oidc::keys(server, trimmed),
        "" => Some(health::paths(server)),
        _ => None,
    };
    let Some(answer) = known else { return Ok(answer::page_not_found()) };
    match info.verb {
        Verb::Get | Verb::Head => Ok(answer),
        _ => Err(method_not_allowed()),
    }
}

/// 405 as upstream's routes answer it.
pub(crate) fn method_not_allowed() -> ApiError {
    let mut error = ApiError::new(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    );
    error.details = Some(serde_json::json!({}));
    error
}

async fn resource(
    server: &Arc<Server>,
    request: Request<Body>,
    info: RequestInfo,
    path: ResourcePath,
    user: User,
    aside: &mut Aside,
) -> Result<Answer, ApiError> {
    let registry = (**server.registry.load()).clone();
    let Some(kind) = registry.resource(&path.group, &path.version, &path.resource).cloned() else {
        let group_known = registry.iter().any(|kind| kind.names.group == path.group);
        if group_known || path.group.is_empty() {
            return Err(ApiError::no_such_path());
        }
        return Ok(answer::page_not_found());
    };
    aside.deprecation = kind.behaviour.deprecation().map(str::to_string);
    let (head, body) = request.into_parts();
    let call = Call {
        verb: info.verb,
        path,
        query: info.query,
        headers: head.headers.clone(),
        user,
        view: View::new(&kind),
        kind,
        registry,
        now: jiff::Timestamp::now(),
        notes: aside.notes.clone(),
    };
    check_scope(&call)?;
    // What is judged by what is stored must see what other servers have written; reads say
    // themselves how new an answer they want.
    let reads = matches!(call.verb, Verb::Get | Verb::List | Verb::Watch);
    if !reads || !call.path.subresource.is_empty() {
        server.reach("").await?;
    }
    if !call.path.subresource.is_empty() {
        return subresources::answer(server, call, Request::from_parts(head, body)).await;
    }
    verbs_answer(server, &call, body).await
}

/// A cluster-scoped kind is not below a namespace; one object of a namespaced kind always is.
fn check_scope(call: &Call) -> Result<(), ApiError> {
    let (namespaced, given) = (call.kind.namespaced(), !call.namespace().is_empty());
    if !namespaced && given {
        return Err(ApiError::no_such_path());
    }
    let one = !call.name().is_empty();
    if namespaced && !given {
        if one {
            return Err(ApiError::no_such_path());
        }
        if !matches!(call.verb, Verb::List | Verb::Watch) {
            // Reviews and bindings are namespaced but nothing is listed of them: also 405.
            return Err(method_not_allowed());
        }
    }
    Ok(())
}

async fn verbs_answer(server: &Arc<Server>, call: &Call, body: Body) -> Result<Answer, ApiError> {
    let wanted = call.verb.as_str();
    let placed = match call.verb {
        Verb::Create | Verb::List | Verb::DeleteCollection => call.name().is_empty(),
        Verb::Update | Verb::Patch | Verb::Get | Verb::Delete => !call.name().is_empty(),
        Verb::Watch => true,
        Verb::Post | Verb::Put | Verb::Head | Verb::Options => false,
    };
    if !placed || !call.kind.serves(wanted) {
        return Err(crd::refusal(call).unwrap_or_else(method_not_allowed));
    }
    if call.kind.storage.is_none() {
        let body = read(body).await?;
        return subresources::reviews::answer(server, call, &body).await;
    }
    match call.verb {
        Verb::Get => verbs::get::get(server, call).await,
        Verb::List => verbs::list::list(server, call).await,
        Verb::Watch => verbs::watch::watch(server, call).await,
        Verb::Create => verbs::create::create(server, call, &read(body).await?).await,
        Verb::Update => verbs::update::update(server, call, &read(body).await?).await,
        Verb::Patch => verbs::patch::patch(server, call, &read(body).await?).await,
        Verb::Delete => verbs::delete::delete(server, call, &read(body).await?).await,
        Verb::DeleteCollection => {
            let body = read(body).await?;
            verbs::deletecollection::delete_collection(server, call, &body).await
        }
        Verb::Post | Verb::Put | Verb::Head | Verb::Options => Err(method_not_allowed()),
    }
}

/// Reads a body, within the limit.
pub(crate) async fn read(body: Body) -> Result<Bytes, ApiError> {
    let mut body = body;
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::bad_request("the body of the request broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > BODY_MAX_BYTES {
            return Err(ApiError::new(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: limit is {BODY_MAX_BYTES}"),
            ));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}
