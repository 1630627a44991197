use serde_json::json;

use super::*;
use crate::schema::builtin;
use crate::tests::LEAVES;

const NOW: &str = "2026-01-01T00:00:00Z";

struct World {
    schema: Schema,
    live: Value,
    reset: FieldSet,
}

impl World {
    fn new(kind: &str) -> Self {
        let schema = builtin(kind).unwrap();
        let live = empty(&schema, &LEAVES);
        Self { schema, live, reset: FieldSet::of_fields(&[&["status"]]) }
    }

    fn writer<'a>(&'a self, manager: &'a str) -> Writer<'a> {
        Writer { manager, api_version: "v1", subresource: "", now: NOW, reset_fields: &self.reset }
    }

    fn settle(&mut self, object: Value) {
        self.live = decode::value(object, &self.schema, &LEAVES).unwrap().value;
        self.live["metadata"]["uid"] = json!("u");
    }

    fn try_apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), PatchError> {
        let object = apply(&self.live, &config, &self.schema, &self.writer(manager), force)?;
        self.settle(object);
        Ok(())
    }

    fn apply(&mut self, manager: &str, config: Value) {
        self.try_apply(manager, config, false).unwrap();
    }

    fn write(&mut self, manager: &str, mut object: Value) {
        object["metadata"]["uid"] = self.live["metadata"]["uid"].clone();
        if object["metadata"]["uid"].is_null() {
            object["metadata"].as_object_mut().unwrap().remove("uid");
        }
        let mut new = decode::value(object, &self.schema, &LEAVES).unwrap().value;
        track(&self.live, &mut new, &self.schema, &self.writer(manager));
        self.settle(new);
    }

    fn owners(&self) -> Value {
        let entries = self.live["metadata"]["managedFields"].as_array().cloned();
        let named = entries.into_iter().flatten().map(|entry| {
            let operation = entry["operation"].as_str().unwrap();
            (
                format!("{}:{operation}", entry["manager"].as_str().unwrap()),
                entry["fieldsV1"].clone(),
            )
        });
        Value::Object(named.collect())
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn pod_template(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": spec},
    })
}

#[test]
fn applying_owns_and_forgetting_removes() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    world.apply("m1", config_map(json!({"k": "v", "l": "1"})));
    assert_eq!(world.owners(), json!({"m1:Apply": {"f:data": {"f:k": {}, "f:l": {}}}}));
    world.apply("m1", config_map(json!({"k": "v"})));
    assert_eq!(world.live["data"], json!({"k": "v"}));
    world.apply("m2", config_map(json!({"k": "v"})));
    world.apply("m1", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    assert_eq!(world.live["data"], json!({"k": "v"}), "m2 still owns it");
    assert_eq!(world.owners(), json!({"m2:Apply": {"f:data": {"f:k": {}}}}));
}

#[test]
fn plain_writes_own_what_they_change() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    world.write("creator", config_map(json!({"k": "v"})));
    assert_eq!(world.owners(), json!({"creator:Update": {"f:data": {".": {}, "f:k": {}}}}));
    world.apply("m1", config_map(json!({"k": "v", "l": "1"})));
    let error = world.try_apply("m1", config_map(json!({"k": "z"})), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"creator\" using v1: .data.k"
    );
    world.try_apply("m1", config_map(json!({"k": "z"})), true).unwrap();
    assert_eq!(
        world.owners(),
        json!({"m1:Apply": {"f:data": {"f:k": {}}}, "creator:Update": {"f:data": {}}})
    );
    assert_eq!(world.live["data"], json!({"k": "z"}));
    world.write("upd", config_map(json!({"n": "1"})));
    assert_eq!(
        world.owners(),
        json!({"upd:Update": {"f:data": {"f:n": {}}}, "creator:Update": {"f:data": {}}})
    );
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    world.apply("m1", config_map(json!({"a": "1", "b": "1"})));
    world.apply("m2", config_map(json!({"c": "1"})));
    let config = config_map(json!({"a": "2", "b": "2", "c": "2"}));
    let error = world.try_apply("m3", config, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"m1\":\n- .data.a\n- .data.b\nconflicts with \"m2\":\n- .data.c"
    );
}

#[test]
fn keyed_lists_merge_by_item() {
    let mut world = World::new("io.k8s.api.core.v1.PodTemplate");
    let a = json!({"name": "a", "image": "i", "ports": [{"containerPort": 80}]});
    world.apply("m1", pod_template(json!({"containers": [a]})));
    assert_eq!(
        world.owners()["m1:Apply"]["f:template"]["f:spec"]["f:containers"],
        json!({"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
        }}})
    );
    world.apply("m2", pod_template(json!({"containers": [{"name": "b", "image": "j"}]})));
    let names = |world: &World| -> Vec<String> {
        let list = world.live["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|item| item["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(&world), ["a", "b"]);
    let other = pod_template(json!({"containers": [{"name": "a", "image": "other"}]}));
    assert_eq!(
        world.try_apply("m2", other, false).unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"m1\": .template.spec.containers[name=\"a\"].image"
    );
    world.apply("m2", pod_template(json!({"containers": []})));
    assert_eq!(names(&world), ["a"]);
}

#[test]
fn atomic_parts_are_owned_whole() {
    let mut world = World::new("io.k8s.api.core.v1.PodTemplate");
    let spec = json!({"containers": [{"name": "a", "image": "i", "args": ["1"]}], "nodeSelector": {"x": "y"}});
    world.apply("m1", pod_template(spec));
    for (spec, field) in [
        (
            json!({"containers": [{"name": "a", "args": ["2"]}]}),
            ".template.spec.containers[name=\"a\"].args",
        ),
        (
            json!({"containers": [{"name": "a"}], "nodeSelector": {"z": "w"}}),
            ".template.spec.nodeSelector",
        ),
    ] {
        let error = world.try_apply("m2", pod_template(spec), false).unwrap_err();
        let PatchError::Conflict(conflicts) = error else { panic!("a conflict") };
        assert_eq!(conflicts[0].field, field);
    }
}

#[test]
fn sets_and_malformed_configurations() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    let with = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
    world.apply("m1", with(json!(["a.b/c"])));
    world.apply("m2", with(json!(["a.b/d"])));
    assert_eq!(world.live["metadata"]["finalizers"], json!(["a.b/c", "a.b/d"]));
    world.apply("m1", config_map(json!({})));
    assert_eq!(world.live["metadata"]["finalizers"], json!(["a.b/d"]));

    let mut world = World::new("io.k8s.api.core.v1.PodTemplate");
    for (config, wanted) in [
        (json!({}), "invalid object type: /, Kind="),
        (
            json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"managedFields": [{"manager": "x"}]}}),
            "metadata.managedFields must be nil",
        ),
        (
            pod_template(json!({"containers": [{"name": "a"}, {"name": "a"}]})),
            "failed to create typed patch object (/a; /v1, Kind=PodTemplate): .template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "bogus": 1}),
            "failed to create typed patch object (/a; /v1, Kind=PodTemplate): .bogus: field not declared in schema",
        ),
        (
            json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "template": 1}),
            "failed to create typed patch object (/a; /v1, Kind=PodTemplate): .template: expected map, got &{1}",
        ),
    ] {
        assert_eq!(world.try_apply("m", config, false).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn an_object_without_owners_is_applied_over() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    world.apply("m1", config_map(json!({"k": "v"})));
    let mut reset = world.live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    world.write("x", reset);
    assert_eq!(world.owners(), json!({}));
    let error = world.try_apply("m1", config_map(json!({"k": "z"})), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    let last = config_map(json!({"k": "v", "l": "v"})).to_string();
    let mut object = config_map(json!({"k": "v", "l": "changed"}));
    object["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    world.write("kubectl-client-side-apply", object);
    let config = config_map(json!({"k": "z"}));
    world.apply("kubectl", config.clone());
    let annotation = world.live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(annotation, format!("{config}\n"));
    assert!(world.try_apply("kubectl", config_map(json!({"l": "z"})), false).is_err());
}

#[test]
fn status_belongs_to_writers_of_status() {
    let mut world = World::new("io.k8s.api.core.v1.Pod");
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec, "status": {"phase": "Running"}});
    world.apply("m1", pod);
    assert_eq!(world.owners()["m1:Apply"].get("f:status"), None);
}

#[test]
fn old_writers_are_folded_together() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    let mut data = Map::new();
    for number in 0..14 {
        data.insert(format!("k{number}"), json!("v"));
        let name = format!("m{number:02}");
        world.write(&name, config_map(Value::Object(data.clone())));
    }
    let owners = world.owners();
    let names: Vec<&String> = owners.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes:Update");
}

#[test]
fn sameness_ignores_times() {
    let mut world = World::new("io.k8s.api.core.v1.ConfigMap");
    world.apply("m1", config_map(json!({"k": "v"})));
    let mut later = world.live.clone();
    later["metadata"]["managedFields"][0]["time"] = json!("2027-01-01T00:00:00Z");
    assert!(same_but_for_times(&world.live, &later));
    later["data"]["k"] = json!("w");
    assert!(!same_but_for_times(&world.live, &later));
}

#[test]
fn wrong_types_in_a_custom_resource() {
    let property = |kind: &str| json!({"type": kind});
    let schema = crate::schema::custom(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "s": property("string"), "n": property("integer"), "b": property("boolean"),
            "p": {"x-kubernetes-int-or-string": true},
        }}}}),
        false,
    );
    let texts =
        typed::check(&json!({"spec": {"s": 1, "n": "x", "b": "x", "p": [1]}}), &schema, false);
    assert_eq!(
        texts,
        [
            ".spec.b: expected boolean, got &{x}",
            ".spec.n: expected numeric (int or float), got string",
            ".spec.p: expected any scalar, got &{[1]}",
            ".spec.s: expected string, got &value.valueUnstructured{Value:1}",
        ]
    );
}
