//! Pod security as clients see it.

use serde_json::{Value, json};

use crate::harness::{Api, namespace};

const PODS: &str = "/api/v1/namespaces/ns/pods";

fn pod(name: &str, host_network: bool) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"hostNetwork": host_network, "containers": [{"name": "a", "image": "i"}]},
    })
}

async fn label(api: &Api, labels: Value) -> crate::harness::Answer {
    let patch = json!({"metadata": {"labels": labels}});
    api.admin().patch("merge-patch+json", "/api/v1/namespaces/ns", &patch).await
}

#[tokio::test]
async fn pods_beyond_the_enforced_standard_are_refused() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    api.admin().post(PODS, &pod("before", true)).await.expect(201);
    let answer = label(&api, json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"ns\\\" violate the new PodSecurity enforce \
             level \\\"baseline:latest\\\"\"",
            "299 - \"before: host namespaces\"",
        ]
    );
    let refused = api.admin().post(PODS, &pod("web", true)).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces \
         (hostNetwork=true)"
    );
    api.admin().post(PODS, &pod("web", false)).await.expect(201);
}

#[tokio::test]
async fn controllers_are_warned_of_what_their_pods_will_meet() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    label(&api, json!({"pod-security.kubernetes.io/enforce": "baseline"})).await.expect(200);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("", true)["spec"]});
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    let path = "/apis/apps/v1/namespaces/ns/deployments";
    let answer = api.admin().post(path, &deployment).await;
    answer.expect(201);
    assert_eq!(
        answer.headers["warning"],
        "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces \
         (hostNetwork=true)\""
    );
}

#[tokio::test]
async fn labels_must_be_levels() {
    let api = Api::start().await;
    namespace(&api, "ns").await;
    let refused = label(&api, json!({"pod-security.kubernetes.io/enforce": "odd"})).await;
    assert_eq!(
        refused.expect(422)["message"],
        "Namespace \"ns\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: \
         Invalid value: \"odd\": must be one of privileged, baseline, restricted"
    );
}
