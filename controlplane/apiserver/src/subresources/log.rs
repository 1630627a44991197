//! Logs: the kubelet's answer, handed on as it comes.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use objects::{ApiError, FieldErrors, FieldPath, GroupKind};
use serde_json::json;

use super::kubelet;
use super::target::{container, target};
use crate::answer::Answer;
use crate::body;
use crate::call::Call;
use crate::server::Server;

/// Parameters that the kubelet understands as the API names them.
const PARAMETERS: &[&str] = &[
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "stream",
];

/// Answers.
pub(super) async fn answer(server: &Arc<Server>, call: &Call) -> Result<Answer, ApiError> {
    validate(call)?;
    let target = target(server, call)?;
    let container = container(call, &target.pod)?;
    let query: Vec<(String, String)> = call
        .query
        .pairs()
        .iter()
        .filter(|(name, _)| PARAMETERS.contains(&name.as_str()))
        .cloned()
        .collect();
    let uri = kubelet::uri(&["containerLogs", call.namespace(), call.name(), &container], &query);
    let request = Request::get(uri).body(body::empty()).expect("a checked path makes a request");
    let answer = kubelet::send(server, &target.place, request).await?;
    let (mut head, incoming) = answer.into_parts();
    if !head.status.is_success() {
        let text = incoming.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_string();
        return Err(failure(head.status.as_u16(), text));
    }
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(Answer::from_parts(head, body::boxed(incoming)))
}

fn failure(code: u16, text: String) -> ApiError {
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        _ => "InternalError",
    };
    ApiError::new(code, reason, text)
}

/// Source: kubernetes `pkg/apis/core/validation`, `ValidatePodLogOptions`.
fn validate(call: &Call) -> Result<(), ApiError> {
    let mut errors = FieldErrors::default();
    let number = |name: &str| call.query.get(name).map(|text| (text, text.parse::<i64>()));
    for (name, least, words) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        match number(name) {
            Some((_, Ok(value))) if value < least => {
                errors.invalid(&FieldPath::new(name), &json!(value), words);
            }
            Some((text, Err(_))) => {
                return Err(ApiError::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                )));
            }
            _ => {}
        }
    }
    if call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some() {
        errors.forbidden(
            &FieldPath::root(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupKind { group: String::new(), kind: "PodLogOptions".into() };
    Err(ApiError::invalid(&kind, call.name(), &errors))
}
