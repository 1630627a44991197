//! `metrics.k8s.io/v1beta1`: what nodes and pods use, from the kubelets' own numbers.
//!
//! Kubelets are asked when somebody asks; rates come from two readings. The last reading is kept,
//! so whoever asks again within five minutes does not wait for a second one.
//!
//! Source of behaviour: metrics-server 0.8 and `k8s.io/metrics/pkg/apis/metrics/v1beta1`.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use objects::selector::{FieldSelector, Selector};
use objects::{ApiError, GroupResource, ObjectExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::body;
use crate::encode;
use crate::negotiate::{self, Form, Offers};
use crate::query::Query;
use crate::route::{RequestInfo, ResourcePath, Verb};
use crate::router::method_not_allowed;
use crate::server::Server;
use crate::subresources::kubelet;
use plan::{Reading, Usage, reading};

/// The group that is served here.
pub(crate) const GROUP: &str = "metrics.k8s.io";
/// Its only version.
pub(crate) const VERSION: &str = "v1beta1";

/// The shortest time between two readings from which a rate is computed.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// After this time a reading says nothing about now.
const READING_KEPT: Duration = Duration::from_secs(300);
/// How long one kubelet may take.
const KUBELET_LIMIT: Duration = Duration::from_secs(5);
/// Kubelets asked at once.
const AT_ONCE: usize = 16;
/// The largest answer of a kubelet: about 1 KiB a container.
const SUMMARY_MAX_BYTES: usize = 8 << 20;

/// The last reading of each node.
#[derive(Debug, Default)]
pub(crate) struct Readings(Mutex<BTreeMap<String, Arc<Reading>>>);

/// `APIResourceList`.
pub(super) fn resources() -> Value {
    let one = |name: &str, kind: &str, is_namespaced: bool| {
        json!({"name": name, "singularName": "", "namespaced": is_namespaced, "kind": kind,
            "verbs": ["get", "list"]})
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [one("nodes", "NodeMetrics", false), one("pods", "PodMetrics", true)],
    })
}

/// Answers what is below `/apis/metrics.k8s.io/v1beta1`.
pub(super) async fn answer(
    server: &Arc<Server>,
    headers: &HeaderMap,
    info: &RequestInfo,
) -> Result<Answer, ApiError> {
    let form = negotiate::accept(headers, None, Offers::Whole, false);
    let form = form.unwrap_or(Form::JSON);
    let Some(path) = &info.resource else {
        return Ok(answer::value(200, form, &resources()));
    };
    if !path.subresource.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let kind = match path.resource.as_str() {
        "nodes" if path.namespace.is_empty() => "NodeMetrics",
        "pods" => "PodMetrics",
        _ => return Err(ApiError::no_such_path()),
    };
    match info.verb {
        Verb::Get => {
            let one = items(server, path, &info.query).await?.into_iter().next();
            let resource = GroupResource::new(GROUP, &kind.to_ascii_lowercase());
            let named = match path.namespace.as_str() {
                "" => path.name.clone(),
                namespace => format!("{namespace}/{}", path.name),
            };
            let mut one = one.ok_or_else(|| ApiError::not_found(&resource, &named))?;
            one["kind"] = json!(kind);
            one["apiVersion"] = json!(format!("{GROUP}/{VERSION}"));
            Ok(answer::value(200, form, &one))
        }
        Verb::List => {
            let list = json!({
                "kind": format!("{kind}List"), "apiVersion": format!("{GROUP}/{VERSION}"),
                "metadata": {}, "items": items(server, path, &info.query).await?,
            });
            Ok(answer::value(200, form, &list))
        }
        _ => Err(method_not_allowed()),
    }
}

/// The measured objects that a path and selectors ask for, by name.
async fn items(
    server: &Arc<Server>,
    path: &ResourcePath,
    query: &Query,
) -> Result<Vec<Value>, ApiError> {
    let bad = |error: objects::selector::SelectorError| ApiError::bad_request(error.to_string());
    let labels = Selector::parse(query.text("labelSelector")).map_err(bad)?;
    let fields = FieldSelector::parse(query.text("fieldSelector")).map_err(bad)?;
    let scope = match (path.resource.as_str(), path.namespace.as_str()) {
        ("nodes", _) => "/nodes/".to_string(),
        (_, "") => "/pods/".to_string(),
        (_, namespace) => format!("/pods/{namespace}/"),
    };
    let page = server.store.list(&store::List { scope: &scope, ..store::List::default() });
    let page = page.map_err(|error| ApiError::internal(error.to_string()))?;
    let wanted: Vec<Value> = page
        .records
        .iter()
        .map(|record| encode::parse(record))
        .filter(|object| path.name.is_empty() || object.name() == path.name)
        .filter(|object| labels.matches(&plan::labels(object)))
        .filter(|object| plan::is_selected(&fields, object))
        .collect();
    let mut nodes: Vec<String> = match path.resource.as_str() {
        "nodes" => wanted.iter().map(|node| node.name().to_string()).collect(),
        _ => wanted.iter().map(|pod| pod.str_at(&["spec", "nodeName"]).to_string()).collect(),
    };
    nodes.retain(|node| !node.is_empty());
    nodes.sort();
    nodes.dedup();
    let used = measured(server, nodes).await;
    Ok(wanted
        .iter()
        .filter_map(|object| match path.resource.as_str() {
            "nodes" => plan::node(object, used.get(object.name())?),
            _ => plan::pod(object, used.get(object.str_at(&["spec", "nodeName"]))?),
        })
        .collect())
}

/// What the nodes use now. Those that do not answer are left out.
async fn measured(server: &Arc<Server>, nodes: Vec<String>) -> BTreeMap<String, Usage> {
    let measured = futures::stream::iter(nodes)
        .map(|node| {
            let server = Arc::clone(server);
            async move {
                let usage = measure(&server, &node).await?;
                Some((node, usage))
            }
        })
        .buffer_unordered(AT_ONCE);
    measured.filter_map(|one| async { one }).collect().await
}

fn is_fresh(reading: &Reading, now: Timestamp) -> bool {
    reading.age(now) <= READING_KEPT
}

async fn measure(server: &Arc<Server>, node: &str) -> Option<Usage> {
    let kept = server.aggregation.readings.0.lock().get(node).cloned();
    let now = Timestamp::now();
    let kept = kept.filter(|reading| is_fresh(reading, now) && reading.age(now) >= WINDOW_MIN);
    let first = match kept {
        Some(reading) => reading,
        None => {
            let first = Arc::new(read(server, node).await?);
            // The time over which use is measured, not a wait for something to happen.
            tokio::time::sleep(WINDOW_MIN).await;
            first
        }
    };
    let last = Arc::new(read(server, node).await?);
    let usage = plan::usage(&first, &last);
    let mut readings = server.aggregation.readings.0.lock();
    // Also nodes that are gone are forgotten.
    readings.retain(|_, reading| is_fresh(reading, last.at));
    readings.insert(node.to_string(), last);
    Some(usage)
}

async fn read(server: &Arc<Server>, node: &str) -> Option<Reading> {
    let asked = async {
        let place = kubelet::place(server, node)?;
        let request = Request::get(Uri::from_static("/stats/summary")).body(body::empty());
        let request = request.expect("a constant path makes a request");
        let answer = kubelet::send(server, &place, request).await?;
        let whole = Limited::new(answer.into_body(), SUMMARY_MAX_BYTES).collect().await;
        let whole = whole.map_err(|error| ApiError::internal(error.to_string()))?.to_bytes();
        serde_json::from_slice::<Value>(&whole)
            .map_err(|error| ApiError::internal(error.to_string()))
    };
    match tokio::time::timeout(KUBELET_LIMIT, asked).await {
        Ok(Ok(summary)) => Some(reading(&summary, Timestamp::now())),
        Ok(Err(error)) => {
            tracing::debug!(node, %error, "no statistics of a node");
            None
        }
        Err(_) => {
            tracing::debug!(node, "statistics of a node take too long");
            None
        }
    }
}
