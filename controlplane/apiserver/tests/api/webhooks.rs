//! Admission webhooks that answer over real TLS.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Api, namespace};

const PATH: &str = "/api/v1/namespaces/a/configmaps";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// A webhook server; it ends with the test's runtime.
struct Webhook {
    url: String,
    ca_bundle: String,
    reviews: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    /// Starts a server that answers each request of a review as `decide` says.
    async fn start(decide: fn(&Value) -> Value) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("the key fits");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let reviews = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&reviews);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer =
                        service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                            let seen = Arc::clone(&seen);
                            async move {
                                let body = request.into_body().collect().await?.to_bytes();
                                let review: Value = serde_json::from_slice(&body).expect("JSON");
                                let mut response = decide(&review["request"]);
                                response["uid"] = review["request"]["uid"].clone();
                                seen.lock().push(review["request"].clone());
                                let answer = json!({"kind": "AdmissionReview",
                                "apiVersion": "admission.k8s.io/v1", "response": response});
                                let body = Full::new(Bytes::from(answer.to_string()));
                                Ok::<_, hyper::Error>(http::Response::new(body))
                            }
                        });
                    let server = hyper::server::conn::http1::Builder::new();
                    // It ends when the client goes away.
                    _ = server.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        let pem = base64::engine::general_purpose::STANDARD.encode(cert.pem());
        Self { url: format!("https://localhost:{port}/review"), ca_bundle: pem, reviews }
    }

    /// A configuration of this webhook for config maps; `change` alters the webhook.
    fn configuration(&self, name: &str, change: &Value) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {"url": self.url, "caBundle": self.ca_bundle},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            webhook[key] = value.clone();
        }
        json!({"metadata": {"name": name}, "webhooks": [webhook]})
    }
}

fn patch(operations: &Value) -> Value {
    let text = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": text})
}

async fn started() -> Api {
    let api = Api::start().await;
    namespace(&api, "a").await;
    api
}

#[tokio::test]
async fn a_webhook_changes_objects_and_another_sees_what_it_did() {
    let api = started().await;
    let adds = Webhook::start(|_| {
        patch(&json!([{"op": "add", "path": "/data/added", "value": "by-webhook"}]))
    })
    .await;
    let admin = api.admin();
    admin.post(MUTATING, &adds.configuration("adds", &json!({}))).await.expect(201);
    let looks = Webhook::start(|_| json!({"allowed": true, "warnings": ["seen"]})).await;
    admin.post(VALIDATING, &looks.configuration("looks", &json!({}))).await.expect(201);

    let body = json!({"metadata": {"name": "c"}, "data": {"k": "v"}});
    let path = format!("{PATH}?fieldManager=m");
    let created = admin.post(&path, &body).await;
    assert_eq!(created.headers["warning"], "299 - \"seen\"");
    assert_eq!(created.expect(201)["data"], json!({"k": "v", "added": "by-webhook"}));
    let asked = adds.reviews.lock()[0].clone();
    assert_eq!((&asked["operation"], &asked["name"]), (&json!("CREATE"), &json!("c")));
    assert_eq!(asked["namespace"], "a");
    assert_eq!(asked["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(asked["userInfo"]["username"], "admin");
    assert_eq!(asked["options"]["fieldManager"], "m");
    assert_eq!((&asked["object"]["data"]["k"], &asked["oldObject"]), (&json!("v"), &Value::Null));
    assert_eq!(looks.reviews.lock()[0]["object"]["data"]["added"], "by-webhook");

    admin.delete(&format!("{PATH}/c")).await.expect(200);
    let deleted = looks.reviews.lock().last().cloned().expect("asked again");
    assert_eq!(deleted["operation"], "DELETE");
    assert_eq!(
        (&deleted["object"], &deleted["oldObject"]["data"]["k"]),
        (&Value::Null, &json!("v"))
    );
}

#[tokio::test]
async fn a_refusal_is_told_and_changes_nothing() {
    let api = started().await;
    let refuses = Webhook::start(|request| {
        let allowed =
            request["object"]["data"]["bad"].is_null() && request["operation"] != "DELETE";
        json!({"allowed": allowed, "status": {"code": 403, "reason": "Forbidden", "message": "no"}})
    })
    .await;
    let admin = api.admin();
    let change = json!({"objectSelector": {"matchLabels": {"checked": "yes"}}});
    admin.post(VALIDATING, &refuses.configuration("refuses", &change)).await.expect(201);

    let bad =
        json!({"metadata": {"name": "c", "labels": {"checked": "yes"}}, "data": {"bad": "1"}});
    let refused = admin.post(PATH, &bad).await.expect(403);
    let text = "admission webhook \"refuses.example.com\" denied the request: no";
    assert_eq!((&refused["message"], &refused["reason"]), (&json!(text), &json!("Forbidden")));
    admin.get(&format!("{PATH}/c")).await.expect(404);

    let unchecked = json!({"metadata": {"name": "d"}, "data": {"bad": "1"}});
    admin.post(PATH, &unchecked).await.expect(201);
    let good = json!({"metadata": {"name": "c", "labels": {"checked": "yes"}}});
    admin.post(PATH, &good).await.expect(201);
    // An update is asked about if either version is selected.
    let away = json!({"metadata": {"labels": null}, "data": {"bad": "1"}});
    admin.patch("merge-patch+json", &format!("{PATH}/c"), &away).await.expect(403);
    admin.delete(&format!("{PATH}/c")).await.expect(403);
    admin.get(&format!("{PATH}/c")).await.expect(200);
}

#[tokio::test]
async fn a_webhook_that_fails_fails_the_request_unless_it_may() {
    let api = started().await;
    let admin = api.admin();
    let nobody = Webhook {
        url: "https://127.0.0.1:1/x".into(),
        ca_bundle: String::new(),
        reviews: Arc::default(),
    };
    let ignored = nobody.configuration("ignored", &json!({"failurePolicy": "Ignore"}));
    admin.post(VALIDATING, &ignored).await.expect(201);
    admin.post(PATH, &json!({"metadata": {"name": "c"}})).await.expect(201);
    let needed = nobody.configuration("needed", &json!({}));
    admin.post(VALIDATING, &needed).await.expect(201);
    let failed = admin.post(PATH, &json!({"metadata": {"name": "d"}})).await.expect(500);
    let message = failed["message"].as_str().expect("a message");
    let start = "Internal error occurred: failed calling webhook \"needed.example.com\": failed to \
                 call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\"";
    assert!(message.starts_with(start), "{message}");
    // Whoever configures webhooks can always take one away.
    admin.delete(&format!("{VALIDATING}/needed")).await.expect(200);
    admin.post(PATH, &json!({"metadata": {"name": "d"}})).await.expect(201);
}

#[tokio::test]
async fn a_webhook_sees_later_changes_if_it_wants() {
    let api = started().await;
    let first = Webhook::start(|request| {
        let seen = request["object"]["data"]["second"].is_string();
        let value = if seen { "saw-second" } else { "alone" };
        patch(&json!([{"op": "add", "path": "/data/first", "value": value}]))
    })
    .await;
    let second =
        Webhook::start(|_| patch(&json!([{"op": "add", "path": "/data/second", "value": "s"}])))
            .await;
    let admin = api.admin();
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    admin.post(MUTATING, &first.configuration("a-first", &again)).await.expect(201);
    admin.post(MUTATING, &second.configuration("b-second", &json!({}))).await.expect(201);
    let body = json!({"metadata": {"name": "c"}, "data": {"k": "v"}});
    let made = admin.post(PATH, &body).await.expect(201);
    assert_eq!(made["data"], json!({"k": "v", "first": "saw-second", "second": "s"}));
    assert_eq!((first.reviews.lock().len(), second.reviews.lock().len()), (2, 1));
}

fn rule(operation: &str, group: &str, version: &str, resource: &str) -> Value {
    json!({"rules": [{"operations": [operation], "apiGroups": [group], "apiVersions": [version],
        "resources": [resource]}]})
}

#[tokio::test]
async fn another_version_of_a_resource_is_asked_about_in_the_version_of_the_rule() {
    let api = started().await;
    let admin = api.admin();
    let hook = Webhook::start(|_| {
        patch(&json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage",
            "value": 70}]))
    })
    .await;
    let rule = rule("CREATE", "autoscaling", "v1", "horizontalpodautoscalers");
    admin.post(MUTATING, &hook.configuration("v1", &rule)).await.expect(201);
    let scaler = json!({"metadata": {"name": "s"}, "spec": {
        "maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
    }});
    let path = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers";
    let made = admin.post(path, &scaler).await.expect(201);
    let target = &made["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(target["averageUtilization"], 70);
    let asked = hook.reviews.lock()[0].clone();
    assert_eq!(
        (&asked["kind"]["version"], &asked["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(asked["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
}

#[tokio::test]
async fn connections_and_evictions_are_asked_about() {
    let api = started().await;
    let admin = api.admin();
    let hook =
        Webhook::start(|_| json!({"allowed": false, "status": {"message": "not here"}})).await;
    let change = json!({"rules": [
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]},
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"]},
    ]});
    admin.post(VALIDATING, &hook.configuration("door", &change)).await.expect(201);
    let pods = "/api/v1/namespaces/a/pods";
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post(pods, &pod).await.expect(201);
    let refused = admin.get(&format!("{pods}/p/attach?container=c&stdin=true")).await.expect(400);
    let text = "admission webhook \"door.example.com\" denied the request: not here";
    assert_eq!(refused["message"], text);
    let asked = hook.reviews.lock()[0].clone();
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "PodAttachOptions"}));
    assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CONNECT"), &json!("attach")));
    assert_eq!(asked["object"]["stdin"], true);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    admin.post(&format!("{pods}/p/eviction"), &eviction).await.expect(400);
    let kind = hook.reviews.lock()[1]["kind"].clone();
    assert_eq!(kind, json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    admin.get(&format!("{pods}/p")).await.expect(200);
}

#[tokio::test]
async fn a_scale_is_shown_as_a_scale() {
    let api = started().await;
    let admin = api.admin();
    let hook = Webhook::start(|_| {
        patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]))
    })
    .await;
    let rule = rule("UPDATE", "apps", "v1", "deployments/scale");
    admin.post(MUTATING, &hook.configuration("scale", &rule)).await.expect(201);
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let path = "/apis/apps/v1/namespaces/a/deployments";
    admin.post(path, &deployment).await.expect(201);
    let more = json!({"spec": {"replicas": 9}});
    let scale = format!("{path}/d/scale");
    let scaled = admin.patch("merge-patch+json", &scale, &more).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 2);
    let asked = hook.reviews.lock()[0].clone();
    assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(asked["object"]["spec"]["replicas"], 9);
    assert_eq!(asked["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(asked["options"]["kind"], "UpdateOptions");
}

#[tokio::test]
async fn what_a_webhook_adds_is_under_the_rules_and_the_system_keeps_its_own() {
    let api = started().await;
    let admin = api.admin();
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{
        "type": "Container", "default": {"cpu": "500m"}}]}});
    admin.post("/api/v1/namespaces/a/limitranges", &range).await.expect(201);
    let hook = Webhook::start(|_| {
        patch(&json!([
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "s"}},
            {"op": "add", "path": "/metadata/uid", "value": "mine"},
            {"op": "add", "path": "/unknown", "value": 1},
        ]))
    })
    .await;
    let rule = rule("CREATE", "", "v1", "pods");
    admin.post(MUTATING, &hook.configuration("inject", &rule)).await.expect(201);
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = admin.post("/api/v1/namespaces/a/pods", &pod).await.expect(201);
    let side = &made["spec"]["containers"][1];
    assert_eq!(side["resources"]["limits"]["cpu"], "500m");
    assert_eq!(side["imagePullPolicy"], "Always", "defaults are filled in");
    assert_ne!(made["metadata"]["uid"], "mine");
    assert!(made["unknown"].is_null());
}

#[tokio::test]
async fn a_slow_webhook_is_not_waited_for() {
    let api = started().await;
    let admin = api.admin();
    // It takes connections and says nothing.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = Webhook {
        url: format!("https://127.0.0.1:{port}/x"),
        ca_bundle: String::new(),
        reviews: Arc::default(),
    };
    let change = json!({"timeoutSeconds": 1});
    admin.post(VALIDATING, &silent.configuration("slow", &change)).await.expect(201);
    let failed = admin.post(PATH, &json!({"metadata": {"name": "d"}})).await.expect(500);
    let message = failed["message"].as_str().expect("a message");
    assert!(message.ends_with("?timeout=1s\": context deadline exceeded"), "{message}");
}

#[tokio::test]
async fn options_and_namespaces_are_told() {
    let api = started().await;
    let admin = api.admin();
    let hook = Webhook::start(|_| json!({"allowed": true})).await;
    let change = json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps", "namespaces"]}]});
    admin.post(VALIDATING, &hook.configuration("all", &change)).await.expect(201);
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    admin.post(PATH, &json!({"metadata": {"name": "c"}})).await.expect(201);
    let path = format!("{PATH}/c?gracePeriodSeconds=5&propagationPolicy=Background&dryRun=All");
    admin.delete(&path).await.expect(200);
    let reviews = hook.reviews.lock().clone();
    assert_eq!((&reviews[0]["namespace"], &reviews[0]["name"]), (&json!("n"), &json!("n")));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1",
        "gracePeriodSeconds": 5, "propagationPolicy": "Background", "dryRun": ["All"]});
    assert_eq!((&reviews[2]["options"], &reviews[2]["dryRun"]), (&options, &json!(true)));
}
