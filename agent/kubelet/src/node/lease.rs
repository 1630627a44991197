//! The node's Lease: renewed every period, so that the control plane knows the node is there.

use std::sync::Arc;
use std::time::Duration;

use informer::{Action, carry_out_one};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use objects::ObjectKey;
use objects::time::format_micro_time;
use serde_json::{Value, json};

use crate::act::whole;
use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";
/// How long the control plane waits for a renewal. Source: upstream's default.
const DURATION_SECS: i64 = 40;
/// Wait after a failed renewal: several attempts fit before the lease ends.
const RETRY: Duration = Duration::from_secs(2);

/// Renews the Lease for as long as it is polled.
pub(super) async fn keep(context: Arc<Context>) {
    loop {
        let wait = match renew(&context).await {
            Ok(()) => context.config.lease_period,
            Err(error) => {
                tracing::debug!(error, "lease not renewed");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(context: &Context) -> Result<(), String> {
    let name = &context.config.node_name;
    let key = ObjectKey::new(NAMESPACE, name);
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": DURATION_SECS,
        "renewTime": format_micro_time(Timestamp::now()),
    });
    let client = &context.deps.client;
    let owner = context.node_object().map(|node| {
        json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}])
    });
    let metadata = json!({"ownerReferences": owner});
    let body = json!({"metadata": metadata, "spec": spec});
    let action = Action::merge::<Lease>(key, body.clone());
    match carry_out_one(client, &action).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code() != 404 => return Err(whole(&error)),
        Err(_) => {}
    }
    let mut fresh = body;
    fresh["metadata"]["name"] = json!(name);
    fresh["metadata"]["namespace"] = json!(NAMESPACE);
    if fresh["metadata"]["ownerReferences"] == Value::Null {
        fresh["metadata"]["ownerReferences"] = json!([]);
    }
    let lease: Lease = serde_json::from_value(fresh).map_err(|error| error.to_string())?;
    carry_out_one(client, &Action::create(&lease)).await.map(drop).map_err(|error| whole(&error))
}
