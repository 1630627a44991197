//! Gives definitions their status, and removes the instances of those that go.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/controller/{status,establish,finalizer}`,
//! v1.36.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kinds::crd::{FINALIZER, names};
use objects::ObjectExt;
use objects::conditions::{self, Condition};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{List, Record};

use super::{SCOPE, install};
use crate::answer::Answer;
use crate::body;
use crate::encode;
use crate::identity::{MASTERS, User};
use crate::router;
use crate::server::Server;

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// While instances are going, whose end is not an event of a definition, they are looked for this
/// often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Keeps definitions right until shutdown.
pub(crate) async fn run(server: Arc<Server>) {
    loop {
        let changed = server.schemas.definitions.changed.notified();
        let waiting = look(&server).await;
        let again = async {
            if waiting {
                tokio::time::sleep(LOOK_EVERY).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = changed => {}
            () = again => {}
            () = server.shutdown.cancelled() => return,
        }
    }
}

/// Looks at every definition. Says whether one has to be looked at again without having changed:
/// because it waits for its instances to go, or could not be written.
async fn look(server: &Arc<Server>) -> bool {
    let query = List { scope: SCOPE, ..List::default() };
    let Ok(page) = server.store.list(&query) else { return false };
    let mut all: Vec<Value> = page.records.iter().map(|record| outline(record)).collect();
    let mut waiting = false;
    for index in 0..all.len() {
        let definition = all[index].clone();
        if !definition.deletion_timestamp().is_empty() {
            waiting |= terminate(server, &definition).await;
        } else if let Some(status) = wanted(&definition, &all, jiff::Timestamp::now()) {
            let mut new = definition;
            new["status"] = status;
            let established = new.list_at(&["status", "conditions"]);
            if conditions::is_true(established, "Established") {
                // Who reads that it is established may use it at once.
                let mut whole = encode::parse(&page.records[index]);
                whole["status"] = new["status"].clone();
                install::install(server, new.name(), &whole, true);
            }
            waiting |= !write_status(server, &new).await;
            all[index] = new;
        }
    }
    waiting
}

/// A definition without its versions, whose schemas are large and of no interest here.
fn outline(record: &Record) -> Value {
    #[derive(Deserialize)]
    struct Definition {
        metadata: Value,
        spec: Spec,
        status: Value,
    }
    #[derive(Deserialize)]
    struct Spec {
        group: Value,
        names: Value,
    }
    let read = serde_json::from_slice(&record.json);
    let Definition { metadata, spec, status } = read.expect("the store holds what was decoded");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {"group": spec.group, "names": spec.names},
        "status": status,
    })
}

/// The status that a definition should have, if it has another. PURE.
fn wanted(definition: &Value, all: &[Value], now: jiff::Timestamp) -> Option<Value> {
    let group = definition.str_at(&["spec", "group"]);
    let mut taken = names::Taken::default();
    for other in all {
        if other.str_at(&["spec", "group"]) == group && other.name() != definition.name() {
            taken.add(other);
        }
    }
    let status = names::status(definition, &taken, now);
    (status != definition["status"]).then_some(status)
}

async fn request(server: &Arc<Server>, method: Method, uri: &str, payload: String) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::USER_AGENT, "kube-apiserver")
        .extension(User::authenticated("system:apiserver", &[MASTERS]))
        .body(body::full(payload))
        .expect("names are valid in paths");
    router::handle(server, request).await
}

/// Writes the status, and what may be changed of the metadata with it. The spec stays as it is. Says
/// whether it need not be tried again.
async fn write_status(server: &Arc<Server>, definition: &Value) -> bool {
    let name = definition.name();
    let uri = format!("{PATH}/{name}/status");
    let answer = request(server, Method::PUT, &uri, definition.to_string()).await;
    // Changed or gone meanwhile: that brings the next look.
    if answer.status().is_success() || matches!(answer.status().as_u16(), 404 | 409) {
        return true;
    }
    tracing::warn!(definition = name, status = %answer.status(), "write the status");
    false
}

fn terminating<'a>(status: &'a str, reason: &'a str, message: &'a str) -> Condition<'a> {
    Condition { kind: "Terminating", status, reason, message, observed_generation: 0 }
}

/// Removes the instances of a definition, then its finalizer. Says whether instances are left.
async fn terminate(server: &Arc<Server>, definition: &Value) -> bool {
    if !definition.finalizers().contains(&FINALIZER) {
        return false;
    }
    let mut list = definition.list_at(&["status", "conditions"]).to_vec();
    let now = jiff::Timestamp::now();
    let mut new = definition.clone();
    if conditions::is_true(&list, "Established") {
        let scope = format!(
            "{}/{}/",
            definition.str_at(&["spec", "group"]),
            definition.str_at(&["spec", "names", "plural"])
        );
        let query = List { scope: &scope, ..List::default() };
        let Ok(page) = server.store.list(&query) else { return true };
        if !page.records.is_empty() {
            let state = "InstanceDeletionInProgress";
            let condition = terminating("True", state, "CustomResource deletion is in progress");
            if conditions::set(&mut list, &condition, now) {
                new["status"]["conditions"] = Value::Array(list);
                write_status(server, &new).await;
            }
            for record in &page.records {
                remove(server, definition, &encode::parse(record)).await;
            }
            return true;
        }
        let done = terminating("False", "InstanceDeletionCompleted", "removed all instances");
        conditions::set(&mut list, &done, now);
    } else {
        let never = terminating("False", "NeverEstablished", "resource was never established");
        conditions::set(&mut list, &never, now);
    }
    new["status"]["conditions"] = Value::Array(list);
    let left: Vec<&str> =
        definition.finalizers().into_iter().filter(|name| *name != FINALIZER).collect();
    new.set_at(&["metadata", "finalizers"], json!(left));
    !write_status(server, &new).await
}

/// Deletes one instance as anybody would: its own finalizers have their say.
async fn remove(server: &Arc<Server>, definition: &Value, instance: &Value) {
    if !instance.deletion_timestamp().is_empty() {
        return;
    }
    let registry = server.registry.load();
    let of = |kind: &&Arc<kinds::Kind>| kind.definition.as_deref() == Some(definition.name());
    let Some(kind) = registry.iter().find(of).cloned() else { return };
    drop(registry);
    let place = match instance.namespace() {
        "" => String::new(),
        namespace => format!("namespaces/{namespace}/"),
    };
    let (version, plural) = (kind.api_version(), &kind.names.plural);
    let uri = format!("/apis/{version}/{place}{plural}/{}", instance.name());
    let answer = request(server, Method::DELETE, &uri, String::new()).await;
    if !answer.status().is_success() && answer.status() != http::StatusCode::NOT_FOUND {
        tracing::warn!(uri, status = %answer.status(), "delete an instance");
    }
}
