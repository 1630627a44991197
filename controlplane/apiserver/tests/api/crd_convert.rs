//! Versions of custom resources that a webhook converts.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::crd::until;
use crate::harness::{Api, namespace};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/y.example.com/v1/namespaces/a/things";
const V2: &str = "/apis/y.example.com/v2/namespaces/a/things";

/// `hostPort: a:1` in v1 is `host: a`, `port: "1"` in v2.
fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().expect("a version");
    let objects = request["objects"].as_array().expect("objects");
    let converted: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = to.into();
            if to.ends_with("/v2") {
                let text = object["hostPort"].as_str().unwrap_or(":").to_owned();
                let (host, port) = text.split_once(':').expect("two parts");
                object["host"] = host.into();
                object["port"] = port.into();
            } else {
                let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
                object["hostPort"] = format!("{}:{}", part("host"), part("port")).into();
            }
            object
        })
        .collect();
    let refused = objects.iter().any(|object| object["metadata"]["name"] == "refused");
    let result = match refused {
        true => json!({"status": "Failed", "message": "not this one"}),
        false => json!({"status": "Success"}),
    };
    let response = json!({"uid": request["uid"], "convertedObjects": converted, "result": result});
    json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response})
}

/// Starts a webhook; it ends with the test's runtime. Gives its client configuration.
async fn webhook() -> Value {
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
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
                    let body = request.into_body().collect().await?.to_bytes();
                    let review: Value = serde_json::from_slice(&body).expect("JSON");
                    let body = Full::new(Bytes::from(convert(&review).to_string()));
                    Ok::<_, hyper::Error>(http::Response::new(body))
                });
                let server = hyper::server::conn::http1::Builder::new();
                // It ends when the client goes away.
                _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    let ca = base64::engine::general_purpose::STANDARD.encode(cert.pem());
    json!({"url": format!("https://localhost:{port}/convert"), "caBundle": ca})
}

fn version(name: &str, fields: &[&str]) -> Value {
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
    json!({
        "name": name, "served": true, "storage": name == "v1",
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "selectableFields": [{"jsonPath": format!(".{}", fields[0])}],
    })
}

async fn started() -> Api {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let definition = json!({
        "metadata": {"name": "things.y.example.com"},
        "spec": {
            "group": "y.example.com", "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": webhook().await, "conversionReviewVersions": ["v1"],
            }},
        },
    });
    api.admin().post(DEFINITIONS, &definition).await.expect(201);
    until(&api, V2, |status, _| status == 200).await;
    api
}

fn thing(version: &str, name: &str, fields: &Value) -> Value {
    let mut object = json!({"apiVersion": format!("y.example.com/{version}"), "kind": "Thing",
        "metadata": {"name": name}});
    for (key, value) in fields.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

#[tokio::test]
async fn every_verb_shows_the_version_that_is_asked_for() {
    let api = started().await;
    let admin = api.admin();
    let one = thing("v1", "one", &json!({"hostPort": "a:1"}));
    admin.post(V1, &one).await.expect(201);
    let read = admin.get(&format!("{V2}/one")).await.expect(200);
    assert_eq!(
        (&read["host"], &read["port"], &read["hostPort"]),
        (&json!("a"), &json!("1"), &Value::Null)
    );
    let two = thing("v2", "two", &json!({"host": "b", "port": "2"}));
    let made = admin.post(V2, &two).await.expect(201);
    assert_eq!((&made["host"], &made["apiVersion"]), (&json!("b"), &json!("y.example.com/v2")));
    assert_eq!(admin.get(&format!("{V1}/two")).await.expect(200)["hostPort"], "b:2");
    let patch = json!({"port": "3"});
    let path = format!("{V2}/two");
    let patched = admin.patch("merge-patch+json", &path, &patch).await.expect(200);
    assert_eq!(patched["port"], "3");
    let list = admin.get(V2).await.expect(200);
    assert_eq!((&list["items"][0]["host"], &list["items"][1]["port"]), (&json!("a"), &json!("3")));
    let found = admin.get(&format!("{V2}?fieldSelector=host%3Db")).await.expect(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    let found = admin.get(&format!("{V1}?fieldSelector=hostPort%3Db:3")).await.expect(200);
    assert_eq!(found["items"][0]["metadata"]["name"], "two");
    let watch = format!("{V2}?watch=true&timeoutSeconds=1&fieldSelector=host%3Da");
    let seen = admin.get(&watch).await.json();
    assert_eq!((&seen["type"], &seen["object"]["host"]), (&json!("ADDED"), &json!("a")));
    let gone = admin.delete(&path).await.expect(200);
    assert_eq!(gone["status"], "Success");
}

#[tokio::test]
async fn a_stored_version_may_change() {
    let api = started().await;
    let admin = api.admin();
    admin.post(V1, &thing("v1", "one", &json!({"hostPort": "a:1"}))).await.expect(201);
    let path = format!("{DEFINITIONS}/things.y.example.com");
    let mut new = admin.get(&path).await.expect(200);
    new["spec"]["versions"][0]["storage"] = json!(false);
    new["spec"]["versions"][1]["storage"] = json!(true);
    let changed = admin.put(&path, &new).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    admin.post(V2, &thing("v2", "two", &json!({"host": "b", "port": "2"}))).await.expect(201);
    let list = admin.get(V2).await.expect(200);
    assert_eq!((&list["items"][0]["host"], &list["items"][1]["host"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn what_the_webhook_refuses_fails() {
    let api = started().await;
    let refused = thing("v2", "refused", &json!({"host": "b", "port": "2"}));
    let answer = api.admin().post(V2, &refused).await.expect(500);
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("conversion webhook for") && message.contains("not this one"),
        "{message}"
    );
}
