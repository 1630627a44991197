//! APIServices that lead elsewhere, and `metrics.k8s.io`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Client};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const BOUND: Duration = Duration::from_secs(20);

/// The condition `Available` as soon as it has this reason.
async fn available(client: &Client, name: &str, reason: &str) -> Value {
    let path = format!("{SERVICES}/{name}");
    let wait = async {
        loop {
            let object = client.get(&path).await;
            if object.status == 200 {
                let condition = object.json()["status"]["conditions"][0].clone();
                if condition["reason"] == reason {
                    return condition;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("{name}: no {reason}"))
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let api = Api::start().await;
    let client = api.admin();
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {"group": "wardle.example.com", "version": "v1alpha1",
            "groupPriorityMinimum": 2000, "versionPriority": 200, "insecureSkipTLSVerify": true,
            "service": {"namespace": "default", "name": "sample-api"}},
    });
    client.post(SERVICES, &object).await.expect(201);
    let name = "v1alpha1.wardle.example.com";
    let condition = available(&client, name, "ServiceNotFound").await;
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["message"], "service/sample-api in \"default\" is not present");
    let refused = client.get("/apis/wardle.example.com/v1alpha1/flunders").await;
    assert_eq!((refused.status.as_u16(), &refused.body[..]), (503, &b"service unavailable\n"[..]));
    // The group is not offered, but its absence is told in the aggregated form.
    let groups = client.get("/apis").await.expect(200);
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert!(!names.contains(&"wardle.example.com") && names.contains(&"metrics.k8s.io"));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample-api"},
        "spec": {"ports": [{"port": 80}]},
    });
    client.post("/api/v1/namespaces/default/services", &service).await.expect(201);
    available(&client, name, "ServicePortError").await;
    client.delete(&format!("{SERVICES}/{name}")).await.expect(200);
    let gone = client.get("/apis/wardle.example.com/v1alpha1/flunders").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn extension_servers_find_whom_to_believe() {
    let api = Api::start().await;
    let client = api.admin();
    available(&client, "v1beta1.metrics.k8s.io", "Local").await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = client.get(path).await.expect(200)["data"].clone();
    assert_eq!(data["requestheader-username-headers"], "[\"X-Remote-User\"]");
    let ca = data["requestheader-client-ca-file"].as_str().expect("a certificate");
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
}

#[tokio::test]
async fn metrics_are_listed_and_found_missing() {
    let api = Api::start().await;
    let client = api.admin();
    let list = client.get("/apis/metrics.k8s.io/v1beta1/pods").await.expect(200);
    assert_eq!((&list["kind"], &list["items"]), (&json!("PodMetricsList"), &json!([])));
    let missing = client.get("/apis/metrics.k8s.io/v1beta1/nodes/absent").await.expect(404);
    assert_eq!(missing["message"], "nodemetrics.metrics.k8s.io \"absent\" not found");
    let nobody = api.client("jane", &[]);
    nobody.get("/apis/metrics.k8s.io/v1beta1/nodes").await.expect(403);
    client.post("/apis/metrics.k8s.io/v1beta1/nodes", &json!({})).await.expect(405);
}

#[tokio::test]
async fn proxies_refuse_what_they_cannot_reach() {
    let api = Api::start().await;
    let client = api.admin();
    let services = "/api/v1/namespaces/default/services";
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    client.post(services, &service).await.expect(201);
    let none = client.get(&format!("{services}/web/proxy/")).await.expect(503);
    assert_eq!(none["message"], "no endpoints available for service \"web\"");
    let port = client.get(&format!("{services}/web:81/proxy/")).await.expect(503);
    assert_eq!(port["message"], "no service port 81 found for service \"web\"");
    let bad = client.get(&format!("{services}/ftp:web:80/proxy/")).await.expect(400);
    assert_eq!(bad["message"], "invalid service request \"ftp:web:80\"");
    client.get(&format!("{services}/absent/proxy/")).await.expect(404);
}
