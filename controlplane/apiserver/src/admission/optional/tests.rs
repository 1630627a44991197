use serde_json::{Value, json};

use super::{
    Rule, adds_external_ips, has_new_images, newly_blocking, pull_always, tolerate_resources,
};

#[test]
fn rules_are_named_as_upstreams_plugins() {
    assert_eq!("AlwaysPullImages".parse(), Ok(Rule::AlwaysPullImages));
    assert!("PodSecurityPolicy".parse::<Rule>().is_err());
}

#[test]
fn images_are_pulled_when_they_are_new() {
    let pod = |image: &str| {
        json!({"spec": {"containers": [{"image": image, "imagePullPolicy": "Never"}],
            "volumes": [{"image": {"reference": "r"}}, {"emptyDir": {}}]}})
    };
    assert!(has_new_images(&pod("b"), &pod("a")));
    assert!(!has_new_images(&pod("a"), &pod("a")));
    let mut one = pod("a");
    pull_always(&mut one);
    assert_eq!(one["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(one["spec"]["volumes"][0]["image"]["pullPolicy"], "Always");
    assert!(one["spec"]["volumes"][1].get("image").is_none());
}

#[test]
fn extended_resources_are_tolerated_once() {
    let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {
        "cpu": "1", "example.com/gpu": "1", "attachable.kubernetes.io/x": "1"}}}]}});
    tolerate_resources(&mut pod);
    let wanted = json!([{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]);
    assert_eq!(pod["spec"]["tolerations"], wanted);
    tolerate_resources(&mut pod);
    assert_eq!(pod["spec"]["tolerations"], wanted);
}

#[test]
fn external_addresses_may_stay_but_not_come() {
    let service = |addresses: Value| json!({"spec": {"externalIPs": addresses}});
    let (none, one) = (service(json!([])), service(json!(["1.2.3.4"])));
    assert!(adds_external_ips(&one, None));
    assert!(adds_external_ips(&one, Some(&none)));
    assert!(!adds_external_ips(&one, Some(&one)));
    assert!(!adds_external_ips(&none, Some(&one)));
}

#[test]
fn only_references_that_begin_to_block_are_asked_about() {
    let owner = |uid: &str, blocks: bool| json!({"uid": uid, "blockOwnerDeletion": blocks});
    let old = [owner("a", true), owner("b", false)];
    let new = [owner("a", true), owner("b", true), owner("c", false), owner("d", true)];
    let found: Vec<&str> =
        newly_blocking(&new, &old).map(|owner| owner["uid"].as_str().expect("a uid")).collect();
    assert_eq!(found, ["b", "d"]);
}
