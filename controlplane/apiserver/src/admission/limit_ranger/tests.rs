use serde_json::{Value, json};

use super::{default_by, of_claim, of_pod};

fn range(limit: Value) -> Value {
    json!({"spec": {"limits": [limit]}})
}

#[test]
fn what_containers_do_not_say_is_filled_in_and_noted() {
    let range = range(json!({
        "type": "Container",
        "default": {"cpu": "500m", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m"},
    }));
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [
            {"name": "a"},
            {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}},
        ],
        "initContainers": [{"name": "i", "resources": {"limits": {"memory": "2Gi"}}}],
    }});
    default_by(&range, &mut pod);
    let first = &pod["spec"]["containers"][0]["resources"];
    let all = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "1Gi"}});
    assert_eq!(*first, all);
    let second = &pod["spec"]["containers"][1]["resources"];
    let own = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    assert_eq!(*second, own);
    assert_eq!(
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; \
         memory limit for container b; cpu request for init container i; cpu limit for init \
         container i"
    );
    let before = pod.clone();
    default_by(&range, &mut pod);
    assert_eq!(pod, before, "twice is as good as once");
}

#[test]
fn bounds_are_told_in_upstreams_words() {
    let pod =
        |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
    let half = json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "2"}});
    for (limit, resources, text) in [
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            half.clone(),
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({}),
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}}),
            half.clone(),
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}}),
            json!({"requests": {"cpu": "1"}}),
            "maximum cpu usage per Container is 1.  No limit is specified",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1500m"}}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
        ),
        (json!({"type": "Pod", "max": {"cpu": "2"}}), half.clone(), ""),
    ] {
        assert_eq!(of_pod(&range(limit), &pod(resources)).join("|"), text);
    }
}

#[test]
fn a_pod_is_bounded_as_a_whole() {
    let container =
        json!({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}});
    let pod =
        json!({"spec": {"containers": [container, container], "overhead": {"memory": "8Gi"}}});
    let limit = json!({"type": "Pod", "max": {"memory": "3Gi"}});
    assert_eq!(
        of_pod(&range(limit), &pod),
        ["maximum memory usage per Pod is 3Gi, but limit is 4Gi"]
    );
}

#[test]
fn claims_are_bounded_by_what_they_ask_for() {
    let claim = json!({"spec": {"resources": {"requests": {"storage": "10Gi"}}}});
    let limit = json!({
        "type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"},
    });
    assert_eq!(
        of_claim(&range(limit), &claim),
        ["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi"]
    );
}
