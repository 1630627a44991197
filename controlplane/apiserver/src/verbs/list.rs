//! Reads a collection: a page of a consistent snapshot, streamed from the stored bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use objects::{ApiError, FieldErrors, FieldPath, GroupKind};
use patch::protobuf::ListWriter;
use serde_json::{Map, Value, json};
use store::{List, Page, ReadError, Record};

use crate::answer::{self, Answer};
use crate::body;
use crate::call::{self, Call};
use crate::crd;
use crate::encode;
use crate::negotiate::{self, Encoding, Form, Offers, Shape};
use crate::select::Selection;
use crate::server::Server;
use crate::table;

/// Bytes of items that are put together before they are handed to the connection: large enough
/// that the cost per chunk vanishes, small enough to cost no memory.
const CHUNK_BYTES: usize = 64 * 1024;

/// Records looked at per step of a selective, limited list.
const SCAN_RECORDS: usize = 1000;

/// Answers a `list`.
pub(crate) async fn list(server: &Server, call: &Call) -> Result<Answer, ApiError> {
    validate(call, false)?;
    let protobuf = call.kind.definition.is_none();
    let pretty = call.query.get("pretty");
    let form = negotiate::accept(&call.headers, pretty, Offers::List, protobuf)?;
    if form.shape == Shape::Table {
        table::IncludeObject::parse(&call.query)?;
    }
    let selection = Selection::parse(&call.query, &call.kind)?;
    let found = find(server, call, &selection).await?;
    let plain = form.encoding == Encoding::Json && form.shape == Shape::Whole && !form.pretty;
    if plain {
        return Ok(stream(call, found));
    }
    if form.encoding == Encoding::Protobuf
        && let Some(answer) = wire(call, form, &found).await
    {
        return Ok(answer);
    }
    shaped(call, form, found)
}

/// The part of a collection that a request asked for.
#[derive(Debug)]
pub(crate) struct Found {
    /// Selected records.
    pub records: Vec<Arc<Record>>,
    /// List metadata.
    metadata: Value,
}

/// Finds the page that the request asks for.
pub(crate) async fn find(
    server: &Server,
    call: &Call,
    selection: &Selection,
) -> Result<Found, ApiError> {
    let query = &call.query;
    let limit: usize = query.text("limit").parse().unwrap_or(0);
    let scope = match selection.exact_name() {
        // One name in one namespace is one key.
        Some(name) if !call.namespace().is_empty() || !call.kind.namespaced() => call.key(name),
        _ => call.scope(),
    };
    let at = match query.text("continue") {
        "" => start_of(server, call).await?,
        token => continued(token, &call.scope())?,
    };
    let page = read(server, call, selection, &scope, &at, limit).await?;
    crd::convert::prepare(server, call, &page.records).await?;
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(page.revision.to_string()));
    if page.more
        && let Some(last) = page.records.last()
    {
        let after = last.key.strip_prefix(call.scope().as_str()).unwrap_or(&last.key);
        metadata.insert("continue".into(), json!(token(page.revision, after)));
        if let Some(remaining) = page.remaining {
            metadata.insert("remainingItemCount".into(), json!(remaining));
        }
    }
    Ok(Found { records: page.records, metadata: Value::Object(metadata) })
}

struct Start {
    revision: Option<u64>,
    after: Option<String>,
}

async fn start_of(server: &Server, call: &Call) -> Result<Start, ApiError> {
    let version = call.query.text("resourceVersion");
    server.reach(version).await?;
    let exact = call.query.text("resourceVersionMatch") == "Exact";
    let revision = exact.then(|| version.parse().ok()).flatten();
    Ok(Start { revision, after: None })
}

/// Reads a page; with a selector it goes on until the page is full.
async fn read(
    server: &Server,
    call: &Call,
    selection: &Selection,
    scope: &str,
    start: &Start,
    limit: usize,
) -> Result<Page, ApiError> {
    let everything = selection.is_everything();
    let step = if everything {
        limit
    } else if limit == 0 {
        0
    } else {
        SCAN_RECORDS
    };
    let mut after = start.after.clone();
    let mut revision = start.revision;
    let mut records = Vec::new();
    loop {
        let query = List {
            scope,
            start_after: after.as_deref(),
            limit: step,
            revision,
            count: everything && limit > 0,
        };
        let page = server.store.list(&query).map_err(|error| read_failed(&error))?;
        if everything {
            return Ok(page);
        }
        revision = Some(page.revision);
        let next = page.records.last().map(|record| record.key.to_string());
        if selection.has_fields() {
            crd::convert::prepare(server, call, &page.records).await?;
        }
        for record in page.records {
            if !selection.matches(call, &record) {
                continue;
            }
            if limit > 0 && records.len() == limit {
                return Ok(Page { records, more: true, remaining: None, revision: page.revision });
            }
            records.push(record);
        }
        if !page.more {
            return Ok(Page { records, more: false, remaining: None, revision: page.revision });
        }
        after = next;
    }
}

/// A failure to read at a revision.
pub(crate) fn read_failed(error: &ReadError) -> ApiError {
    match error {
        ReadError::Compacted { .. } => ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter.",
        ),
        ReadError::Future { asked, current } => too_large(*asked, *current),
    }
}

/// 504 for a revision that is ahead of the store.
pub(crate) fn too_large(asked: u64, current: u64) -> ApiError {
    let message = format!("Too large resource version: {asked}, current: {current}");
    let mut error = ApiError::timeout(format!("Timeout: {message}"));
    error.details = Some(json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    }));
    error.retry_after_secs = Some(1);
    error
}

fn token(revision: u64, after: &str) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{after}\0")});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn continued(token: &str, scope: &str) -> Result<Start, ApiError> {
    const WRONG: &str = "invalid continue token: continue key is not valid";
    let invalid = || ApiError::bad_request(WRONG);
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| {
        let first = String::from_utf8_lossy(&bytes).chars().next().unwrap_or('\0');
        let why = format!("invalid character '{first}' looking for beginning of value");
        ApiError::bad_request(format!("{WRONG}: {why}"))
    })?;
    let version = token["v"].as_str().unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(invalid());
    }
    let start = token["start"].as_str().unwrap_or_default().trim_end_matches('\0');
    if start.is_empty() || start.split('/').any(|part| part == "..") {
        return Err(invalid());
    }
    let revision = token["rv"].as_u64().filter(|revision| *revision > 0);
    Ok(Start { revision, after: Some(format!("{scope}{start}")) })
}

/// Validates the options of a list or watch.
///
/// Source: apimachinery `internalversion/validation.ValidateListOptions`, v1.36.
pub(crate) fn validate(call: &Call, watch: bool) -> Result<(), ApiError> {
    let query = &call.query;
    let mut errors = FieldErrors::default();
    let matching = query.text("resourceVersionMatch");
    let version = query.text("resourceVersion");
    let path = FieldPath::new("resourceVersionMatch");
    let continuing = !query.text("continue").is_empty();
    if let Some(send) = query.get("sendInitialEvents") {
        validate_initial_events(send, watch, matching, &mut errors);
    } else if watch {
        if !matching.is_empty() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
    } else if !matching.is_empty() {
        if version.is_empty() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if continuing {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            let supported = ["Exact", "NotOlderThan", ""];
            errors.not_supported(&path, &json!(matching), &supported);
        }
        if matching == "Exact" && version == "0" {
            errors.forbidden(
                &path,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if watch && continuing {
        errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
    }
    if !errors.is_empty() {
        let kind = GroupKind { group: "meta.k8s.io".into(), kind: "ListOptions".into() };
        return Err(ApiError::invalid(&kind, "", &errors));
    }
    if continuing && !version.is_empty() && version != "0" {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(bad_version(version));
    }
    for number in ["limit", "timeoutSeconds"] {
        if let Some(text) = query.get(number).filter(|text| !text.is_empty())
            && text.parse::<i64>().is_err()
        {
            let why = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
            return Err(ApiError::bad_request(why));
        }
    }
    Ok(())
}

fn validate_initial_events(send: &str, watch: bool, matching: &str, errors: &mut FieldErrors) {
    let path = FieldPath::new("resourceVersionMatch");
    if !watch {
        errors.forbidden(
            &FieldPath::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        );
        return;
    }
    if matching != "NotOlderThan" {
        errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !matching.is_empty() && matching != "NotOlderThan" {
        errors.not_supported(&path, &json!(matching), &["NotOlderThan"]);
    }
    let _ = send;
}

/// 400 for a resource version that is no number.
pub(crate) fn bad_version(version: &str) -> ApiError {
    ApiError::bad_request(format!(
        "invalid resource version: resourceVersion: Invalid value: {version:?}: strconv.ParseUint: \
         parsing {version:?}: invalid syntax"
    ))
}

fn list_head(call: &Call, metadata: &Value) -> Bytes {
    let head = encode::head(&call.kind.names.list_kind, &call.kind.api_version());
    format!("{head}\"metadata\":{metadata},\"items\":[").into()
}

/// Streams a list as JSON, made from the stored bytes a chunk at a time.
fn stream(call: &Call, found: Found) -> Answer {
    let size: usize = found.records.iter().map(|record| record.json.len()).sum();
    let gzip = answer::reads_gzip(&call.headers);
    let head = list_head(call, &found.metadata);
    let (kind, view) = (call.kind.clone(), call.view.clone());
    let mut answer = answer::bytes(200, Encoding::Json.media_type(), Bytes::new());
    let mut put = {
        let mut first = true;
        move |records: &mut VecDeque<Arc<Record>>, chunk: &mut BytesMut| {
            while chunk.len() < CHUNK_BYTES
                && let Some(record) = records.pop_front()
            {
                if !std::mem::take(&mut first) {
                    chunk.put_u8(b',');
                }
                view.put_item(&kind, &record, chunk);
            }
        }
    };
    let mut records: VecDeque<Arc<Record>> = found.records.into();
    let mut chunk = BytesMut::with_capacity((size + head.len() + 16).min(CHUNK_BYTES * 2));
    chunk.put_slice(&head);
    if size < CHUNK_BYTES {
        put(&mut records, &mut chunk);
        chunk.put_slice(b"]}\n");
        *answer.body_mut() = body::full(chunk.freeze());
        return answer;
    }
    let chunks = futures::stream::unfold(Some((records, chunk)), move |state| {
        let next = state.map(|(mut records, mut chunk)| {
            put(&mut records, &mut chunk);
            if records.is_empty() {
                chunk.put_slice(b"]}\n");
                return (Ok(chunk.freeze()), None);
            }
            let full = chunk.split().freeze();
            (Ok(full), Some((records, BytesMut::with_capacity(CHUNK_BYTES + 4096))))
        });
        std::future::ready(next)
    });
    *answer.body_mut() = body::stream(chunks);
    if gzip { answer::compress(answer, size) } else { answer }
}

/// A list in protobuf; `None` for what has no such form.
async fn wire(call: &Call, form: Form, found: &Found) -> Option<Answer> {
    let (api_version, kind) = match form.shape {
        Shape::Table => return None,
        Shape::Whole => (call.kind.api_version(), call.kind.names.list_kind.as_str()),
        Shape::Partial | Shape::PartialList => {
            ("meta.k8s.io/v1".to_string(), "PartialObjectMetadataList")
        }
    };
    let writer = ListWriter::new(&patch::schema::for_kind(&api_version, kind)?)?;
    let list = json!({"apiVersion": api_version, "kind": kind, "metadata": found.metadata});
    let show = |record: &Record| {
        let object = call.object(record);
        if form.shape == Shape::Whole { object } else { table::partial(&object) }
    };
    let pieces = encode::wire::list(&writer, &list, &found.records, show).await.ok()?;
    let size = pieces.iter().map(Bytes::len).sum();
    let mut answer = answer::bytes(200, Encoding::Protobuf.media_type(), Bytes::new());
    answer.headers_mut().remove(http::header::CONTENT_LENGTH);
    *answer.body_mut() = body::pieces(pieces);
    Some(if answer::reads_gzip(&call.headers) { answer::compress(answer, size) } else { answer })
}

fn shaped(call: &Call, form: Form, found: Found) -> Result<Answer, ApiError> {
    let size: usize = found.records.iter().map(|record| record.json.len()).sum();
    let objects = found.records.iter().map(|record| call.object(record));
    let value = match form.shape {
        Shape::Table => {
            let include = table::IncludeObject::parse(&call.query)?;
            let rows =
                objects.map(|object| table::row(&call.kind, object, include, call.now)).collect();
            table::table(found.metadata, table::columns(&call.kind), rows)
        }
        Shape::Partial | Shape::PartialList => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": found.metadata,
            "items": objects.map(|object| table::partial(&object)).collect::<Vec<_>>(),
        }),
        Shape::Whole => {
            let items: Vec<Value> = objects
                .map(|mut object| {
                    if call.kind.definition.is_none() {
                        encode::strip_type(&mut object);
                    }
                    object
                })
                .collect();
            let list = json!({
                "kind": call.kind.names.list_kind,
                "apiVersion": call.kind.api_version(),
                "metadata": found.metadata,
                "items": items,
            });
            let answer = answer::list(form, &call.kind, &list);
            let gzip = answer::reads_gzip(&call.headers);
            return Ok(if gzip { answer::compress(answer, size) } else { answer });
        }
    };
    let answer = answer::value(200, form, &value);
    Ok(if answer::reads_gzip(&call.headers) { answer::compress(answer, size) } else { answer })
}

/// Every object of a kind in a namespace (empty: in all), for the server's own reading.
pub(crate) fn every(server: &Server, kind: &kinds::Kind, namespace: &str) -> Vec<Arc<Record>> {
    let scope = call::scope(kind, namespace);
    let query = List { scope: &scope, ..List::default() };
    server.store.list(&query).map(|page| page.records).unwrap_or_default()
}
