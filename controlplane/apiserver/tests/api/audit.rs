//! What the audit log says of requests.

use std::path::Path;
use std::time::Duration;

use apiserver::audit::{AuditConfig, LogConfig, Policy};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, BOUND, namespace};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: RequestResponse
  namespaces: [a]
  resources: [{resources: [configmaps]}]
  users: [ann, bob, system:anonymous]
- level: Request
  namespaces: [a]
  resources: [{resources: [services]}]
- level: Metadata
  namespaces: [a]
  resources: [{resources: [secrets]}]
  omitStages: [RequestReceived]
- level: Metadata
  nonResourceURLs: [/version]
  omitStages: [RequestReceived]
";

async fn start(folder: &Path) -> Api {
    let log = LogConfig {
        path: folder.join("audit.log"),
        max_size_bytes: 0,
        max_backups: 0,
        max_age: Duration::ZERO,
    };
    let policy = Policy::parse(POLICY).expect("a policy");
    let api = Api::start_with(|config| config.audit = Some(AuditConfig { policy, log })).await;
    namespace(&api, "a").await;
    api
}

/// The events written so far, once there are `count`.
async fn events(folder: &Path, count: usize) -> Vec<Value> {
    let path = folder.join("audit.log");
    let look = async {
        loop {
            let text = tokio::fs::read_to_string(&path).await.unwrap_or_default();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let events: Vec<Value> =
                whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            if events.len() >= count {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    let events = tokio::time::timeout(BOUND, look).await.expect("the events are written");
    assert_eq!(events.len(), count, "{events:#?}");
    events
}

#[tokio::test]
async fn a_request_is_recorded_with_both_bodies() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = start(folder.path()).await;
    let body = json!({"metadata": {"name": "c"}, "data": {"k": "v"}});
    let path = "/api/v1/namespaces/a/configmaps?fieldManager=m";
    let ann = api.client("ann", &["system:masters"]);
    let created = ann.post(path, &body).await;
    let id = created.headers["audit-id"].to_str().expect("text").to_owned();
    let created = created.expect(201);
    let events = events(folder.path(), 2).await;
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let done = &events[1];
    assert_eq!(done["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(done["kind"], "Event");
    assert_eq!(done["level"], "RequestResponse");
    assert_eq!(done["auditID"], *id);
    assert_eq!(done["requestURI"], path);
    assert_eq!(done["verb"], "create");
    assert_eq!(done["user"]["username"], "ann");
    assert_eq!(done["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(
        done["objectRef"],
        json!({"resource": "configmaps", "namespace": "a", "name": "c", "apiVersion": "v1"})
    );
    assert_eq!(done["requestObject"], body);
    assert_eq!(done["responseObject"]["metadata"]["uid"], created["metadata"]["uid"]);
    assert!(created["metadata"]["managedFields"].is_array());
    assert!(done["responseObject"]["metadata"]["managedFields"].is_null(), "left out");
    assert_eq!(done["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(events[0]["requestObject"].is_null() && events[0]["annotations"].is_null());
}

#[tokio::test]
async fn levels_and_stages_follow_the_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = start(folder.path()).await;
    let admin = api.admin();
    admin.post("/api/v1/namespaces/a/configmaps", &json!({"metadata": {"name": "c"}})).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    admin.post("/api/v1/namespaces/a/secrets", &secret).await.expect(201);
    admin.get("/version").await.expect(200);
    let bad = json!({"metadata": {"name": "x"}, "spec": {"ports": []}});
    admin.post("/api/v1/namespaces/a/services", &bad).await.expect(422);
    let events = events(folder.path(), 4).await;
    let [made, version, _, refused] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((&made["level"], &made["objectRef"]["name"]), (&json!("Metadata"), &json!("s")));
    assert!(made["requestObject"].is_null() && made["responseObject"].is_null());
    assert_eq!(version["requestURI"], "/version");
    assert!(version["objectRef"].is_null());
    assert_eq!(refused["requestObject"], bad);
    assert!(refused["responseObject"].is_null());
    assert_eq!(refused["responseStatus"]["code"], 422);
    assert_eq!(refused["responseStatus"]["reason"], "Invalid");
    assert!(!std::fs::read_to_string(folder.path().join("audit.log")).unwrap().contains("hunter2"));
}

#[tokio::test]
async fn who_was_refused_and_who_acted_as_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = start(folder.path()).await;
    let path = "/api/v1/namespaces/a/configmaps/c";
    api.client("bob", &[]).get(path).await.expect(403);
    let ann = api.client("ann", &["system:masters"]);
    let headers = [("impersonate-user", "eve"), ("x-forwarded-for", "192.0.2.7, nonsense")];
    ann.send(Method::GET, path, &headers, bytes::Bytes::new()).await.expect(403);
    let events = events(folder.path(), 4).await;
    assert_eq!(events[1]["responseStatus"]["code"], 403);
    assert_eq!(events[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[3]["user"]["username"], "ann");
    assert_eq!(events[3]["impersonatedUser"]["username"], "eve");
    assert_eq!(events[3]["sourceIPs"], json!(["192.0.2.7"]));
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_begins_and_when_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = start(folder.path()).await;
    let ann = api.client("ann", &["system:masters"]);
    let path = "/api/v1/namespaces/a/configmaps?watch=true&timeoutSeconds=1";
    let answer = ann.get(path).await;
    assert_eq!(answer.status, 200);
    let events = events(folder.path(), 3).await;
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[2]["verb"], "watch");
    assert_eq!(events[0]["auditID"], events[2]["auditID"]);
}

#[tokio::test]
async fn annotations_of_handlers_come_along_and_clients_may_name_the_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = start(folder.path()).await;
    let headers = [("audit-id", "named-by-the-client"), ("authorization", "Bearer nonsense")];
    let path = "/api/v1/namespaces/a/secrets/s";
    let answer = api.anonymous().send(Method::GET, path, &headers, bytes::Bytes::new()).await;
    answer.expect(401);
    let events = events(folder.path(), 1).await;
    assert_eq!(events[0]["auditID"], "named-by-the-client");
    assert_eq!(events[0]["responseStatus"]["code"], 401);
    assert_eq!(events[0]["user"], json!({}));
}
