//! Whether aggregated servers answer: the condition `Available` of their APIServices.
//!
//! Source: kube-aggregator `pkg/controllers/status/remote/remote_available_controller.go`, v1.36.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Method, Request, header};
use objects::{ApiError, ObjectExt};
use serde_json::{Value, json};

use super::remote::{self, Unavailable};
use super::table::{Target, available};
use super::{SCOPE, front_proxy, inside};
use crate::body;
use crate::encode;
use crate::identity::{MASTERS, User};
use crate::router;
use crate::server::Server;

/// How often servers that answer are asked again.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How often those are that do not: upstream's work queue tries again about as soon.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long one may take.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Servers asked at once.
const AT_ONCE: usize = 8;

/// Checks all servers, again and again.
pub(super) async fn run(server: &Arc<Server>) {
    loop {
        let targets = server.aggregation.table.all();
        let checks = futures::stream::iter(targets).map(|target| {
            let server = Arc::clone(server);
            async move { check(&server, target).await }
        });
        let answering: Vec<bool> = checks.buffer_unordered(AT_ONCE).collect().await;
        let pause = if answering.contains(&false) { RETRY_EVERY } else { CHECK_EVERY };
        tokio::select! {
            () = server.aggregation.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks one server and writes down how it went. Whether it answered.
async fn check(server: &Arc<Server>, target: Arc<Target>) -> bool {
    let outcome = match tokio::time::timeout(CHECK_LIMIT, ask(server, &target)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(failed(&target, "context deadline exceeded")),
    };
    let condition = match &outcome {
        Ok(_) => condition("True", "Passed", "all checks passed"),
        Err(why) => condition("False", why.reason, &why.message),
    };
    let is_answering = outcome.is_ok();
    if let Ok(resources) = outcome {
        server.aggregation.table.learn(&target.name, resources);
    }
    if let Err(error) = write(server, &target.name, condition).await {
        tracing::debug!(apiservice = target.name, %error, "availability not written");
    }
    is_answering
}

fn failed(target: &Target, why: &str) -> Unavailable {
    let place = format!("https://{}:{}{}", target.server_name(), target.port, target.path());
    let message = format!("failing or missing response from {place}: {why}");
    Unavailable { reason: "FailedDiscoveryCheck", message }
}

/// The server's list of resources.
async fn ask(server: &Arc<Server>, target: &Target) -> Result<Value, Unavailable> {
    let backend = remote::backend(server, target)?;
    let mut request = Request::get(target.path())
        .header(header::ACCEPT, "application/json")
        .body(body::empty())
        .map_err(|error| failed(target, &error.to_string()))?;
    let own = User::authenticated("system:kube-aggregator", &[MASTERS]);
    front_proxy::introduce(request.headers_mut(), &own);
    let answer = backend.send(server, request).await.map_err(|why| failed(target, &why))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(failed(
            target,
            &format!("bad status from {}: {}", target.path(), status.as_u16()),
        ));
    }
    let whole = router::read(answer.into_body()).await;
    let whole = whole.map_err(|error| failed(target, &error.message))?;
    serde_json::from_slice(&whole).map_err(|error| failed(target, &error.to_string()))
}

fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Available", "status": status, "reason": reason, "message": message})
}

/// Writes the condition if it says something new.
async fn write(server: &Arc<Server>, name: &str, mut new: Value) -> Result<(), ApiError> {
    let Some(record) = server.store.get(&format!("{SCOPE}/{name}")) else { return Ok(()) };
    let object = encode::parse(&record);
    let old = available(&object);
    let differs = |field: &str| old.is_none_or(|old| old[field] != new[field]);
    if !["status", "reason", "message"].into_iter().any(differs) {
        return Ok(());
    }
    let now = objects::time::format_time(jiff::Timestamp::now());
    let since = old.filter(|old| old["status"] == new["status"]);
    let since = since.and_then(|old| old["lastTransitionTime"].as_str()).unwrap_or(&now);
    new["lastTransitionTime"] = json!(since);
    let mut conditions: Vec<Value> = object.list_at(&["status", "conditions"]).to_vec();
    conditions.retain(|one| one["type"] != "Available");
    conditions.push(new);
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}/status");
    let version = object.str_at(&["metadata", "resourceVersion"]);
    let mut patch = json!({"status": {"conditions": conditions}});
    if !version.is_empty() {
        patch["metadata"] = json!({"resourceVersion": version});
    }
    inside::request(server, Method::PATCH, &path, Some(&patch)).await.map(drop)
}
