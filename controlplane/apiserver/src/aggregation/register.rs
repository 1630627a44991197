//! APIServices of what this server itself serves besides its built-in groups: custom resources and
//! `metrics.k8s.io`. Those of the built-in groups are made at the beginning.
//!
//! Source: kube-aggregator `pkg/controllers/autoregister` and kubernetes
//! `pkg/controlplane/controller/crdregistration`, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kinds::Registry;
use objects::ObjectExt;
use serde_json::{Value, json};

use super::{SCOPE, inside, metrics};
use crate::server::Server;

/// How often the registry is looked at: it has no means to say that it has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// The label of those that come and go with what is served.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Priorities of a group and of its version.
type Priorities = (i64, i64);

/// Keeps APIServices in step with the registry.
pub(super) async fn run(server: &Arc<Server>) {
    let mut done: Option<BTreeMap<String, Priorities>> = None;
    loop {
        let wanted = wanted(&server.registry.load());
        if done.as_ref() != Some(&wanted) {
            match carry_out(server, &wanted).await {
                Ok(()) => done = Some(wanted),
                Err(error) => tracing::debug!(%error, "APIServices not in step yet"),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `VERSION.GROUP` of everything that is to have an APIService from here. PURE.
fn wanted(registry: &Registry) -> BTreeMap<String, Priorities> {
    let custom = registry.iter().filter(|kind| kind.definition.is_some());
    let mut all: BTreeMap<String, Priorities> = custom
        .map(|kind| (format!("{}.{}", kind.names.version, kind.names.group), (1000, 100)))
        .collect();
    all.insert(format!("{}.{}", metrics::VERSION, metrics::GROUP), (100, 100));
    all
}

async fn carry_out(
    server: &Arc<Server>,
    wanted: &BTreeMap<String, Priorities>,
) -> Result<(), objects::ApiError> {
    for (name, (group, version)) in wanted {
        if server.store.get(&format!("{SCOPE}/{name}")).is_some() {
            continue;
        }
        let object = object(name, *group, *version);
        match inside::request(server, Method::POST, PATH, Some(&object)).await {
            Err(error) if error.code != 409 => return Err(error),
            _ => {}
        }
    }
    let list = inside::request(server, Method::GET, PATH, None).await?;
    for one in list.list_at(&["items"]) {
        let is_managed = one["metadata"]["labels"][MANAGED] == "true";
        let is_local = one.at(&["spec", "service"]).is_none_or(Value::is_null);
        if is_managed && is_local && !wanted.contains_key(one.name()) {
            let path = format!("{PATH}/{}", one.name());
            match inside::request(server, Method::DELETE, &path, None).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn object(name: &str, group_priority: i64, version_priority: i64) -> Value {
    let (version, group) = name.split_once('.').expect("names are VERSION.GROUP");
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "labels": {MANAGED: "true"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority},
    })
}
