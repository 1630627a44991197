//! Patches and the answers of a real API server (v1.36.2) to them: `testdata/patches.jsonl`, each
//! line with the live object, the patch, and the result or error. Times are replaced by one.

use serde_json::{Value, json};

use super::LEAVES;
use crate::apply::{self, FieldSet, Writer};
use crate::schema::{self, Schema, for_kind};
use crate::{decode, json_patch, merge_patch, strategic};

const NOW: &str = "2025-01-01T00:00:00Z";

fn cases() -> Vec<Value> {
    // Applies to custom resources stand in a file of their own, with the schema of their CRD.
    let custom = include_str!("../../testdata/custom.jsonl").lines();
    include_str!("../../testdata/patches.jsonl")
        .lines()
        .chain(custom)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn schema_of(object: &Value) -> Schema {
    for_kind(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()).unwrap()
}

/// What is left of a recorded object without what later stages of a write add to it: defaults that
/// are the kind's behaviour, allocation, admission, storage.
fn comparable(mut object: Value) -> Value {
    const LATER: [&str; 27] = [
        "creationTimestamp",
        "generation",
        "namespace",
        "resourceVersion",
        "uid",
        "clusterIP",
        "clusterIPs",
        "managedFields",
        "dnsPolicy",
        "enableServiceLinks",
        "imagePullPolicy",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamilyPolicy",
        "preemptionPolicy",
        "priority",
        "qosClass",
        "restartPolicy",
        "schedulerName",
        "serviceAccount",
        "serviceAccountName",
        "sessionAffinity",
        "terminationGracePeriodSeconds",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tolerations",
        "volumes",
    ];
    match &mut object {
        Value::Object(entries) => {
            entries.retain(|key, _| !LATER.contains(&key.as_str()));
            for key in
                ["securityContext", "fieldRef", "targetPort", "type", "phase", "volumeMounts"]
            {
                entries.remove(key);
            }
            for (_, value) in entries.iter_mut() {
                *value = comparable(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = comparable(item.take());
            }
        }
        _ => {}
    }
    object
}

#[test]
fn patches() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case["type"] != "apply") {
        let live = case["live"].clone();
        let schema = schema_of(&live);
        let bytes = case["patch"].to_string();
        let patched = match case["type"].as_str().unwrap() {
            "json-patch" => {
                let (operations, _) = json_patch::parse(bytes.as_bytes()).unwrap();
                json_patch::apply(live, &operations).unwrap()
            }
            "strategic-merge-patch" => {
                let (patch, _) = strategic::parse(bytes.as_bytes()).unwrap();
                strategic::apply(live, &patch, &schema).unwrap()
            }
            _ => {
                let (patch, _) = merge_patch::parse(bytes.as_bytes()).unwrap();
                let mut live = live;
                merge_patch::apply(&mut live, &patch);
                live
            }
        };
        let result = decode::value(patched, &schema, &LEAVES).unwrap().value;
        assert_eq!(comparable(result), comparable(case["result"].clone()), "{}", case["case"]);
        count += 1;
    }
    assert!(count >= 35);
}

#[test]
fn applies() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case["type"] == "apply") {
        let name = &case["case"];
        let config = &case["patch"];
        let kind = case["kind"].as_str().unwrap();
        let schema = match case.get("schema") {
            Some(openapi) => schema::custom(openapi, false),
            None => for_kind("v1", kind).unwrap(),
        };
        let subresource = case["subresource"].as_str().unwrap();
        let reset = if subresource.is_empty() { "status" } else { "spec" };
        let writer = Writer {
            manager: case["manager"].as_str().unwrap(),
            api_version: config["apiVersion"].as_str().unwrap_or("v1"),
            subresource,
            now: NOW,
            reset_fields: &FieldSet::of_fields(&[&[reset]]),
        };
        let empty = apply::empty(&schema, &LEAVES);
        let live = if case["live"].is_null() { &empty } else { &case["live"] };
        let force = case["force"] == json!(true);
        let applied = apply::apply(live, config, &schema, &writer, force);
        match (&case["error"], applied) {
            (Value::String(text), Err(error)) => assert_eq!(error.to_string(), *text, "{name}"),
            (Value::Null, Ok(object)) => {
                let mut object = decode::value(object, &schema, &LEAVES).unwrap().value;
                if case.get("schema").is_some() {
                    decode::defaults(&mut object, &schema);
                }
                let owners = |object: &Value| object["metadata"]["managedFields"].clone();
                assert_eq!(owners(&object), owners(&case["result"]), "{name}");
                assert_eq!(comparable(object), comparable(case["result"].clone()), "{name}");
            }
            (wanted, got) => panic!("{name}: {wanted}, got {got:?}"),
        }
        count += 1;
    }
    assert!(count >= 50);
}
