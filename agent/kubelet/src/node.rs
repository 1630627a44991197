//! The Node object: registered at start, its status kept up, its Lease renewed.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kubelet_node_status.go and
//! component-helpers/apimachinery/lease, v1.36.

mod facts;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use informer::{Action, Backoff, EventType, Occurrence, PatchType, carry_out_one};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use objects::ObjectKey;
use serde_json::{Value, json};
use tracing::Instrument as _;

use crate::act::{blocking, whole};
use crate::context::Context;
use facts::NodeFacts;

/// How often pressure and images are looked at. Source: the eviction manager's interval.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Keeps the Node object until shutdown. `port` is the one that the kubelet's server listens on.
pub(crate) async fn run(context: Arc<Context>, port: u16) {
    let shutdown = context.shutdown.clone();
    let work = async {
        register(&context).await;
        let name = context.config.node_name.clone();
        let span = tracing::info_span!("lease", node = name);
        let renewing = lease::keep(Arc::clone(&context)).instrument(span);
        tokio::join!(renewing, keep_status(&context, port));
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

fn labels(context: &Context) -> serde_json::Map<String, Value> {
    let machine = &context.machine;
    let mut labels = serde_json::Map::new();
    for (name, value) in &context.config.node_labels {
        labels.insert(name.clone(), json!(value));
    }
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        labels.insert(format!("{prefix}/arch"), json!(machine.architecture));
        labels.insert(format!("{prefix}/os"), json!("linux"));
    }
    labels.insert("kubernetes.io/hostname".into(), json!(context.config.node_name));
    labels
}

/// Makes the Node object, or brings its labels up to date, until that has worked.
async fn register(context: &Context) {
    let name = &context.config.node_name;
    let key = ObjectKey::new("", name);
    let metadata = json!({
        "name": name,
        "labels": labels(context),
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
    });
    let node: Node = serde_json::from_value(json!({"metadata": metadata, "spec": {}}))
        .expect("these are fields of a Node");
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        match carry_out_one(&context.deps.client, &Action::create(&node)).await {
            Ok(_) => {
                tracing::info!(node = name, "registered");
                return;
            }
            Err(error) if error.code() == 409 => {
                let body = json!({"metadata": {"labels": labels(context)}});
                let action = Action::merge::<Node>(key.clone(), body);
                match carry_out_one(&context.deps.client, &action).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(error = whole(&error), "labels not written"),
                }
            }
            Err(error) => tracing::debug!(error = whole(&error), "node not registered"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Writes the status whenever it changes, and at least once a period.
async fn keep_status(context: &Arc<Context>, port: u16) {
    let mut changes = context.node.changes();
    let mut written: Option<(Value, tokio::time::Instant)> = None;
    let mut was_ready = None;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let seen = look(context, port).await;
        let now = Timestamp::now();
        let stable = facts::status(&seen, Timestamp::UNIX_EPOCH);
        let due = written.as_ref().is_none_or(|(last, at)| {
            *last != stable || at.elapsed() >= context.config.status_period
        });
        if due {
            let body = json!({"status": facts::status(&seen, now)});
            let key = ObjectKey::new("", &context.config.node_name);
            let action = Action::patch::<Node>(key, PatchType::Strategic, Some("status"), body);
            match carry_out_one(&context.deps.client, &action).await {
                Ok(_) => {
                    backoff.reset();
                    written = Some((stable, tokio::time::Instant::now()));
                    announce(context, seen.is_ready(), &mut was_ready);
                }
                // Somebody deleted the node: it comes back.
                Err(error) if error.code() == 404 => register(context).await,
                Err(error) => {
                    tracing::debug!(error = whole(&error), "node status not written");
                    tokio::time::sleep(backoff.next_wait()).await;
                    continue;
                }
            }
        }
        tokio::select! {
            Some(_) = changes.next() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn announce(context: &Context, ready: bool, was: &mut Option<bool>) {
    if *was == Some(ready) {
        return;
    }
    *was = Some(ready);
    let name = &context.config.node_name;
    let reason = if ready { "NodeReady" } else { "NodeNotReady" };
    tracing::info!(node = name, ready, "node status");
    let Some(node) = context.node_object() else { return };
    let message = format!("Node {name} status is now: {reason}");
    context.events.record(Occurrence::of(&*node, EventType::Normal, reason, message));
}

async fn look(context: &Arc<Context>, port: u16) -> NodeFacts {
    let shared = Arc::clone(context);
    let free = blocking(move || shared.machine.free()).await;
    let node = context.node_object();
    let pod_cidr = node.as_ref().and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
    let images = context.deps.images.list().await.unwrap_or_else(|error| {
        tracing::warn!(error = whole(&error), "images not listed");
        Vec::new()
    });
    let known = node.as_ref().and_then(|node| node.status.as_ref());
    NodeFacts {
        machine: context.machine.clone(),
        config: context.config.clone(),
        free,
        images,
        pod_cidr,
        port,
        conditions: known.and_then(|status| status.conditions.clone()).unwrap_or_default(),
    }
}
