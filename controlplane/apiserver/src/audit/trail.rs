//! The events of one request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use objects::ApiError;
use serde_json::{Map, Value, json};

use super::policy::{Level, Stage, Verdict};
use super::{Audit, Notes};
use crate::answer::Answer;
use crate::auth::{self, Identity, PeerAddress};
use crate::body::{self, Body, BoxError};
use crate::codec;
use crate::route::{RequestInfo, ResourcePath, Verb};
use crate::router;

/// Header in which a client may name the request, and in which the answer says its name.
const AUDIT_ID: &str = "audit-id";

/// What is recorded of one request, while it is handled.
#[derive(Debug)]
pub(crate) struct Trail {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Map<String, Value>,
    notes: Notes,
    long_running: bool,
}

impl Trail {
    /// Begins the trail of a request, if the policy wants one. Without an identity the request's
    /// credentials were refused.
    pub(crate) async fn begin(
        audit: &Arc<Audit>,
        request: &mut Request<Body>,
        info: &RequestInfo,
        identity: Option<&Identity>,
        notes: &Notes,
    ) -> Option<Self> {
        let nobody = Identity::default();
        let identity = identity.unwrap_or(&nobody);
        let asking = identity.impersonator.as_ref().unwrap_or(&identity.user);
        let verdict = audit.policy.verdict(asking, &auth::attributes(info));
        if verdict.level == Level::None {
            return None;
        }
        if verdict.level == Level::RequestResponse {
            // The answer has to be read here before it is sent.
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let trail = Self {
            audit: Arc::clone(audit),
            event: event(request, info, identity, verdict.level),
            long_running: info.is_long_running(),
            verdict,
            notes: notes.clone(),
        };
        trail.record(Stage::RequestReceived, None).await;
        Some(trail)
    }

    /// Takes down what the request's body holds; the body goes on to the handler.
    pub(crate) async fn body(
        &mut self,
        request: Request<Body>,
        info: &RequestInfo,
    ) -> Result<Request<Body>, ApiError> {
        let writes = matches!(
            info.verb,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection
        );
        if self.long_running || info.resource.is_none() || !writes {
            return Ok(request);
        }
        let (head, sent) = request.into_parts();
        let bytes = router::read(sent).await?;
        if let Some(mut object) = object(&head.headers, &bytes) {
            self.complete_reference(&object);
            if self.verdict.level >= Level::Request {
                self.omit(&mut object);
                self.event.insert("requestObject".into(), object);
            }
        }
        Ok(Request::from_parts(head, body::full(bytes)))
    }

    /// Records the end of a request, or its beginning if it goes on for long.
    pub(crate) async fn answered(mut self, answer: Answer, failure: Option<Value>) -> Answer {
        let mut status = failure.unwrap_or_else(|| json!({"metadata": {}}));
        status["code"] = answer.status().as_u16().into();
        if let Some(status) = status.as_object_mut() {
            status.remove("kind");
            status.remove("apiVersion");
        }
        self.event.insert("responseStatus".into(), status);
        let id = self.event["auditID"].as_str().and_then(|id| HeaderValue::from_str(id).ok());
        let mut answer = answer;
        if let Some(id) = id {
            answer.headers_mut().insert(AUDIT_ID, id);
        }
        if self.long_running && answer.status() == StatusCode::OK {
            self.record(Stage::ResponseStarted, None).await;
            return answer.map(|sent| body::boxed(Followed { sent, trail: Some(self) }));
        }
        let (head, sent) = answer.into_parts();
        let (sent, shown) = match self.verdict.level {
            Level::RequestResponse if !self.long_running => self.read(&head.headers, sent).await,
            _ => (sent, None),
        };
        self.record(Stage::ResponseComplete, shown).await;
        Answer::from_parts(head, sent)
    }

    /// Reads an answer's body. One that breaks off does so for the client too.
    async fn read(&self, headers: &HeaderMap, sent: Body) -> (Body, Option<Value>) {
        let mut sent = sent;
        let mut read = BytesMut::new();
        while let Some(frame) = sent.frame().await {
            match frame {
                Ok(frame) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Err(error) => {
                    let broken = futures::stream::iter([Ok(read.freeze()), Err(error)]);
                    return (body::stream(broken), None);
                }
            }
        }
        let bytes = read.freeze();
        let shown = object(headers, &bytes).map(|mut object| {
            self.omit(&mut object);
            object
        });
        (body::full(bytes), shown)
    }

    /// The name of an object that is created is only in the object itself.
    fn complete_reference(&mut self, object: &Value) {
        let Some(reference) = self.event.get_mut("objectRef").and_then(Value::as_object_mut) else {
            return;
        };
        for field in ["name", "namespace", "uid", "resourceVersion"] {
            let found = object["metadata"][field].as_str().unwrap_or_default();
            if !found.is_empty() && !reference.contains_key(field) {
                reference.insert(field.into(), found.into());
            }
        }
    }

    fn omit(&self, object: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        let drop_from = |object: &mut Value| {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        };
        if object.get("metadata").is_some() {
            drop_from(object);
        }
        for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            drop_from(item);
        }
    }

    async fn record(&self, stage: Stage, shown: Option<Value>) {
        if let Some(line) = self.line(stage, shown) {
            self.audit.log.put(line).await;
        }
    }

    fn line(&self, stage: Stage, shown: Option<Value>) -> Option<Bytes> {
        if self.verdict.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event.clone();
        event.insert("stage".into(), stage.as_str().into());
        let now = match stage {
            Stage::RequestReceived => self.event["requestReceivedTimestamp"].clone(),
            _ => time(Timestamp::now()),
        };
        event.insert("stageTimestamp".into(), now);
        if let Some(shown) = shown {
            event.insert("responseObject".into(), shown);
        }
        let annotations = self.notes.all();
        if !annotations.is_empty() {
            event.insert("annotations".into(), json!(annotations));
        }
        let mut line = serde_json::to_vec(&event).expect("a value becomes JSON");
        line.push(b'\n');
        Some(line.into())
    }
}

fn time(at: Timestamp) -> Value {
    objects::time::format_micro_time(at).into()
}

fn event(
    request: &Request<Body>,
    info: &RequestInfo,
    identity: &Identity,
    level: Level,
) -> Map<String, Value> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let id = header(AUDIT_ID).map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let uri = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let mut event = Map::new();
    event.insert("kind".into(), "Event".into());
    event.insert("apiVersion".into(), "audit.k8s.io/v1".into());
    event.insert("level".into(), format!("{level:?}").into());
    event.insert("auditID".into(), id.into());
    event.insert("requestURI".into(), uri.into());
    event.insert("verb".into(), info.verb.as_str().into());
    let asking = identity.impersonator.as_ref().unwrap_or(&identity.user);
    event.insert("user".into(), asking.to_user_info());
    if identity.impersonator.is_some() {
        event.insert("impersonatedUser".into(), identity.user.to_user_info());
    }
    let sources = sources(request);
    if !sources.is_empty() {
        event.insert("sourceIPs".into(), json!(sources));
    }
    if let Some(agent) = header(USER_AGENT.as_str()) {
        event.insert("userAgent".into(), agent.into());
    }
    if let Some(path) = &info.resource {
        event.insert("objectRef".into(), reference(path));
    }
    event.insert("requestReceivedTimestamp".into(), time(Timestamp::now()));
    event
}

fn reference(path: &ResourcePath) -> Value {
    let parts = [
        ("resource", &path.resource),
        ("namespace", &path.namespace),
        ("name", &path.name),
        ("apiGroup", &path.group),
        ("apiVersion", &path.version),
        ("subresource", &path.subresource),
    ];
    let given = parts.into_iter().filter(|(_, text)| !text.is_empty());
    Value::Object(given.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect())
}

/// Where the request came from, the client first: proxies say so in headers.
fn sources(request: &Request<Body>) -> Vec<String> {
    let texts = |name: &str| -> Vec<String> {
        let all = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|text| text.split(',')).map(|part| part.trim().to_owned()).collect()
    };
    let mut sources = texts("x-forwarded-for");
    sources.extend(texts("x-real-ip"));
    let peer = request.extensions().get::<PeerAddress>().map(|PeerAddress(ip)| ip.to_string());
    sources.extend(peer);
    sources.retain(|text| text.parse::<std::net::IpAddr>().is_ok());
    let mut seen = std::collections::HashSet::new();
    sources.retain(|text| seen.insert(text.clone()));
    sources
}

fn object(headers: &HeaderMap, bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or("application/json").split(';').next()?.trim();
    let object = match media_type {
        "application/vnd.kubernetes.protobuf" => codec::protobuf(bytes).ok()?.0,
        "application/yaml" | "application/apply-patch+yaml" => codec::yaml(bytes).ok()?,
        _ => serde_json::from_slice(bytes).ok()?,
    };
    // JSON patches are arrays.
    (object.is_object() || object.is_array()).then_some(object)
}

/// The body of a long answer, whose end is recorded when it is dropped.
struct Followed {
    sent: Body,
    trail: Option<Trail>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.sent).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(trail) = self.trail.take() else { return };
        if let Some(line) = trail.line(Stage::ResponseComplete, None) {
            trail.audit.log.put_now(line);
        }
    }
}
