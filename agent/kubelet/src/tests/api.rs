//! As much of an API as a kubelet needs: lists, watches, creates, patches, deletes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    /// By path of the object: `/api/v1/namespaces/n/pods/p`.
    objects: BTreeMap<String, Value>,
    /// Every change: path, type, object.
    log: Vec<(String, &'static str, Value)>,
}

impl State {
    fn revision(&self) -> u64 {
        self.log.len() as u64
    }

    fn change(&mut self, path: &str, kind: &'static str, mut object: Value) -> Value {
        let revision = self.revision() + 1;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if kind == "DELETED" {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.to_owned(), object.clone());
        }
        self.log.push((path.to_owned(), kind, object.clone()));
        object
    }
}

/// The API; clones share it.
#[derive(Clone)]
pub(super) struct Api {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
}

/// `field=value` of a field selector.
type Selector = Option<(String, String)>;

impl Api {
    pub(super) fn new() -> Self {
        Self { state: Arc::default(), revision: watch::Sender::new(0) }
    }

    pub(super) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// The revision, which moves with every change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Creates or replaces an object.
    pub(super) fn put(&self, path: &str, object: Value) {
        let mut state = self.state.lock();
        let kind = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        state.change(path, kind, object);
        self.revision.send_replace(state.revision());
    }

    pub(super) fn remove(&self, path: &str) {
        let mut state = self.state.lock();
        if let Some(object) = state.objects.get(path).cloned() {
            state.change(path, "DELETED", object);
            self.revision.send_replace(state.revision());
        }
    }

    /// Objects whose path begins so.
    pub(super) fn under(&self, prefix: &str) -> Vec<Value> {
        let state = self.state.lock();
        let found = state.objects.iter().filter(|(path, _)| path.starts_with(prefix));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// Every version that an object has had.
    pub(super) fn history(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock();
        let own = state.log.iter().filter(|(known, ..)| known == path);
        own.map(|(_, _, object)| object.clone()).collect()
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or("").to_owned();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, &query),
            Method::GET => self.read(&path, &query),
            Method::POST if path.ends_with("/token") => answer(
                StatusCode::CREATED,
                &json!({"status": {"token": "secret-token", "expirationTimestamp": "2100-01-01T00:00:00Z"}}),
            ),
            Method::POST => self.create(&path, body),
            Method::PATCH => self.patch(&path, &body),
            Method::DELETE => {
                let existed = self.get(&path).is_some();
                self.remove(&path);
                if existed {
                    answer(StatusCode::OK, &json!({"kind": "Status"}))
                } else {
                    failure(404)
                }
            }
            _ => failure(405),
        }
    }

    fn read(&self, path: &str, query: &str) -> Response<Body> {
        if let Some(object) = self.get(path) {
            return answer(StatusCode::OK, &object);
        }
        let is_collection = path.rsplit('/').next().is_some_and(|last| last.ends_with('s'));
        if !is_collection {
            return failure(404);
        }
        let selector = selector(query);
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(known, object)| is_in(known, path) && selected(object, &selector))
            .map(|(_, object)| object)
            .collect();
        let revision = state.revision().to_string();
        answer(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": revision}, "items": items}),
        )
    }

    fn create(&self, path: &str, mut object: Value) -> Response<Body> {
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let path = format!("{path}/{name}");
        if self.get(&path).is_some() {
            return failure(409);
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        }
        self.put(&path, object);
        answer(StatusCode::CREATED, &self.get(&path).expect("it was just made"))
    }

    fn patch(&self, path: &str, body: &Value) -> Response<Body> {
        let object_path = path.strip_suffix("/status").unwrap_or(path);
        let Some(mut object) = self.get(object_path) else { return failure(404) };
        let uid = body["metadata"]["uid"].as_str();
        if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
            return failure(409);
        }
        merge(&mut object, body);
        self.put(object_path, object);
        answer(StatusCode::OK, &self.get(object_path).expect("it was just written"))
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let from: usize = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok())
            .unwrap_or(0);
        let (api, path, selector) = (self.clone(), path.to_owned(), selector(query));
        let revision = self.revision.subscribe();
        let events = futures::stream::unfold((from, revision), move |(mut at, mut revision)| {
            let (api, path, selector) = (api.clone(), path.clone(), selector.clone());
            async move {
                loop {
                    let next = api.state.lock().log.get(at).cloned();
                    let Some((known, kind, object)) = next else {
                        revision.changed().await.ok()?;
                        continue;
                    };
                    at += 1;
                    if is_in(&known, &path) && selected(&object, &selector) {
                        let line = json!({"type": kind, "object": object}).to_string() + "\n";
                        let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
                        return Some((frame, (at, revision)));
                    }
                }
            }
        });
        Response::new(StreamBody::new(events.boxed()).boxed_unsync())
    }
}

/// Whether an object is in a collection; a collection without a namespace holds those of all.
fn is_in(object: &str, collection: &str) -> bool {
    let Some((own, _name)) = object.rsplit_once('/') else { return false };
    if own == collection {
        return true;
    }
    let plural = collection.rsplit('/').next().unwrap_or("");
    !collection.contains("/namespaces/")
        && own.contains("/namespaces/")
        && own.rsplit('/').next() == Some(plural)
}

fn selector(query: &str) -> Selector {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="))?;
    let (field, value) = text.split_once("%3D")?;
    Some((field.to_owned(), value.to_owned()))
}

fn selected(object: &Value, selector: &Selector) -> bool {
    let Some((field, value)) = selector else { return true };
    let found = field.split('.').fold(object, |object, part| &object[part]);
    found == value.as_str()
}

/// Merges maps; conditions by type; a list with a `$patch` directive is replaced.
fn merge(into: &mut Value, patch: &Value) {
    let (Some(_), Some(patch)) = (into.as_object(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (name, change) in patch {
        match change {
            Value::Null => {
                into.as_object_mut().expect("a map").remove(name);
            }
            Value::Object(_) if into[name].is_object() => merge(&mut into[name], change),
            Value::Array(items) if name == "conditions" => {
                let mut list = into[name].as_array().cloned().unwrap_or_default();
                for item in items {
                    list.retain(|known| known["type"] != item["type"]);
                    list.push(item.clone());
                }
                into[name] = Value::Array(list);
            }
            Value::Array(items) => {
                let own = items.iter().filter(|item| item.get("$patch").is_none());
                into[name] = Value::Array(own.cloned().collect());
            }
            other => into[name] = other.clone(),
        }
    }
}

fn answer(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = code;
    response
}

fn failure(code: u16) -> Response<Body> {
    let value = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": "Scripted", "message": "scripted"});
    answer(StatusCode::from_u16(code).expect("a status"), &value)
}
