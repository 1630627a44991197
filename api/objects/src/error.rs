//! The one place where `metav1.Status` failures are made.
//!
//! Source of behaviour: kubernetes apimachinery `api/errors`, v1.36. Messages, reasons, codes and
//! `details` are part of the API's contract; internal text never goes in.

use serde_json::{Map, Value, json};
use std::borrow::Cow;

use crate::{FieldErrors, GroupKind, GroupResource};

/// A failure that is answered to the client as a `Status` object.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, empty for none.
    pub reason: Cow<'static, str>,
    /// Text for people.
    pub message: String,
    /// `details`, as JSON.
    pub details: Option<Value>,
    /// Seconds for a `Retry-After` header (also `details.retryAfterSeconds`).
    pub retry_after_secs: Option<u32>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

fn resource_details(resource: &GroupResource, name: &str) -> Value {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), json!(name));
    }
    if !resource.group.is_empty() {
        details.insert("group".into(), json!(resource.group));
    }
    if !resource.resource.is_empty() {
        details.insert("kind".into(), json!(resource.resource));
    }
    Value::Object(details)
}

impl ApiError {
    /// An error of any code and reason, without details.
    pub fn new(
        code: u16,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let reason = reason.into();
        Self { code, reason, message: message.into(), details: None, retry_after_secs: None }
    }

    /// 404 for an object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        let mut error = Self::new(404, "NotFound", format!("{resource} {name:?} not found"));
        error.details = Some(resource_details(resource, name));
        error
    }

    /// 404 for a path that no handler serves.
    pub fn no_such_path() -> Self {
        let mut error =
            Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        let mut error =
            Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists"));
        error.details = Some(resource_details(resource, name));
        error
    }

    /// 409 with a reason in words.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        let mut error = Self::new(409, "Conflict", message);
        error.details = Some(resource_details(resource, name));
        error
    }

    /// 409 for an update of an object that has changed since it was read.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, name, why)
    }

    /// 403 with a reason in words.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        let mut error = Self::new(403, "Forbidden", message);
        error.details = Some(resource_details(resource, name));
        error
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 422 for an object whose fields are wrong.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &FieldErrors) -> Self {
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let mut unique: Vec<String> = Vec::new();
        for text in texts {
            if !unique.contains(&text) {
                unique.push(text);
            }
        }
        let list = match unique.as_slice() {
            [] => "<nil>".to_string(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = errors
            .0
            .iter()
            .map(|error| {
                json!({
                    "reason": error.kind.reason(),
                    "message": error.body(),
                    "field": error.path.to_string(),
                })
            })
            .collect();
        let resource = GroupResource { group: kind.group.clone(), resource: kind.kind.clone() };
        let mut details = resource_details(&resource, name);
        if !causes.is_empty() {
            details["causes"] = Value::Array(causes);
        }
        let message = format!("{kind} {name:?} is invalid: {list}");
        let mut error = Self::new(422, "Invalid", message);
        error.details = Some(details);
        error
    }

    /// 410 for a revision that has been compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 405.
    pub fn method_not_allowed(resource: &GroupResource, method: &str) -> Self {
        let message = format!("{method} is not supported on resources of kind \"{resource}\"");
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(resource_details(resource, ""));
        error
    }

    /// 500. `message` is shown to the client: give no internal detail.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let mut error =
            Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        error.details = Some(json!({"causes": [{"message": message}]}));
        error
    }

    /// 504.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// The `Status` object that is sent.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        if let Some(secs) = self.retry_after_secs {
            status["details"]["retryAfterSeconds"] = json!(secs);
        }
        status
    }
}
