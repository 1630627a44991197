//! How a webhook is reached.
//!
//! Source: k8s.io/apiserver `pkg/util/webhook/validation.go`, v1.36.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::read::Read;

const FORM: &str = "; desired format: https://host[/path]";

/// Checks a `WebhookClientConfig`.
pub(crate) fn check_client(client: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match (client.field("url"), client.field("service")) {
        (Some(url), None) => check_url(url, &path.child("url"), errors),
        (None, Some(service)) => check_service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn check_url(url: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let text = url.as_str().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid_str(path, scheme, &detail);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.invalid_str(path, host, &format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        errors.invalid_str(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid_str(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid_str(path, query, "query parameters are not permitted in the URL");
    }
}

fn check_service(service: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if service.text("name").is_empty() {
        errors.required(&path.child("name"), "service name is required");
    }
    if service.text("namespace").is_empty() {
        errors.required(&path.child("namespace"), "service namespace is required");
    }
    if let Some(port) = service.int("port").filter(|port| !(1..=65_535).contains(port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.child("port"), &json!(port), detail);
    }
    let Some(text) = service.text_opt("path").filter(|text| !text.is_empty()) else { return };
    let path = path.child("path");
    let Some(rest) = text.strip_prefix('/') else {
        return errors.invalid_str(&path, text, "must start with a '/'");
    };
    if rest.is_empty() {
        return;
    }
    // A slash at the end is fine.
    let segments: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    for (index, segment) in segments.into_iter().enumerate() {
        if segment.is_empty() {
            let detail = format!("segment[{index}] may not be empty");
            errors.invalid_str(&path, text, &detail);
            continue;
        }
        for fault in names::name_is_dns_subdomain(segment, false) {
            errors.invalid_str(&path, text, &format!("segment[{index}]: {fault}"));
        }
    }
}
