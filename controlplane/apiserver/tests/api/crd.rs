//! CustomResourceDefinitions and what they define.

use serde_json::{Value, json};

use crate::harness::{Api, BOUND, namespace};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/x.example.com/v1/namespaces/a/widgets";

fn schema() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "red", "enum": ["red", "green"]},
            "replicas": {"type": "integer", "default": 1},
            "host": {"type": "string"},
        }},
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"}, "replicas": {"type": "integer"},
        }},
    }})
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.example.com"},
        "spec": {
            "group": "x.example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema()},
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "selectableFields": [{"jsonPath": ".spec.host"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }],
        },
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let list = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .find(|condition| condition["type"] == kind)
        .map_or(&Value::Null, |found| &found["status"])
}

/// Reads a path until what it answers is as wanted.
pub(crate) async fn until(api: &Api, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let admin = api.admin();
    let looks = async {
        loop {
            let answer = admin.get(path).await;
            let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            if wanted(answer.status.as_u16(), &value) {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, looks).await.expect("it becomes so")
}

async fn established(definition: &Value) -> Api {
    let api = Api::start().await;
    namespace(&api, "a").await;
    api.admin().post(DEFINITIONS, definition).await.expect(201);
    let name = definition["metadata"]["name"].as_str().expect("a name");
    let path = format!("{DEFINITIONS}/{name}");
    until(&api, &path, |_, object| condition(object, "Established") == "True").await;
    api
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "x.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn what_is_defined_can_be_used_at_once() {
    let api = established(&definition()).await;
    let admin = api.admin();
    let made = admin.post(WIDGETS, &widget("w", &json!({"size": 3, "bogus": 1}))).await.expect(201);
    assert_eq!(made["spec"], json!({"size": 3, "color": "red", "replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let refused = admin.post(WIDGETS, &widget("x", &json!({"size": 0}))).await.expect(422);
    let cause = &refused["details"]["causes"][0];
    assert_eq!(
        cause["message"],
        "Invalid value: 0: spec.size in body should be greater than or equal to 1"
    );
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let refused =
        admin.post(&strict, &widget("x", &json!({"size": 1, "bogus": 1}))).await.expect(400);
    assert!(
        refused["message"]
            .as_str()
            .is_some_and(|text| text.contains("unknown field \"spec.bogus\""))
    );
    let untyped = json!({"kind": "Widget", "metadata": {"name": "x"}, "spec": {"size": 1}});
    admin.post(WIDGETS, &untyped).await.expect(400);
    let patch = json!({"status": {"phase": "Up"}, "spec": {"size": 9}});
    let path = format!("{WIDGETS}/w/status");
    let patched = admin.patch("merge-patch+json", &path, &patch).await.expect(200);
    assert_eq!((&patched["status"]["phase"], &patched["spec"]["size"]), (&json!("Up"), &json!(3)));
    let scale = admin.get(&format!("{WIDGETS}/w/scale")).await.expect(200);
    assert_eq!(scale["spec"]["replicas"], 1);
    let resources = admin.get("/apis/x.example.com/v1").await.expect(200);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["wd"]));
}

#[tokio::test]
async fn fields_are_selected_and_columns_shown() {
    let api = established(&definition()).await;
    let admin = api.admin();
    for (name, host) in [("w1", "a"), ("w2", "b")] {
        admin.post(WIDGETS, &widget(name, &json!({"size": 3, "host": host}))).await.expect(201);
    }
    let found = admin.get(&format!("{WIDGETS}?fieldSelector=spec.host%3Db")).await.expect(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["items"][0]["metadata"]["name"], "w2");
    admin.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3")).await.expect(400);
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table =
        admin.send(http::Method::GET, WIDGETS, &headers, bytes::Bytes::new()).await.expect(200);
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["w1", 3]));
}

#[tokio::test]
async fn stored_objects_follow_their_definition() {
    let api = established(&definition()).await;
    let admin = api.admin();
    admin.post(WIDGETS, &widget("w", &json!({"size": 3, "host": "a"}))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.x.example.com");
    let mut new = admin.get(&path).await.expect(200);
    let spec = &mut new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["added"] = json!({"type": "string", "default": "new"});
    admin.put(&path, &new).await.expect(200);
    let read =
        until(&api, &format!("{WIDGETS}/w"), |_, object| object["spec"]["added"] == "new").await;
    assert_eq!(read["spec"]["host"], "a");
    let list = admin.get(WIDGETS).await.expect(200);
    assert_eq!(list["items"][0]["spec"]["added"], "new");
}

#[tokio::test]
async fn versions_are_served_side_by_side() {
    let mut two = definition();
    let mut second = two["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    two["spec"]["versions"].as_array_mut().expect("a list").push(second);
    let api = established(&two).await;
    let admin = api.admin();
    let path = WIDGETS.replace("/v1/", "/v2/");
    let mut object = widget("w", &json!({"size": 3}));
    object["apiVersion"] = json!("x.example.com/v2");
    admin.post(&path, &object).await.expect(201);
    assert_eq!(
        admin.get(&format!("{WIDGETS}/w")).await.expect(200)["apiVersion"],
        "x.example.com/v1"
    );
    let list = admin.get(&path).await.expect(200);
    assert_eq!(list["items"][0]["apiVersion"], "x.example.com/v2");
    let group = admin.get("/apis/x.example.com").await.expect(200);
    assert_eq!(group["versions"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn instances_go_before_their_definition() {
    let api = established(&definition()).await;
    let admin = api.admin();
    admin.post(WIDGETS, &widget("w", &json!({"size": 3}))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.x.example.com");
    let marked = admin.delete(&path).await.expect(200);
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    assert_eq!(condition(&marked, "Terminating"), "True");
    until(&api, &path, |status, _| status == 404).await;
    until(&api, WIDGETS, |status, _| status == 404).await;
    admin.post(DEFINITIONS, &definition()).await.expect(201);
    until(&api, WIDGETS, |status, list| status == 200 && list["items"] == json!([])).await;
}

#[tokio::test]
async fn names_are_given_once() {
    let api = established(&definition()).await;
    let admin = api.admin();
    let mut other = definition();
    other["metadata"]["name"] = json!("gadgets.x.example.com");
    other["spec"]["names"] = json!({"kind": "Widget", "plural": "gadgets"});
    admin.post(DEFINITIONS, &other).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.x.example.com");
    let refused =
        until(&api, &path, |_, object| condition(object, "NamesAccepted") == "False").await;
    assert_eq!(condition(&refused, "Established"), "False");
    admin.get("/apis/x.example.com/v1/namespaces/a/gadgets").await.expect(404);
    admin.delete(&format!("{DEFINITIONS}/widgets.x.example.com")).await.expect(200);
    until(&api, &path, |_, object| condition(object, "Established") == "True").await;
}

#[tokio::test]
async fn definitions_that_are_not_structural_are_refused() {
    let api = Api::start().await;
    let mut odd = definition();
    odd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["a"] =
        json!({});
    let refused = api.admin().post(DEFINITIONS, &odd).await.expect(422);
    assert_eq!(
        refused["details"]["causes"][0]["field"],
        "spec.validation.openAPIV3Schema.properties[spec].properties[a].type"
    );
}

#[tokio::test]
async fn schemas_are_published() {
    let api = established(&definition()).await;
    let path = "/openapi/v3/apis/x.example.com/v1";
    let document = api.admin().get(path).await.expect(200);
    let schema = &document["components"]["schemas"]["com.example.x.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["minimum"], 1);
    let document = api.admin().get("/openapi/v2").await.expect(200);
    let schema = &document["definitions"]["com.example.x.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["type"], "integer");
}

#[tokio::test]
async fn unknown_fields_of_embedded_metadata_are_named() {
    let mut open = definition();
    let properties = &mut open["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"];
    properties["template"] = json!({
        "type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    let api = established(&open).await;
    let mut object = widget(
        "w",
        &json!({"size": 1, "template": {"apiVersion": "v1", "kind": "A",
            "metadata": {"name": "n", "odd": 1}, "spec": {"kept": 1}}}),
    );
    object["metadata"]["odder"] = json!(1);
    let path = format!("{WIDGETS}?fieldValidation=Strict");
    let refused = api.admin().post(&path, &object).await.expect(400);
    let message = refused["message"].as_str().unwrap_or_default();
    for field in ["metadata.odder", "spec.template.metadata.odd"] {
        assert!(message.contains(&format!("unknown field \"{field}\"")), "{message}");
    }
    let made = api.admin().post(WIDGETS, &object).await.expect(201);
    let template = json!({"apiVersion": "v1", "kind": "A",
        "metadata": {"name": "n"}, "spec": {"kept": 1}});
    assert_eq!(made["spec"]["template"], template);
}

#[tokio::test]
async fn duplicate_fields_are_told_where_all_fields_are_kept() {
    let mut open = definition();
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    open["spec"]["versions"][0]["selectableFields"] = Value::Null;
    let api = established(&open).await;
    let body = r#"{"apiVersion":"x.example.com/v1","kind":"Widget","metadata":{"name":"w"},
        "spec":{"any":1,"any":2}}"#;
    let headers = [("content-type", "application/json")];
    let send = async |query: &str| {
        let path = format!("{WIDGETS}{query}");
        api.admin().send(http::Method::POST, &path, &headers, body.into()).await
    };
    let refused = send("?fieldValidation=Strict").await.expect(400);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.contains("duplicate field \"spec.any\""), "{message}");
    let warned = send("?fieldValidation=Warn").await;
    assert_eq!(warned.headers["warning"], "299 - \"duplicate field \\\"spec.any\\\"\"");
    assert_eq!(warned.expect(201)["spec"]["any"], 2);
}

#[tokio::test]
async fn nothing_is_made_of_a_definition_that_goes() {
    let api = established(&definition()).await;
    let admin = api.admin();
    let mut held = widget("w", &json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["x.example.com/held"]);
    admin.post(WIDGETS, &held).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.x.example.com");
    admin.delete(&path).await.expect(200);
    let instance = format!("{WIDGETS}/w");
    until(&api, &instance, |_, object| !object["metadata"]["deletionTimestamp"].is_null()).await;
    let refused = admin.post(WIDGETS, &widget("x", &json!({"size": 1}))).await.expect(405);
    let wanted = "create not allowed while custom resource definition is terminating";
    assert_eq!(refused["message"], wanted);
    let patch = json!({"metadata": {"finalizers": null}});
    admin.patch("merge-patch+json", &instance, &patch).await.expect(200);
    until(&api, &path, |status, _| status == 404).await;
}

#[tokio::test]
async fn who_uses_a_deprecated_version_is_warned() {
    let mut old = definition();
    old["spec"]["versions"][0]["deprecated"] = json!(true);
    let api = established(&old).await;
    let listed = api.admin().get(WIDGETS).await;
    assert_eq!(listed.headers["warning"], "299 - \"x.example.com/v1 Widget is deprecated\"");
}
