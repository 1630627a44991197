//! What users and nodes may not write although their roles allow the verb.

use serde_json::{Value, json};

use crate::harness::{Api, Client, namespace};

fn node(api: &Api) -> Client {
    api.client("system:node:n1", &["system:nodes", "system:authenticated"])
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().expect("a message")
}

#[tokio::test]
async fn a_node_writes_itself_and_its_lease() {
    let api = Api::start().await;
    let own = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}});
    node(&api).post("/api/v1/nodes", &own).await.expect(201);
    let other = json!({"metadata": {"name": "n2"}});
    let refused = node(&api).post("/api/v1/nodes", &other).await.expect(403);
    assert_eq!(
        message(&refused),
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let refused = node(&api).patch("merge-patch+json", "/api/v1/nodes/n1", &role).await.expect(403);
    assert_eq!(
        message(&refused),
        "nodes \"n1\" is forbidden: is not allowed to modify labels: \
         node-role.kubernetes.io/control-plane"
    );
    let taint = json!({"spec": {"taints": []}});
    let refused =
        node(&api).patch("merge-patch+json", "/api/v1/nodes/n1", &taint).await.expect(403);
    assert_eq!(
        message(&refused),
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints"
    );
    namespace(&api, "ns").await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    let refused = node(&api).post(leases, &own).await.expect(403);
    assert!(
        message(&refused)
            .ends_with("can only access leases in the \"kube-node-lease\" system namespace")
    );
}

#[tokio::test]
async fn a_node_touches_only_its_own_pods() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    let pods = "/api/v1/namespaces/ns/pods";
    let pod = |node: &str| {
        json!({
            "metadata": {"name": format!("on-{node}")},
            "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}]},
        })
    };
    let refused = node(&api).post(pods, &pod("n1")).await.expect(403);
    assert!(message(&refused).contains("node \"n1\" can only create mirror pods"));
    for on in ["n1", "n2"] {
        api.admin().post(pods, &pod(on)).await.expect(201);
    }
    let status = json!({"status": {"phase": "Running"}});
    let path = |on: &str| format!("{pods}/on-{on}/status");
    node(&api).patch("merge-patch+json", &path("n1"), &status).await.expect(200);
    let refused = node(&api).patch("merge-patch+json", &path("n2"), &status).await.expect(403);
    assert!(message(&refused).ends_with(
        "node \"n1\" can only update pod status for pods with spec.nodeName set to itself"
    ));
    let refused = node(&api).delete(&format!("{pods}/on-n2")).await.expect(403);
    assert!(message(&refused).contains("node \"n1\" can only delete pods"));
    let token = json!({"spec": {"boundObjectRef": {
        "apiVersion": "v1", "kind": "Pod", "name": "on-n2", "uid": "u",
    }}});
    let tokens = "/api/v1/namespaces/ns/serviceaccounts/default/token";
    let refused = node(&api).post(tokens, &token).await.expect(403);
    assert!(message(&refused).contains("does not match the UID in record"));
    let unbound = node(&api).post(tokens, &json!({})).await.expect(403);
    assert!(message(&unbound).ends_with("node requested token not bound to a pod"));
}

#[tokio::test]
async fn limit_ranges_default_and_bound_pods() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{
        "type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"},
    }]}});
    api.admin().post("/api/v1/namespaces/ns/limitranges", &range).await.expect(201);
    let pods = "/api/v1/namespaces/ns/pods";
    let pod = |name: &str, cpu: Value| {
        let resources = if cpu.is_null() { json!({}) } else { json!({"limits": {"cpu": cpu}}) };
        json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]},
        })
    };
    let made = api.admin().post(pods, &pod("a", Value::Null)).await.expect(201);
    let resources = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], resources);
    let refused = api.admin().post(pods, &pod("b", json!("2"))).await.expect(403);
    assert_eq!(
        message(&refused),
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test]
async fn claims_grow_only_where_their_class_lets_them() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    let claims = "/api/v1/namespaces/ns/persistentvolumeclaims";
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fixed",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    api.admin().post(claims, &claim).await.expect(201);
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let path = format!("{claims}/c");
    let patch = api.admin().patch("merge-patch+json", &path, &more).await;
    // Validation speaks first of an unbound claim.
    patch.expect(422);
    let bound = json!({"spec": {"volumeName": "v"}});
    api.admin().patch("merge-patch+json", &path, &bound).await.expect(200);
    let phase = json!({"status": {"phase": "Bound"}});
    let status = format!("{path}/status");
    api.admin().patch("merge-patch+json", &status, &phase).await.expect(200);
    let refused = api.admin().patch("merge-patch+json", &path, &more).await.expect(403);
    assert!(message(&refused).contains("only dynamically provisioned pvc can be resized"));
}

#[tokio::test]
async fn optional_rules_are_off_until_they_are_named() {
    use apiserver::admission::optional::Rule;
    let pods = "/api/v1/namespaces/ns/pods";
    let service = json!({"metadata": {"name": "s"}, "spec": {
        "ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}});
    let services = "/api/v1/namespaces/ns/services";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "a", "image": "i:1", "imagePullPolicy": "Never"}]}});
    let plain = Api::start().await;
    namespace(&plain, "ns").await;
    plain.admin().post(services, &service).await.expect(201);
    let made = plain.admin().post(pods, &pod).await.expect(201);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Never");
    let strict = Api::start_with(|config| {
        config.admission.rules = [Rule::AlwaysPullImages, Rule::DenyServiceExternalIPs].into();
    })
    .await;
    namespace(&strict, "ns").await;
    let refused = strict.admin().post(services, &service).await.expect(403);
    assert_eq!(
        message(&refused),
        "services \"s\" is forbidden: Use of external IPs is denied by admission control"
    );
    let made = strict.admin().post(pods, &pod).await.expect(201);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
}
