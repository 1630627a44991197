use serde_json::json;

use super::*;

#[test]
fn every_builtin_type_reads() {
    let names: Vec<&str> = builtin_names().collect();
    assert!(names.is_sorted(), "the table is searched by halving");
    assert!(names.len() > 600);
    for name in names {
        let schema = builtin(name).unwrap();
        let structure = schema.as_struct().unwrap();
        assert_eq!(structure.name, name);
        let fields = &structure.fields;
        assert!(fields.is_sorted_by(|a, b| a.name < b.name), "{name} has a field twice");
        assert!(structure.wire.is_sorted_by(|a, b| a.number < b.number), "{name}");
    }
}

#[test]
fn inlined_fields_are_the_outer_structs() {
    let probe = builtin("io.k8s.api.core.v1.Probe").unwrap();
    assert!(probe.child("httpGet").is_some() && probe.child("handler").is_none());
    let volume = builtin("io.k8s.api.core.v1.Volume").unwrap();
    assert!(volume.child("emptyDir").is_some());
    let key = builtin("io.k8s.api.core.v1.ConfigMapKeySelector").unwrap();
    assert!(key.as_struct().unwrap().atomic);
    let env = builtin("io.k8s.api.core.v1.EphemeralContainer").unwrap();
    let ports = env.as_struct().unwrap().field("ports").unwrap();
    let Schema::List(list) = &ports.schema else { panic!("a list") };
    assert_eq!(list.kind, ListKind::Map(vec!["containerPort".into(), "protocol".into()]));
    assert_eq!(ports.strategy.merge_key.as_deref(), Some("containerPort"));
}

#[test]
fn go_names() {
    let spec = builtin("io.k8s.api.core.v1.PodSpec").unwrap();
    let spec = spec.as_struct().unwrap();
    assert_eq!((spec.short_name(), spec.go_name()), ("PodSpec", "v1.PodSpec"));
    assert!(builtin("io.k8s.api.core.v1.Nothing").is_none());
}

#[test]
fn custom_schemas() {
    let schema = custom(
        &json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "items": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                "free": {"x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "tmpl": {"type": "object", "x-kubernetes-embedded-resource": true},
            }},
        }}),
        false,
    );
    assert!(schema.child("metadata").unwrap().child("labels").is_some());
    let spec = schema.child("spec").unwrap();
    assert!(spec.child("bogus").is_none());
    assert!(spec.child("free").unwrap().child("x").unwrap().child("y").is_some());
    assert!(spec.child("labels").unwrap().child("anything").is_some());
    assert!(spec.child("tmpl").unwrap().child("metadata").unwrap().child("name").is_some());
    let Schema::List(items) = spec.child("items").unwrap() else { panic!("a list") };
    assert_eq!(items.kind, ListKind::Map(vec!["name".into()]));
}

#[test]
fn kinds_are_found_by_their_version() {
    for (version, kind, name) in [
        ("v1", "Pod", "io.k8s.api.core.v1.Pod"),
        ("apps/v1", "Deployment", "io.k8s.api.apps.v1.Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role", "io.k8s.api.rbac.v1.Role"),
        ("v1", "Status", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
        ("policy/v1", "DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
        (
            "metrics.k8s.io/v1beta1",
            "NodeMetrics",
            "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
        ),
    ] {
        assert_eq!(for_kind(version, kind).unwrap().as_struct().unwrap().name, name);
    }
    assert!(for_kind("v9", "Pod").is_none());
}
