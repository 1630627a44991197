//! Requests that the aggregator itself makes of this server, by the way of all requests.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use objects::ApiError;
use serde_json::Value;

use crate::answer::Answer;
use crate::body;
use crate::identity::{MASTERS, User};
use crate::router;
use crate::server::Server;

/// Sends a request with a JSON body as the server's own user.
///
/// # Errors
/// What the answer says if it is no success.
pub(super) async fn request(
    server: &Arc<Server>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, ApiError> {
    let content =
        if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = body.map(Value::to_string).unwrap_or_default();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, content)
        .header(header::USER_AGENT, "kube-aggregator")
        .body(body::full(bytes))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    request.extensions_mut().insert(User::authenticated("system:kube-aggregator", &[MASTERS]));
    let server = Arc::clone(server);
    let handled: BoxFuture<'static, Answer> =
        Box::pin(async move { router::handle(&server, request).await });
    let answer = handled.await;
    let status = answer.status();
    let whole = answer.into_body().collect().await;
    let whole = whole.map_err(|error| ApiError::internal(error.to_string()))?.to_bytes();
    let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let reason = match status.as_u16() {
        404 => "NotFound",
        409 if value["reason"] == "AlreadyExists" => "AlreadyExists",
        409 => "Conflict",
        _ => "InternalError",
    };
    let message = value["message"].as_str().unwrap_or("no message");
    Err(ApiError::new(status.as_u16(), reason, format!("{path}: {message}")))
}
