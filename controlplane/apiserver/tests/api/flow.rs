//! Priority and fairness as clients see them.

use serde_json::{Value, json};

use crate::harness::{Api, BOUND, namespace};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

async fn dangling(api: &Api, name: &str, reason: &str) -> Value {
    let look = async {
        loop {
            let schema = api.admin().get(&format!("{SCHEMAS}/{name}")).await.expect(200);
            let condition = schema["status"]["conditions"][0].clone();
            if condition["reason"] == reason {
                return condition;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, look).await.expect("the condition is written")
}

#[tokio::test]
async fn requests_are_sorted_by_the_schemas_there_are() {
    let api = Api::start().await;
    namespace(&api, "a").await;
    let level = json!({
        "metadata": {"name": "mine"},
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}},
    });
    let schema = json!({
        "metadata": {"name": "mine"},
        "spec": {
            "matchingPrecedence": 3,
            "priorityLevelConfiguration": {"name": "mine"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "ann"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}],
            }],
        },
    });
    let schema = api.admin().post(SCHEMAS, &schema).await.expect(201);
    let condition = dangling(&api, "mine", "NotFound").await;
    assert_eq!(condition["status"], "True");
    let level = api.admin().post(LEVELS, &level).await.expect(201);
    dangling(&api, "mine", "Found").await;

    let ann = api.client("ann", &[]);
    let answer = ann.get("/version").await;
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        schema["metadata"]["uid"].as_str().unwrap()
    );
    let uid = level["metadata"]["uid"].as_str().unwrap();
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], uid);

    // Refusals are sorted too, here by the schema for everybody.
    let refused = ann.get("/api/v1/namespaces/a/secrets").await;
    let default = api.admin().get(&format!("{SCHEMAS}/global-default")).await.expect(200);
    assert_eq!(refused.status, 403);
    let uid = default["metadata"]["uid"].as_str().unwrap();
    assert_eq!(refused.headers["x-kubernetes-pf-flowschema-uid"], uid);

    let metrics = api.admin().get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"mine\"}"));
}

#[tokio::test]
async fn the_schemas_of_every_cluster_refer_to_levels_that_exist() {
    let api = Api::start().await;
    let all = api.admin().get(SCHEMAS).await.expect(200);
    let names: Vec<String> = all["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|schema| schema["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(names.contains(&"catch-all".to_owned()));
    for name in names {
        assert_eq!(dangling(&api, &name, "Found").await["status"], "False");
    }
}
