use serde_json::json;

use super::*;
use crate::schema::builtin;

fn pod(spec: Value, patch: Value) -> Result<Value, PatchError> {
    let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
    let patched = apply(json!({"spec": spec}), &json!({"spec": patch}), &schema)?;
    Ok(patched["spec"].clone())
}

fn containers() -> Value {
    json!({"containers": [
        {"name": "c1", "image": "i1", "args": ["x", "y"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "c2", "image": "i2"},
    ], "nodeSelector": {"a": "b"}, "volumes": [{"name": "v", "emptyDir": {}}]})
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn lists_merge_by_key_and_others_are_replaced() {
    let result = pod(containers(), json!({"containers": [
        {"name": "c2", "image": "new"}, {"name": "c1", "args": ["z"], "env": [{"name": "A", "$patch": "delete"}]},
    ]}))
    .unwrap();
    assert_eq!(names(&result["containers"]), ["c2", "c1"]);
    assert_eq!(result["containers"][0]["image"], "new");
    assert_eq!(result["containers"][1]["args"], json!(["z"]));
    assert_eq!(names(&result["containers"][1]["env"]), ["B"]);
}

#[test]
fn new_items_come_first_as_upstream_has_it() {
    let result =
        pod(containers(), json!({"containers": [{"name": "c0", "image": "z", "tty": null}]}))
            .unwrap();
    assert_eq!(names(&result["containers"]), ["c0", "c1", "c2"]);
    assert_eq!(result["containers"][0], json!({"name": "c0", "image": "z"}));
}

#[test]
fn order_directives() {
    let order = json!([{"name": "c0"}, {"name": "c2"}, {"name": "c1"}]);
    let result = pod(
        containers(),
        json!({
            "$setElementOrder/containers": order, "containers": [{"name": "c0", "image": "z"}],
        }),
    )
    .unwrap();
    assert_eq!(names(&result["containers"]), ["c0", "c2", "c1"]);
    let wrong = pod(
        containers(),
        json!({
            "$setElementOrder/containers": [{"name": "c1"}], "containers": [{"name": "c0"}],
        }),
    );
    assert_eq!(
        wrong.unwrap_err(),
        PatchError::Internal("The order in patch list:\n[map[name:c0]]\n doesn't match $setElementOrder list:\n[map[name:c1]]\n".into())
    );
    let finalizers = apply(
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        &json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}}),
        &builtin("io.k8s.api.core.v1.Pod").unwrap(),
    )
    .unwrap();
    assert_eq!(finalizers["metadata"]["finalizers"], json!(["c", "a"]));
}

#[test]
fn map_directives() {
    let replaced = pod(containers(), json!({"nodeSelector": {"$patch": "replace", "x": "y"}}));
    assert_eq!(replaced.unwrap()["nodeSelector"], json!({"x": "y"}));
    let deleted = pod(containers(), json!({"nodeSelector": {"$patch": "delete"}})).unwrap();
    assert_eq!(deleted["nodeSelector"], json!({}));
    let merged = pod(containers(), json!({"nodeSelector": {"c": "d", "a": null}})).unwrap();
    assert_eq!(merged["nodeSelector"], json!({"c": "d"}));
    let replaced = pod(containers(), json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}));
    assert_eq!(names(&replaced.unwrap()["containers"]), ["z"]);
}

#[test]
fn retained_keys() {
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]});
    assert_eq!(
        pod(containers(), patch).unwrap()["volumes"],
        json!([{"name": "v", "hostPath": {"path": "/x"}}])
    );
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {}}]});
    assert_eq!(
        pod(containers(), patch).unwrap_err().to_string(),
        "invalid patch format of retainKeys"
    );
}

#[test]
fn primitive_lists_merge_as_sets() {
    let result = apply(
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        &json!({"metadata": {"finalizers": ["c", "a"]}}),
        &builtin("io.k8s.api.core.v1.Pod").unwrap(),
    )
    .unwrap();
    assert_eq!(result["metadata"]["finalizers"], json!(["c", "a", "b"]));
}

#[test]
fn errors_as_recorded() {
    for (patch, wanted) in [
        (
            json!({"containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"nodeSelector": {"$patch": "frob"}}),
            "unknown patch type: frob in map: map[$patch:frob]",
        ),
    ] {
        assert_eq!(pod(containers(), patch).unwrap_err(), PatchError::Internal(wanted.into()));
    }
    assert_eq!(
        parse(b"[1]").unwrap_err().to_string(),
        "json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
    assert_eq!(parse(b"{\"a\"").unwrap_err().to_string(), "unexpected end of JSON input");
}
