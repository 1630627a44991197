use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

use super::*;

/// A client whose server answers from a function and writes down what it was asked. Only the
/// carrying out itself is under test here, so no API is imitated.
fn client(
    answer: impl Fn(&str, &str) -> (u16, Value) + Send + Clone + 'static,
) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        log.lock().push(format!("{method} {path}"));
        let (code, body) = answer(&method, &path);
        let body = Full::new(Bytes::from(body.to_string()));
        let response = Response::builder().status(code).body(body).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    (Client::new(service, "default"), asked)
}

fn pod(name: &str) -> Pod {
    let metadata = ObjectMeta {
        namespace: Some("a".into()),
        name: Some(name.into()),
        ..ObjectMeta::default()
    };
    Pod { metadata, ..Pod::default() }
}

fn refuse(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "no", "reason": "X", "metadata": {}});
    (code, status)
}

#[tokio::test]
async fn creates_of_a_group_stop_at_the_first_refusal() {
    let (client, asked) = client(|_, _| refuse(403));
    let actions = (0..50).map(|i| Action::create(&pod(&format!("p{i}")))).collect();
    let outcome = carry_out(&client, actions).await;
    assert_eq!(asked.lock().len(), 1, "only the first of fifty was tried");
    assert_eq!(outcome.failed[0].code(), 403);
}

#[tokio::test]
async fn batches_double() {
    let (client, asked) = client(|_, path| match path {
        "/api/v1/namespaces/a/pods" => {
            (201, json!({"metadata": {"name": "x", "resourceVersion": "5"}}))
        }
        _ => (200, json!({"kind": "Status", "status": "Success"})),
    });
    let mut actions: Vec<_> = (0..7).map(|i| Action::create(&pod(&format!("p{i}")))).collect();
    actions.push(Action::delete::<Pod>(ObjectKey::new("a", "old"), "u1"));
    let outcome = carry_out(&client, actions).await;
    assert_eq!(asked.lock().len(), 8);
    assert_eq!(outcome.highest_revision(&ResourcePath::of::<Pod>()), Some(Revision(5)));
    assert_eq!(outcome.written[7].deleted_uid.as_deref(), Some("u1"));
    assert!(outcome.failed.is_empty());
}

#[tokio::test]
async fn a_delete_of_what_is_gone_is_success_and_other_verbs_are_stale() {
    let (client, _) = client(|_, _| refuse(404));
    let gone = Action::delete::<Pod>(ObjectKey::new("a", "x"), "u1");
    let written = carry_out_one(&client, &gone).await.unwrap();
    assert_eq!((written.revision, written.deleted_uid), (None, None));
    let patch = Action::merge::<Pod>(ObjectKey::new("a", "x"), json!({}));
    assert!(carry_out_one(&client, &patch).await.unwrap_err().is_stale());
}

#[test]
fn requests_carry_preconditions_and_type() {
    let mut map = ConfigMap { metadata: pod("m").metadata, ..ConfigMap::default() };
    map.metadata.resource_version = Some("7".into());
    let request = Action::update_status(&map).request();
    assert_eq!(request.method(), Method::PUT);
    assert_eq!(request.uri(), "/api/v1/namespaces/a/configmaps/m/status");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body.resource_version(), "7");
    assert_eq!((body.api_version(), body.kind()), ("v1", "ConfigMap"));

    let apply = PatchType::Apply { manager: "a b".into(), force: true };
    let request =
        Action::patch::<ConfigMap>(ObjectKey::new("a", "m"), apply, None, json!({})).request();
    assert_eq!(request.uri(), "/api/v1/namespaces/a/configmaps/m?fieldManager=a%20b&force=true");
    assert_eq!(request.headers()[CONTENT_TYPE], "application/apply-patch+yaml");

    let delete = Action {
        resource: ResourcePath::of::<Pod>(),
        key: ObjectKey::new("a", "x"),
        verb: Verb::Delete {
            uid: Some("u".into()),
            revision: Some(Revision(3)),
            grace_secs: Some(0),
            propagation: Some(Propagation::Orphan),
        },
    };
    let body: Value = serde_json::from_slice(delete.request().body()).unwrap();
    assert_eq!(body["preconditions"], json!({"uid": "u", "resourceVersion": "3"}));
    assert_eq!(body["gracePeriodSeconds"], 0);
    assert_eq!(body["propagationPolicy"], "Orphan");
}

#[test]
fn a_dependent_neighbour_is_not_in_the_group() {
    let create = Action::create(&pod("x"));
    assert!(create.is_independent_of(&Action::create(&pod("y"))));
    assert!(!create.is_independent_of(&Action::create(&pod("x"))), "same name");
    let status = Action::update_status(&pod("x"));
    assert!(!create.is_independent_of(&status));
    assert!(!status.is_independent_of(&status.clone()));
}

#[tokio::test]
async fn requirements_hold_or_are_stale() {
    let (client, _) = client(|_, path| match path {
        "/api/v1/namespaces/a/pods/x" => (200, json!({"metadata": {"name": "x", "uid": "u1"}})),
        "/api/v1/namespaces/a/pods?limit=1" => (200, json!({"items": [{}]})),
        "/api/v1/namespaces/b/pods?limit=1" => (200, json!({"items": []})),
        _ => refuse(404),
    });
    let absent = |name: &str, uid: &str| Action {
        resource: ResourcePath::of::<Pod>(),
        key: ObjectKey::new("a", name),
        verb: Verb::RequireAbsent { uid: uid.into() },
    };
    let empty = |namespace: &str| Action {
        resource: ResourcePath::of::<Pod>(),
        key: ObjectKey::new(namespace, ""),
        verb: Verb::RequireEmpty,
    };
    for (action, holds) in [
        (absent("x", "u1"), false),
        (absent("x", "u2"), true),
        (absent("y", "u1"), true),
        (empty("a"), false),
        (empty("b"), true),
        (empty("c"), true),
    ] {
        match carry_out_one(&client, &action).await {
            Ok(written) => assert!(holds && written.revision.is_none(), "{action:?}"),
            Err(error) => assert!(!holds && error.is_stale(), "{action:?}"),
        }
    }
}
