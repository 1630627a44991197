//! Published schemas: `/openapi/v3` by group and version, `/openapi/v2` as one document.
//!
//! They are made from `patch`'s schema table and the registry when they are asked for, and not
//! kept: a client asks once and caches by the hash in the address.

mod custom;
mod descriptions;
mod paths;
mod schemas;

use std::sync::Arc;

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use kinds::{Kind, Registry};
use objects::GroupVersion;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::answer::{self, Answer};
use crate::body;
use crate::query::Query;
use crate::server::Server;
use schemas::{Dialect, Schemas};

/// Answers what is below `/openapi`; `None` for an unknown path.
pub(crate) fn answer(
    server: &Server,
    headers: &HeaderMap,
    path: &str,
    query: &Query,
) -> Option<Answer> {
    let registry = (**server.registry.load()).clone();
    let rest = path.strip_prefix("/openapi/")?;
    if rest == "v2" {
        return Some(cached(headers, &document_v2(server, &registry).to_string(), false));
    }
    let rest = rest.strip_prefix("v3")?;
    if rest.is_empty() {
        return Some(cached(headers, &index(server, &registry).to_string(), false));
    }
    let wanted = group_version(rest.strip_prefix('/')?)?;
    let kinds = kinds_of(&registry, &wanted);
    if kinds.is_empty() {
        return None;
    }
    let hash = hash_of(server, &kinds);
    let asked = query.text("hash");
    let immutable = !asked.is_empty() && asked == hash;
    let text = document_v3(server, &kinds).to_string();
    Some(cached(headers, &text, immutable))
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn group_version(path: &str) -> Option<GroupVersion> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(GroupVersion::new("", version)),
        ["apis", group, version] => Some(GroupVersion::new(group, version)),
        _ => None,
    }
}

fn place_of(kind: &Kind) -> String {
    let names = &kind.names;
    if names.group.is_empty() {
        format!("api/{}", names.version)
    } else {
        format!("apis/{}/{}", names.group, names.version)
    }
}

fn kinds_of(registry: &Registry, wanted: &GroupVersion) -> Vec<Arc<Kind>> {
    let of = |kind: &&Arc<Kind>| {
        kind.names.group == wanted.group && kind.names.version == wanted.version
    };
    registry.iter().filter(of).cloned().collect()
}

/// What changes whenever the document of a group and version does: the kinds, what they serve, and
/// where the schemas of custom ones are in memory.
fn hash_of(server: &Server, kinds: &[Arc<Kind>]) -> String {
    let mut digest = Sha256::new();
    digest.update(server.config.build.as_bytes());
    for kind in kinds {
        digest.update(kind.names.plural.as_bytes());
        digest.update(kind.verbs.join(",").as_bytes());
        for subresource in &kind.subresources {
            digest.update(subresource.name.as_bytes());
        }
        if kind.definition.is_some() {
            let version = server.schemas.definitions.version(kind);
            digest.update(version.map_or([0; 8], |version| version.hash));
        }
    }
    hex::encode_upper(digest.finalize())
}

fn index(server: &Server, registry: &Registry) -> Value {
    let mut by_place: std::collections::BTreeMap<String, Vec<Arc<Kind>>> = Default::default();
    for kind in registry.iter() {
        by_place.entry(place_of(kind)).or_default().push(kind.clone());
    }
    let mut paths = Map::new();
    for (place, kinds) in by_place {
        let hash = hash_of(server, &kinds);
        let url = format!("/openapi/v3/{place}?hash={hash}");
        paths.insert(place, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn info(server: &Server) -> Value {
    json!({"title": "Kubernetes", "version": format!("v1.36.2+{}", server.config.build)})
}

fn document_v3(server: &Server, kinds: &[Arc<Kind>]) -> Value {
    let mut schemas = Schemas::new(server, Dialect::V3);
    let paths = paths::of(kinds, &mut schemas);
    json!({
        "openapi": "3.0.0",
        "info": info(server),
        "paths": paths,
        "components": {"schemas": schemas.finish()},
    })
}

fn document_v2(server: &Server, registry: &Registry) -> Value {
    let mut schemas = Schemas::new(server, Dialect::V2);
    let kinds: Vec<Arc<Kind>> = registry.iter().cloned().collect();
    let paths = paths::of(&kinds, &mut schemas);
    json!({
        "swagger": "2.0",
        "info": info(server),
        "paths": paths,
        "definitions": schemas.finish(),
    })
}

fn cached(headers: &HeaderMap, text: &str, immutable: bool) -> Answer {
    let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(text)));
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value == etag);
    let size = text.len();
    let mut answer = answer::bytes(200, "application/json", text.to_string());
    let out = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(ETAG, etag);
    }
    out.insert(VARY, HeaderValue::from_static("Accept"));
    if immutable {
        out.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    if known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = body::empty();
        return answer;
    }
    if answer::reads_gzip(headers) { answer::compress(answer, size) } else { answer }
}
