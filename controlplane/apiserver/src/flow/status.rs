//! The `Dangling` condition of FlowSchemas: whether their priority level exists.
//!
//! Source of behaviour: kubernetes apiserver `pkg/util/flowcontrol/apf_controller.go`, v1.36.

use std::sync::Arc;

use http::{Method, Request};
use objects::ObjectExt as _;
use serde_json::{Value, json};
use store::List;

use crate::body;
use crate::encode;
use crate::identity::{MASTERS, User};
use crate::router;
use crate::server::Server;

const SCOPE: &str = "flowcontrol.apiserver.k8s.io/flowschemas/";
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// The kind of condition.
const DANGLING: &str = "Dangling";

/// Keeps the conditions right until shutdown.
pub(crate) async fn run(server: Arc<Server>) {
    loop {
        let changed = server.flow.changed.notified();
        let query = List { scope: SCOPE, ..List::default() };
        let Ok(page) = server.store.list(&query) else { return };
        for record in &page.records {
            let schema = encode::parse(record);
            let exists = level(&schema).is_some_and(|name| server.flow.has_level(name));
            if let Some(patch) = patch(&schema, exists, jiff::Timestamp::now()) {
                write(&server, schema.name(), &patch).await;
            }
        }
        tokio::select! {
            () = changed => {}
            () = server.shutdown.cancelled() => return,
        }
    }
}

fn level(schema: &Value) -> Option<&str> {
    schema.pointer("/spec/priorityLevelConfiguration/name")?.as_str()
}

/// The server-side apply that is needed, if one is. PURE.
fn patch(schema: &Value, exists: bool, now: jiff::Timestamp) -> Option<Value> {
    let name = level(schema).unwrap_or_default();
    let refers =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {name:?} ");
    let (status, reason, message) = match exists {
        true => ("False", "Found", refers + "and it exists"),
        false => ("True", "NotFound", refers + "but there is no such object"),
    };
    let known = schema.pointer("/status/conditions").and_then(Value::as_array);
    let known = known.into_iter().flatten().find(|condition| condition["type"] == DANGLING);
    let same = known.is_some_and(|known| {
        known["status"] == status && known["reason"] == reason && known["message"] == *message
    });
    if same {
        return None;
    }
    let since = known.filter(|known| known["status"] == status);
    let since = since.and_then(|known| known["lastTransitionTime"].as_str().map(str::to_owned));
    let since = since.unwrap_or_else(|| objects::time::format_time(now));
    Some(json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": schema.name()},
        "status": {"conditions": [{
            "type": DANGLING,
            "status": status,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }]},
    }))
}

async fn write(server: &Arc<Server>, name: &str, patch: &Value) {
    let uri = format!(
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/{name}/status?fieldManager={MANAGER}&force=true"
    );
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .extension(User::authenticated("system:apiserver", &[MASTERS]))
        .body(body::full(patch.to_string()))
        .expect("names are valid in paths");
    let answer = router::handle(server, request).await;
    // Gone meanwhile: its deletion brings the next look.
    if !answer.status().is_success() && answer.status() != http::StatusCode::NOT_FOUND {
        tracing::warn!(flow_schema = name, status = %answer.status(), "write the Dangling condition");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(conditions: &Value) -> Value {
        json!({
            "metadata": {"name": "s"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}},
            "status": {"conditions": conditions},
        })
    }

    #[test]
    fn a_condition_is_written_once_and_keeps_its_time() {
        let (first, later) = (jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::now());
        let missing = patch(&schema(&json!([])), false, first).expect("it is new");
        let condition = &missing["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("NotFound"))
        );
        let known = schema(&missing["status"]["conditions"]);
        assert_eq!(patch(&known, false, later), None);
        let found = patch(&known, true, later).expect("it has changed");
        let condition = &found["status"]["conditions"][0];
        assert_eq!(condition["status"], "False");
        assert_ne!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }
}
