//! Follows a collection: one JSON frame per change, made from the stored bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use objects::ApiError;
use rand::Rng;
use serde_json::{Value, json};
use store::{Event, List, ReadError, Record, Watch, WatchError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::{self, Answer};
use crate::body;
use crate::call::Call;
use crate::crd;
use crate::encode::{self, FrameKey};
use crate::negotiate::{self, Encoding, Form, Offers, Shape};
use crate::select::Selection;
use crate::server::Server;
use crate::table::{self, IncludeObject};
use crate::verbs::list;

/// A watch without a timeout of its own ends after 30 to 60 minutes, so that clients spread over
/// servers anew; upstream's figures.
const TIMEOUT_SECS: std::ops::Range<u64> = 1800..3600;
/// A client that asked for bookmarks gets one a minute at least.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Frames are put together up to this size while more are waiting.
const CHUNK_BYTES: usize = 64 * 1024;

/// Answers a `watch`.
pub(crate) async fn watch(server: &Arc<Server>, call: &Call) -> Result<Answer, ApiError> {
    list::validate(call, true)?;
    let pretty = call.query.get("pretty");
    let protobuf = call.kind.definition.is_none();
    let form = negotiate::accept(&call.headers, pretty, Offers::Watch, protobuf)?;
    let include = IncludeObject::parse(&call.query)?;
    let mut selection = Selection::parse(&call.query, &call.kind)?;
    if !call.name().is_empty() {
        selection = selection.only(call.name());
    }
    let scope = match selection.exact_name() {
        Some(name) if !call.namespace().is_empty() || !call.kind.namespaced() => call.key(name),
        _ => call.scope(),
    };
    let asked: u64 = call.query.text("timeoutSeconds").parse().unwrap_or(0);
    let secs = if asked > 0 { asked } else { rand::rng().random_range(TIMEOUT_SECS) };
    let mut frames = Frames {
        call: call.clone(),
        selection,
        form,
        include,
        columns_sent: false,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        server: server.clone(),
    };
    let (watch, first) = match open(server, call, &scope, secs).await? {
        Opened::Running { watch, initial, mark_end } => {
            match crd::convert::prepare(server, call, &initial).await {
                Ok(()) => (Some(watch), frames.initial(&initial, mark_end)),
                Err(error) => (None, frames.error(&error)),
            }
        }
        Opened::Failed(error) => (None, frames.error(&error)),
    };
    let follow = Follow {
        frames,
        watch,
        first: Some(first),
        ends: Instant::now() + Duration::from_secs(secs),
        server: server.clone(),
        shutdown: server.shutdown.clone(),
    };
    let mut answer = answer::bytes(200, media_type(form), Bytes::new());
    answer.headers_mut().remove(http::header::CONTENT_LENGTH);
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type(form)));
    *answer.body_mut() = body::stream(futures::stream::unfold(follow, Follow::step));
    Ok(answer)
}

fn media_type(form: Form) -> &'static str {
    match form.encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Yaml => "application/yaml",
    }
}

enum Opened {
    Running {
        watch: Watch,
        /// What is there now, if the client wants that first.
        initial: Vec<Arc<Record>>,
        /// The revision of the bookmark that says where the initial events end, if one is wanted.
        mark_end: Option<u64>,
    },
    /// Told as an event, since a watch has begun for the client.
    Failed(ApiError),
}

async fn open(server: &Server, call: &Call, scope: &str, secs: u64) -> Result<Opened, ApiError> {
    let version = call.query.text("resourceVersion");
    let asked: u64 = version.parse().unwrap_or(0);
    let send = call.query.get("sendInitialEvents").map(|_| call.query.flag("sendInitialEvents"));
    let from_now = asked == 0 && send.is_none_or(|send| send);
    if from_now || send == Some(true) {
        server.reach(version).await?;
        let query = List { scope, ..List::default() };
        let page = server.store.list(&query).map_err(|error| list::read_failed(&error))?;
        let wanted = send == Some(true) && call.query.flag("allowWatchBookmarks");
        let mark_end = wanted.then_some(page.revision);
        return match server.store.watch(scope, page.revision) {
            Ok(watch) => Ok(Opened::Running { watch, initial: page.records, mark_end }),
            Err(error) => Ok(Opened::Failed(too_old(&error))),
        };
    }
    let after = if asked == 0 { server.store.revision() } else { asked };
    if after > server.store.revision() {
        // A revision of the future is waited for, as long as the watch may last.
        let wait = tokio::time::timeout(Duration::from_secs(secs), server.store.wait_for(after));
        if !matches!(wait.await, Ok(Ok(()))) {
            return Ok(Opened::Failed(list::too_large(after, server.store.revision())));
        }
    }
    match server.store.watch(scope, after) {
        Ok(watch) => Ok(Opened::Running { watch, initial: Vec::new(), mark_end: None }),
        Err(error) => Ok(Opened::Failed(too_old(&error))),
    }
}

fn too_old(error: &ReadError) -> ApiError {
    match error {
        ReadError::Compacted { asked, oldest } => {
            ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        ReadError::Future { asked, current } => list::too_large(*asked, *current),
    }
}

/// Turns events into frames.
struct Frames {
    call: Call,
    selection: Selection,
    form: Form,
    include: IncludeObject,
    /// A Table's columns come with the first row only.
    columns_sent: bool,
    bookmarks: bool,
    server: Arc<Server>,
}

impl Frames {
    fn matches(&self, record: &Record) -> bool {
        self.selection.matches(&self.call, record)
    }

    fn initial(&mut self, records: &[Arc<Record>], end: Option<u64>) -> Bytes {
        let mut out = BytesMut::new();
        for record in records {
            if self.matches(record) {
                self.put(&mut out, "ADDED", record);
            }
        }
        if let Some(revision) = end {
            self.bookmark(&mut out, revision, true);
        }
        out.freeze()
    }

    /// The frames of some events; what kept them from being shown.
    async fn events(
        &mut self,
        server: &Server,
        out: &mut BytesMut,
        events: &[Event],
    ) -> Option<ApiError> {
        let records = events.iter().flat_map(|event| match event {
            Event::Created(new) => vec![new],
            Event::Updated(new, old) | Event::Deleted(new, old) => vec![new, old],
        });
        if let Err(error) = crd::convert::prepare(server, &self.call, records).await {
            return Some(error);
        }
        for event in events {
            self.event(out, event);
        }
        if let Some(converted) = &self.call.view.converted {
            converted.clear();
        }
        None
    }

    /// The frame of one event, if this client should see it. An object that begins or ceases to be
    /// selected is added or deleted for the client.
    fn event(&mut self, out: &mut BytesMut, event: &Event) {
        match event {
            Event::Created(new) if self.matches(new) => self.put_shared(out, "ADDED", new),
            Event::Created(_) => {}
            Event::Updated(new, old) => match (self.matches(new), self.matches(old)) {
                (true, true) => self.put_shared(out, "MODIFIED", new),
                (true, false) => self.put_shared(out, "ADDED", new),
                (false, true) => self.put_left(out, old, new.revision),
                (false, false) => {}
            },
            Event::Deleted(last, old) if self.matches(old) => {
                self.put_shared(out, "DELETED", last);
            }
            Event::Deleted(..) => {}
        }
    }

    /// As [`Self::put`], with the frame that another watcher has encoded. Not so for Tables, whose
    /// cells depend on the time, nor for custom resources, whose bytes depend on their definition.
    fn put_shared(&mut self, out: &mut BytesMut, event: &'static str, record: &Record) {
        let stored = self.form.shape == Shape::Whole && self.form.encoding == Encoding::Json;
        let custom = self.call.kind.definition.is_some();
        if stored || custom || self.form.shape == Shape::Table {
            self.put(out, event, record);
            return;
        }
        let api_version = self.call.kind.api_version();
        let key = FrameKey { revision: record.revision, event, form: self.form, api_version };
        let server = self.server.clone();
        let frame = server.frames.get(key, || {
            let mut frame = BytesMut::new();
            self.put(&mut frame, event, record);
            frame.freeze()
        });
        out.put_slice(&frame);
    }

    fn put(&mut self, out: &mut BytesMut, kind: &str, record: &Record) {
        if self.form.shape == Shape::Whole && self.form.encoding == Encoding::Json {
            let json = self.call.view.json(&self.call.kind, record);
            out.reserve(json.len() + 40);
            out.put_slice(b"{\"type\":\"");
            out.put_slice(kind.as_bytes());
            out.put_slice(b"\",\"object\":");
            out.put_slice(&json);
            out.put_slice(b"}\n");
            return;
        }
        let object = self.call.object(record);
        self.put_object(out, kind, object);
    }

    /// The version that was last selected, at the revision at which it ceased to be.
    fn put_left(&mut self, out: &mut BytesMut, old: &Record, revision: u64) {
        let mut object = self.call.object(old);
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        self.put_object(out, "DELETED", object);
    }

    fn put_object(&mut self, out: &mut BytesMut, kind: &str, object: Value) {
        let shown = match self.form.shape {
            Shape::Whole => object,
            Shape::Partial | Shape::PartialList => table::partial(&object),
            Shape::Table => {
                let metadata = table::object_metadata(&object);
                let columns = match std::mem::replace(&mut self.columns_sent, true) {
                    true => Value::Null,
                    false => table::columns(&self.call.kind),
                };
                let now = jiff::Timestamp::now();
                let row = table::row(&self.call.kind, object, self.include, now);
                table::table(metadata, columns, vec![row])
            }
        };
        self.frame(out, kind, &shown);
    }

    fn frame(&self, out: &mut BytesMut, kind: &str, object: &Value) {
        if self.form.encoding == Encoding::Protobuf {
            // What has no message (a Table) is inside the frame as JSON, which clients tell apart
            // by its first byte.
            let object =
                answer::protobuf(object).unwrap_or_else(|| encode::encode(object).to_vec());
            out.put_slice(&patch::protobuf::watch_frame(kind, &object));
            return;
        }
        let frame = json!({"type": kind, "object": object});
        match self.form.encoding {
            Encoding::Yaml => out.put_slice(&answer::write(self.form, &frame)),
            Encoding::Json | Encoding::Protobuf => {
                out.put_slice(&encode::encode(&frame));
                out.put_u8(b'\n');
            }
        }
    }

    fn bookmark(&self, out: &mut BytesMut, revision: u64, initial_end: bool) {
        let mut metadata = json!({
            "resourceVersion": revision.to_string(),
            "creationTimestamp": null,
        });
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form.shape {
            Shape::Whole => json!({
                "kind": self.call.kind.names.kind,
                "apiVersion": self.call.kind.api_version(),
                "metadata": metadata,
            }),
            Shape::Partial | Shape::PartialList => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Shape::Table => table::table(metadata, Value::Null, Vec::new()),
        };
        self.frame(out, "BOOKMARK", &object);
    }

    fn error(&self, error: &ApiError) -> Bytes {
        let mut out = BytesMut::new();
        self.frame(&mut out, "ERROR", &error.to_status());
        out.freeze()
    }
}

/// A running watch, as the stream of its chunks.
struct Follow {
    frames: Frames,
    /// `None` once nothing more will come.
    watch: Option<Watch>,
    first: Option<Bytes>,
    ends: Instant,
    server: Arc<Server>,
    shutdown: CancellationToken,
}

type Chunk = Result<Bytes, body::BoxError>;

impl Follow {
    async fn step(mut self) -> Option<(Chunk, Self)> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Some((Ok(first), self));
        }
        loop {
            let watch = self.watch.as_mut()?;
            let bookmark_at = (Instant::now() + BOOKMARK_EVERY).min(self.ends);
            let bookmarks = self.frames.bookmarks;
            let wake = if bookmarks { bookmark_at } else { self.ends };
            let mut out = BytesMut::new();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                events = watch.next() => match events {
                    Ok(events) => {
                        let mut failed = self.frames.events(&self.server, &mut out, &events).await;
                        while failed.is_none()
                            && out.len() < CHUNK_BYTES
                            && let Ok(Some(events)) = watch.try_next()
                        {
                            failed = self.frames.events(&self.server, &mut out, &events).await;
                        }
                        if let Some(error) = failed {
                            self.watch = None;
                            out.put_slice(&self.frames.error(&error));
                        }
                    }
                    Err(WatchError::Closed) => return None,
                    Err(WatchError::TooSlow { reached, oldest }) => {
                        self.watch = None;
                        let why = format!("too old resource version: {reached} ({oldest})");
                        let frame = self.frames.error(&ApiError::expired(why));
                        return Some((Ok(frame), self));
                    }
                },
                () = tokio::time::sleep_until(wake) => {
                    if bookmarks {
                        let revision = watch.progress();
                        self.frames.bookmark(&mut out, revision, false);
                    }
                    if Instant::now() >= self.ends {
                        self.watch = None;
                    }
                }
            }
            if !out.is_empty() {
                return Some((Ok(out.freeze()), self));
            }
        }
    }
}
