//! Answers in Kubernetes' protobuf say the same as those in JSON.

use bytes::Bytes;
use http::Method;
use patch::decode::Leaves;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Client, namespace};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const LEAVES: Leaves = Leaves {
    quantity: objects::quantity::canonical,
    time: |text| {
        objects::time::parse_time(text)
            .map(objects::time::format_time)
            .map_err(|error| error.to_string())
    },
    micro_time: |text| {
        objects::time::parse_micro_time(text)
            .map(objects::time::format_micro_time)
            .map_err(|error| error.to_string())
    },
};

fn decoded(bytes: &[u8]) -> Value {
    let envelope = patch::protobuf::envelope(bytes).expect("an envelope");
    let schema = patch::schema::for_kind(&envelope.api_version, &envelope.kind);
    let schema = schema.unwrap_or_else(|| panic!("{} has a schema", envelope.kind));
    let mut object = patch::protobuf::decode(bytes, &schema, &LEAVES).expect("decoded").value;
    object["apiVersion"] = envelope.api_version.into();
    object["kind"] = envelope.kind.into();
    object
}

/// Without fields that are null or empty: protobuf does not tell them apart.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), bare(value)));
            Value::Object(kept.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Value::Array(list) => list.iter().map(bare).collect(),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(flag) => !flag,
    }
}

async fn asked(client: &Client, path: &str, accept: &str) -> Answer {
    client.send(Method::GET, path, &[("accept", accept)], Bytes::new()).await
}

#[tokio::test]
async fn every_kind_of_a_new_cluster_reads_the_same() {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let admin = api.admin();
    let pod = json!({"metadata": {"name": "p", "labels": {"x": "y"}}, "spec": {
        "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": "web"}},
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
    }});
    admin.post("/api/v1/namespaces/a/pods", &pod).await.expect(201);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    admin.post("/api/v1/namespaces/a/secrets", &secret).await.expect(201);
    for path in [
        "/api/v1/namespaces",
        "/api/v1/services",
        "/api/v1/namespaces/a/pods",
        "/api/v1/namespaces/a/pods/p",
        "/api/v1/namespaces/a/secrets/s",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
        "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        "/apis/apiregistration.k8s.io/v1/apiservices",
    ] {
        let json = asked(&admin, path, "application/json").await.expect(200);
        let answer = asked(&admin, path, &format!("{PROTOBUF},application/json")).await;
        assert_eq!(answer.headers["content-type"], PROTOBUF, "{path}");
        assert_eq!(bare(&decoded(&answer.body)), bare(&json), "{path}");
    }
}

#[tokio::test]
async fn failures_partial_objects_and_tables() {
    let api = Api::start().await;
    let admin = api.admin();
    let missing = asked(&admin, "/api/v1/namespaces/none", PROTOBUF).await;
    assert_eq!((missing.status.as_u16(), &missing.body[..4]), (404, &b"k8s\0"[..]));
    assert_eq!(decoded(&missing.body)["reason"], "NotFound");
    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let answer = asked(&admin, "/api/v1/namespaces/default", &partial).await;
    let object = decoded(&answer.body);
    assert_eq!(object["kind"], "PartialObjectMetadata");
    assert_eq!(object["metadata"]["name"], "default");
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1,application/vnd.kubernetes.protobuf";
    let answer = asked(&admin, "/api/v1/namespaces", table).await;
    assert_eq!(answer.expect(200)["kind"], "Table");
}

#[tokio::test]
async fn watches_send_frames() {
    let api = Api::start().await;
    let path =
        "/api/v1/namespaces?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ddefault";
    let answer = asked(&api.admin(), path, PROTOBUF).await;
    assert_eq!(answer.headers["content-type"], format!("{PROTOBUF};stream=watch").as_str());
    let (length, frame) = answer.body.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, frame.len(), "one event");
    let start = frame.windows(4).position(|part| part == b"k8s\0").expect("the object");
    assert!(frame[..start].windows(5).any(|part| part == b"ADDED"));
    assert_eq!(decoded(&frame[start..])["metadata"]["name"], "default");
}
