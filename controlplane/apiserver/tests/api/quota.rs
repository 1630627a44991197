//! Resource quotas: what writes are charged. The controller that counts is not part of these tests, so
//! each test writes the first status itself.

use serde_json::{Value, json};

use crate::harness::{Api, namespace};

const QUOTAS: &str = "/api/v1/namespaces/ns/resourcequotas";
const PODS: &str = "/api/v1/namespaces/ns/pods";

/// A quota that is counted: nothing of it is used.
async fn quota(api: &Api, name: &str, spec: Value) {
    let mut used = spec["hard"].clone();
    for (_, value) in used.as_object_mut().expect("amounts") {
        *value = json!("0");
    }
    let object = json!({"metadata": {"name": name}, "spec": spec});
    api.admin().post(QUOTAS, &object).await.expect(201);
    let status = json!({"status": {"hard": spec["hard"], "used": used}});
    let path = format!("{QUOTAS}/{name}/status");
    api.admin().patch("merge-patch+json", &path, &status).await.expect(200);
}

async fn used(api: &Api, name: &str) -> Value {
    let quota = api.admin().get(&format!("{QUOTAS}/{name}")).await.expect(200);
    quota["status"]["used"].clone()
}

fn pod(name: &str, resources: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]},
    })
}

async fn started() -> Api {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    api
}

#[tokio::test]
async fn writes_are_charged_up_to_the_limit() {
    let api = started().await;
    let hard = json!({"requests.cpu": "1", "count/configmaps": "1", "services.nodeports": "1"});
    quota(&api, "q", json!({"hard": hard})).await;
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    api.admin().post(PODS, &pod("a", cpu("600m"))).await.expect(201);
    let refused = api.admin().post(PODS, &pod("b", cpu("500m"))).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: \
         requests.cpu=600m, limited: requests.cpu=1"
    );
    let refused = api.admin().post(PODS, &pod("c", json!({}))).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"c\" is forbidden: failed quota: q: must specify requests.cpu for: a"
    );
    let maps = "/api/v1/namespaces/ns/configmaps";
    // A dry run takes nothing.
    let map = |name: &str| json!({"metadata": {"name": name}});
    api.admin().post(&format!("{maps}?dryRun=All"), &map("m")).await.expect(201);
    api.admin().post(maps, &map("m")).await.expect(201);
    api.admin().post(maps, &map("n")).await.expect(403);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/ns/services";
    api.admin().post(services, &service).await.expect(201);
    let open = json!({"spec": {"type": "NodePort"}});
    let path = format!("{services}/s");
    api.admin().patch("merge-patch+json", &path, &open).await.expect(200);
    let used = used(&api, "q").await;
    let all = json!({"requests.cpu": "600m", "count/configmaps": "1", "services.nodeports": "1"});
    assert_eq!(used, all);
}

#[tokio::test]
async fn a_quota_is_for_what_is_in_its_scopes() {
    let api = started().await;
    let hard = json!({"pods": "5"});
    quota(&api, "best", json!({"hard": hard, "scopes": ["BestEffort"]})).await;
    quota(&api, "ending", json!({"hard": hard, "scopes": ["Terminating"]})).await;
    let selector = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]});
    quota(&api, "high", json!({"hard": hard, "scopeSelector": selector})).await;
    let mut one = pod("a", json!({}));
    one["spec"]["activeDeadlineSeconds"] = json!(10);
    api.admin().post(PODS, &one).await.expect(201);
    let mut two = pod("b", json!({"requests": {"cpu": "1"}}));
    two["spec"]["priorityClassName"] = json!("system-node-critical");
    api.admin().post(PODS, &two).await.expect(201);
    for name in ["best", "ending", "high"] {
        assert_eq!(used(&api, name).await["pods"], "1", "{name}");
    }
}

#[tokio::test]
async fn many_at_once_do_not_exceed_a_quota() {
    let api = started().await;
    quota(&api, "q", json!({"hard": {"pods": "3"}})).await;
    let writes = (0..12).map(|index| {
        let client = api.admin();
        async move { client.post(PODS, &pod(&format!("p{index}"), json!({}))).await.status }
    });
    let statuses = futures::future::join_all(writes).await;
    let made = statuses.iter().filter(|status| status.as_u16() == 201).count();
    assert_eq!(made, 3, "{statuses:?}");
    assert_eq!(used(&api, "q").await["pods"], "3");
}
