//! From paths to handlers.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::query::Parameters;
use super::{Body, Server, exec, forward, json, logs, stats, text};
use crate::pod::PodExt;
use crate::worker::Published;

/// A container that a request is about.
pub(super) struct Target {
    pub(super) published: Published,
    pub(super) container: String,
}

/// Answers a request.
pub(super) async fn answer(server: &Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parameters = Parameters::parse(request.uri().query().unwrap_or(""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "syncloop" | "log"] if is_read => {
            text(StatusCode::OK, "ok")
        }
        ["pods"] if is_read => pods(server),
        ["runningpods"] if is_read => pods(server),
        ["stats", "summary"] if is_read => stats::summary(server).await,
        ["metrics"] if is_read => stats::metrics(server).await,
        ["metrics", "resource"] if is_read => stats::resource_metrics(server).await,
        ["metrics", "cadvisor" | "probes"] if is_read => text(StatusCode::OK, ""),
        ["configz"] if is_read => configz(server),
        ["containerLogs", namespace, pod, container] if is_read => {
            match find(server, namespace, pod, None, container) {
                Ok(target) => logs::answer(server, &target, &parameters),
                Err(response) => response,
            }
        }
        ["exec", rest @ ..] => {
            with_target(server, rest, |target| exec::exec(server, request, target, &parameters))
        }
        ["attach", rest @ ..] => {
            with_target(server, rest, |target| exec::attach(server, request, target, &parameters))
        }
        ["run", rest @ ..] if *request.method() == Method::POST => match located(server, rest) {
            Ok(target) => exec::run(server, &target, &parameters).await,
            Err(response) => response,
        },
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            match server.registry.find(namespace, pod) {
                Some(published) => forward::answer(server, request, published, &parameters),
                None => no_pod(namespace, pod),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn with_target(
    server: &Arc<Server>,
    rest: &[&str],
    handle: impl FnOnce(Target) -> Response<Body>,
) -> Response<Body> {
    match located(server, rest) {
        Ok(target) => handle(target),
        Err(response) => response,
    }
}

/// `{namespace}/{pod}/{container}` or `{namespace}/{pod}/{uid}/{container}`.
#[expect(clippy::result_large_err, reason = "an error is the answer itself")]
fn located(server: &Arc<Server>, rest: &[&str]) -> Result<Target, Response<Body>> {
    match rest {
        [namespace, pod, container] => find(server, namespace, pod, None, container),
        [namespace, pod, uid, container] => find(server, namespace, pod, Some(uid), container),
        _ => Err(text(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

fn no_pod(namespace: &str, name: &str) -> Response<Body> {
    let message = format!("pod \"{name}\" not found in namespace \"{namespace}\"\n");
    text(StatusCode::NOT_FOUND, message)
}

#[expect(clippy::result_large_err, reason = "an error is the answer itself")]
fn find(
    server: &Arc<Server>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<Target, Response<Body>> {
    let found = server.registry.find(namespace, name);
    let found = found.filter(|published| uid.is_none_or(|uid| published.pod.uid() == uid));
    let published = found.ok_or_else(|| no_pod(namespace, name))?;
    if published.pod.find(container).is_none() {
        let message = format!("container \"{container}\" not found in pod \"{name}\"\n");
        return Err(text(StatusCode::NOT_FOUND, message));
    }
    Ok(Target { published, container: container.to_owned() })
}

/// All pods of this node with the status as the kubelet has it.
fn pods(server: &Arc<Server>) -> Response<Body> {
    let items = server
        .registry
        .all()
        .into_iter()
        .map(|(_, published)| Pod { status: Some(published.status), ..(*published.pod).clone() });
    let items: Vec<Pod> = items.collect();
    json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The part of upstream's configuration that tools read.
fn configz(server: &Arc<Server>) -> Response<Body> {
    let config = &server.context.config;
    json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "maxPods": config.pods_max,
        "podPidsLimit": config.pod_pids_max.unwrap_or(-1),
        "containerLogMaxSize": config.log_max_bytes.to_string(),
        "containerLogMaxFiles": config.log_max_files,
    }}))
}
