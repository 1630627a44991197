//! What happens to pods from their binding to their end.

use std::fs;

use runtime::fake::Call;
use serde_json::{Value, json};

use super::harness::{TestNode, pod_path};

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == Some("True")
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn starts(calls: &[Call]) -> Vec<String> {
    let starts = calls.iter().filter_map(|call| match call {
        Call::Start(name, attempt) => Some(format!("{name}#{attempt}")),
        _ => None,
    });
    starts.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_and_goes() {
    let mut node = TestNode::new();
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "n"}, "data": {"COLOR": "blue"}});
    node.api.put("/api/v1/namespaces/n/configmaps/settings", settings.clone());
    node.add_pod("web", json!({
        "volumes": [{"name": "v", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        "containers": [{"name": "c", "image": "app", "envFrom": [{"configMapRef": {"name": "settings"}}],
            "args": ["--color=$(COLOR)"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/e"},
                {"name": "t", "mountPath": "/t"}]}],
    }));
    let pod = node.wait_pod("web", "ready", is_ready).await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "10.1.0.2");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 0);
    assert!(status["containerID"].as_str().is_some_and(|id| id.starts_with("skeg://")));

    let seen = runtime::Runtime::observe(&*node.runtime).await.unwrap();
    let spec = &seen[0].containers[0].spec;
    assert!(spec.env.contains(&"COLOR=blue".to_owned()));
    assert_eq!(spec.args, ["--color=blue"]);
    let source = |path: &str| {
        let mount = spec.mounts.iter().find(|mount| mount.destination == *path).expect(path);
        mount.source.clone()
    };
    assert_eq!(fs::read_to_string(source("/v").join("COLOR")).unwrap(), "blue");
    assert_eq!(fs::read_to_string(source("/t").join("token")).unwrap(), "secret-token");
    assert!(fs::read_to_string(source("/etc/hosts")).unwrap().contains("10.1.0.2\tweb"));
    assert!(source("/dev/termination-log").exists());

    // What the volume is made from changes: so does the volume.
    let mut changed = settings;
    changed["data"]["COLOR"] = json!("green");
    node.api.put("/api/v1/namespaces/n/configmaps/settings", changed);
    let file = source("/v").join("COLOR");
    node.wait("the new content", || fs::read_to_string(&file).unwrap_or_default() == "green").await;

    node.delete_pod("web", 30);
    node.wait_pod("web", "gone", Value::is_null).await;
    let history = node.api.history(&pod_path("web"));
    let last = &history[history.len() - 1]["status"];
    assert_eq!(last["phase"], "Succeeded", "{last:#}");
    assert!(!node.pod_dir("u-web").exists());
    assert!(runtime::Runtime::observe(&*node.runtime).await.unwrap().is_empty());
    let calls = node.runtime.take_calls();
    assert_eq!(starts(&calls), ["c#0"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_agent_takes_over_without_a_flicker() {
    let mut node = TestNode::new();
    node.runtime.set_exec_code(&["check"], 0);
    node.add_pod(
        "web",
        json!({"containers": [{"name": "c", "image": "app",
        "readinessProbe": {"exec": {"command": ["check"]}, "periodSeconds": 1}}]}),
    );
    node.add_pod("gone", json!({"containers": [{"name": "c", "image": "app"}]}));
    node.wait_pod("web", "ready", is_ready).await;
    node.wait_pod("gone", "ready", is_ready).await;
    node.stop().await;
    node.runtime.take_calls();
    let before = node.api.history(&pod_path("web")).len();
    // While nobody looks, one pod is deleted for good.
    node.api.remove(&pod_path("gone"));
    node.start();
    node.wait("the orphan's end", || !node.pod_dir("u-gone").exists()).await;
    let calls = node.runtime.take_calls();
    assert_eq!(starts(&calls), Vec::<String>::new());
    let removed = |uid: &str| calls.contains(&Call::RemoveSandbox(uid.to_owned()));
    assert!(removed("u-gone") && !removed("u-web"));
    for version in &node.api.history(&pod_path("web"))[before..] {
        assert!(is_ready(version), "{version:#}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_runs_again_and_then_waits() {
    let mut node = TestNode::new();
    node.add_pod("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    node.wait_pod("web", "ready", is_ready).await;
    node.runtime.exit("u-web", "c", 3);
    let count = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
    let pod = node
        .wait_pod("web", "its first restart", |pod| count(pod) == Some(1) && is_ready(pod))
        .await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
    node.runtime.set_now(jiff::Timestamp::now().as_nanosecond());
    node.runtime.exit("u-web", "c", 3);
    let reason = |pod: &Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        state["waiting"]["reason"].as_str().unwrap_or("").to_owned()
    };
    node.wait_pod("web", "back-off", |pod| reason(pod) == "CrashLoopBackOff").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_and_waited_for() {
    let mut node = TestNode::new();
    node.add_pod(
        "web",
        json!({"containers": [{"name": "c", "image": "app",
        "envFrom": [{"secretRef": {"name": "key"}}]}]}),
    );
    let reason = |pod: &Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        state["waiting"]["reason"].as_str().unwrap_or("").to_owned()
    };
    let pod =
        node.wait_pod("web", "its error", |pod| reason(pod) == "CreateContainerConfigError").await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "secret \"key\" not found");
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "key", "namespace": "n"}, "data": {"K": "dg=="}});
    node.api.put("/api/v1/namespaces/n/secrets/key", secret);
    node.wait_pod("web", "ready", is_ready).await;

    node.add_pod("pull", json!({"containers": [{"name": "c", "image": "none"}]}));
    node.wait_pod("pull", "its error", |pod| reason(pod) == "ErrImagePull").await;
    node.wait_pod("pull", "back-off", |pod| reason(pod) == "ImagePullBackOff").await;
    node.delete_pod("pull", 0);
    node.wait_pod("pull", "gone", Value::is_null).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_end_and_pods_that_do_not_fit_are_refused() {
    let mut node = TestNode::new();
    node.add_pod(
        "job",
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "side", "image": "app", "restartPolicy": "Always"},
            {"name": "first", "image": "app"}],
        "containers": [{"name": "c", "image": "app"}]}),
    );
    node.wait("the init container", || {
        node.api.get(&pod_path("job")).is_some_and(|pod| {
            !pod["status"]["initContainerStatuses"][1]["state"]["running"].is_null()
        })
    })
    .await;
    node.runtime.exit("u-job", "first", 0);
    node.wait_pod("job", "ready", is_ready).await;
    node.runtime.exit("u-job", "c", 0);
    let pod = node.wait_pod("job", "its end", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(pod["status"]["podIP"], "10.1.0.2");
    assert_eq!(starts(&node.runtime.take_calls()), ["side#0", "first#0", "c#0"]);

    node.add_pod(
        "big",
        json!({"containers": [{"name": "c", "image": "app",
        "resources": {"requests": {"cpu": "10000"}}}]}),
    );
    let pod = node.wait_pod("big", "its refusal", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    node.delete_pod("big", 0);
    node.wait_pod("big", "gone", Value::is_null).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_is_registered_and_ready_once_it_has_a_range() {
    let mut node = TestNode::new();
    let path = "/api/v1/nodes/node";
    let ready = |status: &str| {
        let (api, status) = (node.api.clone(), status.to_owned());
        move || {
            let node = api.get(path).unwrap_or(Value::Null);
            condition(&node, "Ready") == Some(&status)
        }
    };
    node.wait("a node that is not ready", ready("False")).await;
    let mut object = node.api.get(path).unwrap();
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    object["spec"]["podCIDR"] = json!("10.1.0.0/24");
    node.api.put(path, object);
    node.wait("a node that is ready", ready("True")).await;
    let leases = node.api.under("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/");
    assert_eq!(leases[0]["spec"]["holderIdentity"], "node");
    let status = node.api.get(path).unwrap()["status"].clone();
    assert_ne!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 0);
    assert_eq!(status["capacity"]["pods"], "10");
    node.stop().await;
}
