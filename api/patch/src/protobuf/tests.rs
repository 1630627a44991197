use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, json};

use super::text::{duration_nanos, duration_text, time_parts, time_text};
use super::*;
use crate::schema::{Any, Either, Scalar, builtin, builtin_names, for_kind};
use crate::tests::{LEAVES, any_json};

fn round_trip(object: &Value) -> Value {
    let version = object["apiVersion"].as_str().unwrap();
    let schema = for_kind(version, object["kind"].as_str().unwrap()).unwrap();
    let bytes = encode(object, &schema).unwrap();
    decode(&bytes, &schema, &LEAVES).unwrap().value
}

#[test]
fn the_bytes_of_a_small_object() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let schema = for_kind("v1", "ConfigMap").unwrap();
    let bytes = encode(&object, &schema).unwrap();
    let mut wanted = b"k8s\0".to_vec();
    wanted.extend(b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap");
    wanted.extend(b"\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v");
    wanted.extend(b"\x1a\x00\x22\x00");
    assert_eq!(bytes, wanted);
    let opened = envelope(&bytes).unwrap();
    assert_eq!((opened.api_version.as_str(), opened.kind.as_str()), ("v1", "ConfigMap"));
    assert_eq!(decode(&bytes, &schema, &LEAVES).unwrap().value, object);
    assert_eq!(watch_frame("ADDED", b"x"), b"\x00\x00\x00\x0c\x0a\x05ADDED\x12\x03\x0a\x01x");
}

#[test]
fn special_leaves_survive() {
    let time = "1970-01-01T00:00:00Z";
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "a", "creationTimestamp": time, "managedFields": [
            {"manager": "m", "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
        ]},
        "spec": {"ports": [{"port": 80, "targetPort": "web"}, {"port": 81, "targetPort": 0}]},
        "status": {"loadBalancer": {}},
    });
    assert_eq!(round_trip(&service), service);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
        "spec": {"renewTime": "2025-06-01T12:00:00.000001Z", "leaseDurationSeconds": 0},
    });
    assert_eq!(round_trip(&lease), lease);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"extra": {"a": ["b", "c"], "d": []}, "user": "u"}, "status": {"allowed": false},
    });
    assert_eq!(round_trip(&review), review);
}

#[test]
fn crds_and_lists() {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
        "spec": {
            "group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                "type": "object", "default": {"a": [1, null]}, "maximum": 1.5, "minimum": 0.0,
                "additionalProperties": {"type": "string"}, "enum": [1, "x"],
                "properties": {"a": {"additionalProperties": false}, "b": {"items": {"type": "x"}}, "c": {"items": [{"type": "x"}, {}]}},
                "dependencies": {"a": ["b"], "c": {"type": "y"}},
                "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
        "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": null},
    });
    assert_eq!(round_trip(&crd), crd);
    let list = json!({
        "apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {}}],
    });
    assert_eq!(round_trip(&list), list);
}

#[test]
fn lists_item_by_item_have_the_same_bytes() {
    let mut list = json!({
        "apiVersion": "v1", "kind": "ConfigMapList",
        "metadata": {"resourceVersion": "7", "remainingItemCount": 3},
        "items": [{"metadata": {"name": "a"}, "data": {"k": "v"}}, {"metadata": {}}],
    });
    let schema = for_kind("v1", "ConfigMapList").unwrap();
    let wanted = encode(&list, &schema).unwrap();
    let writer = ListWriter::new(&schema).unwrap();
    let mut items = Vec::new();
    for item in list["items"].take().as_array().unwrap() {
        writer.item(&mut items, item).unwrap();
    }
    let mut bytes = writer.start(&list, items.len()).unwrap();
    bytes.append(&mut items);
    bytes.extend_from_slice(ListWriter::END);
    assert_eq!(bytes, wanted);
    for kind in builtin_names() {
        let schema = builtin(kind).unwrap();
        let structure = schema.as_struct().unwrap();
        let of_objects = structure.is_object && !structure.wire.is_empty();
        if of_objects && structure.field("items").is_some() {
            assert!(ListWriter::new(&schema).is_some(), "{kind}");
        }
    }
    assert!(ListWriter::new(&for_kind("v1", "Pod").unwrap()).is_none());
}

#[test]
fn malformed_bytes_are_errors() {
    let schema = for_kind("v1", "Pod").unwrap();
    for bytes in [
        &b""[..],
        b"{}",
        b"k8s\0\x0a",
        b"k8s\0\x12\x05\x0a\xff",
        b"k8s\0\x12\x02\x08\x01",
        b"k8s\0\x12\x03\x0a\x01\x07",
        b"k8s\0\x12\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(decode(bytes, &schema, &LEAVES).is_err(), "{bytes:?}");
    }
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, 28, &deep);
        deep = outer;
    }
    let schema = decode::json_schema();
    assert!(read::structure(&deep, schema.as_struct().unwrap()).is_err());
    let skipped = b"k8s\0\x12\x05\xf8\xff\xff\x0f\x01";
    assert!(decode(skipped, &for_kind("v1", "Pod").unwrap(), &LEAVES).is_ok());
}

#[test]
fn times_and_durations() {
    for (text, parts) in [
        ("1970-01-01T00:00:00Z", (0, 0)),
        ("2000-02-29T23:59:59Z", (951_868_799, 0)),
        ("1969-12-31T23:59:59Z", (-1, 0)),
        ("0001-01-01T00:00:00Z", (-62_135_596_800, 0)),
        ("9999-12-31T23:59:59Z", (253_402_300_799, 0)),
    ] {
        assert_eq!(time_parts(text), Some(parts));
        assert_eq!(time_text(parts.0, 0, 0), text);
    }
    assert_eq!(time_parts("2025-06-01T12:00:00.5Z"), Some((1_748_779_200, 500_000_000)));
    for (text, nanos) in [
        ("0s", 0),
        ("1ns", 1),
        ("1.5µs", 1_500),
        ("2ms", 2_000_000),
        ("1.5s", 1_500_000_000),
        ("1m0s", 60_000_000_000),
        ("-1h2m3s", -3_723_000_000_000),
    ] {
        assert_eq!(duration_nanos(text), Some(nanos), "{text}");
        assert_eq!(duration_text(nanos), text);
    }
    assert_eq!(duration_nanos("5"), None);
    assert_eq!(duration_nanos("5x"), None);
}

/// Any value of a type, in normal form or close to it. Lists and maps are not empty: protobuf cannot
/// tell an empty one from none.
fn any_value(schema: &Schema, depth: u32) -> BoxedStrategy<Value> {
    match schema {
        Schema::Scalar(scalar) => any_scalar(*scalar),
        Schema::Any(Any::FieldsV1) => Just(json!({"f:a": {}})).boxed(),
        Schema::Any(_) => any_json().prop_filter("null is absent", |v| !v.is_null()).boxed(),
        Schema::Either(Either::SchemaOrBool) => any::<bool>().prop_map(Value::from).boxed(),
        Schema::Either(_) => Just(json!({"type": "x"})).boxed(),
        Schema::List(list) => {
            prop::collection::vec(any_value(&list.item, depth), 1..3).prop_map(Value::from).boxed()
        }
        Schema::Map(map) => {
            prop::collection::btree_map("[a-c]{0,2}", any_value(&map.value, depth), 1..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed()
        }
        Schema::Struct(reference) => {
            let structure = reference.get();
            if depth == 0 {
                return Just(json!({})).boxed();
            }
            let fields: Vec<_> = structure
                .fields
                .iter()
                .filter(|field| {
                    !matches!(&*field.name, "kind" | "apiVersion") || !structure.is_object
                })
                .map(|field| {
                    let name = field.name.to_string();
                    prop::option::weighted(0.5, any_value(&field.schema, depth - 1))
                        .prop_map(move |value| Some((name.clone(), value?)))
                })
                .collect();
            fields
                .prop_map(|pairs| Value::Object(pairs.into_iter().flatten().collect::<Map<_, _>>()))
                .boxed()
        }
    }
}

fn any_scalar(scalar: Scalar) -> BoxedStrategy<Value> {
    match scalar {
        Scalar::String | Scalar::Custom(_) => "[aé\"]{0,3}".prop_map(Value::from).boxed(),
        Scalar::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Scalar::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        Scalar::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        Scalar::Double => (-1e9..1e9_f64).prop_map(Value::from).boxed(),
        Scalar::Bytes => Just(json!("aGk=")).boxed(),
        Scalar::Quantity => {
            prop::sample::select(vec!["0", "1500m", "1Gi"]).prop_map(Value::from).boxed()
        }
        Scalar::IntOrString => {
            prop_oneof![Just(json!("x")), any::<i32>().prop_map(Value::from)].boxed()
        }
        Scalar::Time => (0_i64..4_000_000_000).prop_map(|s| time_text(s, 0, 0).into()).boxed(),
        Scalar::MicroTime => (0_i64..4_000_000_000, 0_i64..1_000_000)
            .prop_map(|(s, u)| time_text(s, u * 1000, 6).into())
            .boxed(),
        Scalar::Duration => (0_i64..9_999_999_999).prop_map(|n| duration_text(n).into()).boxed(),
    }
}

#[test]
fn every_object_of_every_kind_survives() {
    for name in builtin_names() {
        let schema = builtin(name).unwrap();
        let structure = schema.as_struct().unwrap();
        if !structure.is_object || structure.wire.is_empty() {
            continue;
        }
        let mut runner = TestRunner::deterministic();
        for _ in 0..4 {
            let mut object = any_value(&schema, 5).new_tree(&mut runner).unwrap().current();
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("K");
            let object = decode::value(object, &schema, &LEAVES).unwrap().value;
            let bytes = encode(&object, &schema).unwrap();
            let again = decode(&bytes, &schema, &LEAVES).unwrap().value;
            assert_eq!(again, object, "{name}");
        }
    }
}
