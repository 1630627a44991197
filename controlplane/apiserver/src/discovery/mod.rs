//! What is served: the older documents, one per group and version, and the aggregated one.

mod aggregated;
mod legacy;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use crate::aggregation;
use crate::answer::{self, Answer};
use crate::body;
use crate::negotiate::{self, Form, Offers};
use crate::server::Server;

/// Answers `/api`, `/apis` and what is below them; `None` for an unknown path.
pub(crate) fn answer(server: &Server, headers: &HeaderMap, path: &str) -> Option<Answer> {
    let registry = server.registry.load();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if let ["api" | "apis"] = parts.as_slice() {
        let core = parts[0] == "api";
        if let Some(form) = wants_aggregated(headers) {
            return Some(aggregated(server, &registry, headers, core, form));
        }
    }
    let form = match negotiate::accept(headers, None, Offers::Whole, false) {
        Ok(form) => form,
        Err(error) => return Some(answer::failure(Form::JSON, &error)),
    };
    let document = match parts.as_slice() {
        ["api"] => Some(legacy::versions(&server.config)),
        ["apis"] => {
            let mut document = legacy::groups(&registry);
            if let Some(groups) = document["groups"].as_array_mut() {
                groups.extend(aggregation::discovery::groups(server));
            }
            Some(document)
        }
        ["api", version] => legacy::resources(&registry, "", version),
        ["apis", group] => match legacy::group(&registry, group) {
            Some(document) => Some(document),
            None => match aggregation::discovery::group(server, group) {
                Some(document) => Some(document),
                None => return Some(answer::page_not_found()),
            },
        },
        ["apis", group, version] => match legacy::resources(&registry, group, version) {
            Some(document) => Some(document),
            // Upstream has a handler of its own for built-in groups only.
            None if !registry
                .iter()
                .any(|kind| kind.names.group == *group && kind.definition.is_none()) =>
            {
                return Some(answer::page_not_found());
            }
            None => None,
        },
        _ => None,
    };
    Some(match document {
        Some(document) => answer::value(200, form, &document),
        None => answer::failure(form, &objects::ApiError::no_such_path()),
    })
}

/// Whether the client prefers the aggregated document.
fn wants_aggregated(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let params: Vec<&str> = parts.collect();
        let asks = params.contains(&"g=apidiscovery.k8s.io")
            && params.contains(&"as=APIGroupDiscoveryList");
        match media {
            "application/json" if asks && params.contains(&"v=v2") => return Some("v2"),
            "application/json" if asks => {}
            "application/json" | "*/*" | "application/yaml" => return None,
            _ => {}
        }
    }
    None
}

fn aggregated(
    server: &Server,
    registry: &kinds::Registry,
    headers: &HeaderMap,
    core: bool,
    version: &str,
) -> Answer {
    let mut document = aggregated::document(registry, core, version);
    if let Some(items) = document["items"].as_array_mut().filter(|_| !core) {
        items.extend(aggregation::discovery::items(server));
    }
    let document = document.to_string();
    let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(&document)));
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value == etag);
    let mut answer = answer::bytes(200, "application/json", document);
    let media =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let headers = answer.headers_mut();
    if let Ok(media) = HeaderValue::from_str(&media) {
        headers.insert(CONTENT_TYPE, media);
    }
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = body::empty();
    }
    answer
}
