use serde_json::json;

use super::*;
use crate::schema::{builtin, custom};
use crate::tests::LEAVES;

fn decode(kind: &str, body: &str) -> Result<Decoded, DecodeError> {
    json(body.as_bytes(), &builtin(kind).unwrap(), &LEAVES)
}

const POD: &str = "io.k8s.api.core.v1.Pod";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn normal(kind: &str, body: &str) -> Value {
    decode(kind, body).unwrap().value
}

#[test]
fn structs_are_always_there_and_empties_never() {
    assert_eq!(
        normal(
            POD,
            r#"{"metadata":{"creationTimestamp":null,"labels":{}},"spec":{"containers":[{"name":"c","env":[],"ports":null,"tty":false}],"hostNetwork":false}}"#
        ),
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}})
    );
    assert_eq!(
        normal(DEPLOYMENT, r#"{"spec":{"replicas":0}}"#),
        json!({
            "metadata": {},
            "spec": {"replicas": 0, "selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
            "status": {},
        })
    );
    assert_eq!(normal(CONFIG_MAP, "null"), json!({"metadata": {}}));
    assert_eq!(
        normal("io.k8s.api.core.v1.Service", r#"{"spec":{"ports":[{"port":80}]}}"#),
        json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}})
    );
}

#[test]
fn leaves_are_canonical() {
    assert_eq!(
        normal(
            POD,
            r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]}}"#
        )["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
    assert_eq!(
        normal("io.k8s.api.core.v1.Secret", r#"{"data":{"a":"aGk\n=","b":null}}"#)["data"],
        json!({"a": "aGk=", "b": null})
    );
    assert_eq!(
        normal(CONFIG_MAP, r#"{"metadata":{"creationTimestamp":"2020-01-01T01:00:00.5+01:00"}}"#)["metadata"]
            ["creationTimestamp"],
        "2020-01-01T00:00:00Z"
    );
    assert_eq!(normal(CONFIG_MAP, r#"{"data":{"a":null}}"#)["data"], json!({"a": ""}));
}

#[test]
fn unknown_and_duplicate_fields_are_named() {
    let decoded = decode(
        CONFIG_MAP,
        r#"{"bogus":1,"metadata":{"bogusMeta":1},"data":{"a":"1"},"data":{"a":"1","a":"2"}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.strict_error().unwrap(),
        "strict decoding error: duplicate field \"data\", duplicate field \"data.a\", unknown field \"bogus\", unknown field \"metadata.bogusMeta\""
    );
    assert_eq!(decoded.value, json!({"metadata": {}, "data": {"a": "2"}}));
    let decoded =
        decode(DEPLOYMENT, r#"{"spec":{"template":{"spec":{"containers":[{"imagee":"x"}]}}}}"#)
            .unwrap();
    assert_eq!(decoded.issues, ["unknown field \"spec.template.spec.containers[0].imagee\""]);
    assert_eq!(
        decode(POD, r#"{"spec":{"restartpolicy":"x"}}"#).unwrap().issues,
        ["unknown field \"spec.restartpolicy\""]
    );
}

#[test]
fn type_errors_as_recorded() {
    for (kind, body, wanted) in [
        (
            CONFIG_MAP,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"labels":[]}}"#,
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            POD,
            r#"{"spec":{"containers":[{"ports":[{"containerPort":"x"}]}]}}"#,
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            POD,
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            POD,
            r#"{"spec":"x"}"#,
            "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            POD,
            r#"{"spec":{"hostNetwork":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "io.k8s.api.core.v1.Secret",
            r#"{"data":{"a":"!"}}"#,
            "illegal base64 data at input byte 0",
        ),
        (POD, "[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            "io.k8s.api.core.v1.PersistentVolume",
            r#"{"spec":{"capacity":{"storage":"x"}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "io.k8s.api.coordination.v1.Lease",
            r#"{"spec":{"renewTime":"yesterday"}}"#,
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"yesterday\" as \"2006\"",
        ),
    ] {
        assert_eq!(decode(kind, body).unwrap_err().to_string(), wanted, "{body}");
    }
}

#[test]
fn syntax_errors_are_gos() {
    for (body, wanted) in [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("{}x", "invalid character 'x' after top-level value"),
        ("xyz", "invalid character 'x' looking for beginning of value"),
        ("{/*a*/}", "invalid character '/' looking for beginning of object key string"),
        (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
    ] {
        assert_eq!(untyped(body.as_bytes()).unwrap_err().to_string(), wanted, "{body}");
    }
    let deep = "[".repeat(10_000);
    assert!(untyped(deep.as_bytes()).is_err());
}

#[test]
fn crd_schemas_nest() {
    let kind = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let decoded = decode(kind, r#"{"type":"object","properties":{"a":{"additionalProperties":{"type":"string","odd":1},"items":[{"type":"x"}],"default":{"q":1}}}}"#).unwrap();
    assert_eq!(decoded.issues, ["unknown field \"properties.a.additionalProperties.odd\""]);
    assert_eq!(
        decoded.value,
        json!({"type": "object", "properties": {"a": {"additionalProperties": {"type": "string"}, "items": [{"type": "x"}], "default": {"q": 1}}}})
    );
}

fn widget() -> Schema {
    custom(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "mode": {"type": "string", "nullable": true, "default": "x"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "b"}}}},
        }}}}),
        false,
    )
}

#[test]
fn custom_resources_are_pruned_but_not_type_checked() {
    let body = json!({
        "apiVersion": "g/v1", "kind": "Widget",
        "metadata": {"name": "a", "bogus": 1, "creationTimestamp": null},
        "spec": {"size": "many", "odd": 1, "free": {"any": {"thing": null}}, "list": 7},
        "extra": 1,
    });
    let decoded = value(body, &widget(), &LEAVES).unwrap();
    assert_eq!(
        decoded.issues,
        [
            "unknown field \"extra\"",
            "unknown field \"metadata.bogus\"",
            "unknown field \"spec.odd\""
        ]
    );
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "g/v1", "kind": "Widget", "metadata": {"name": "a"},
            "spec": {"size": "many", "free": {"any": {"thing": null}}, "list": 7},
        })
    );
    let wrong = json!({"metadata": {"labels": {"a": 1}}});
    assert_eq!(
        value(wrong, &widget(), &LEAVES).unwrap_err().to_string(),
        "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
    );
}

#[test]
fn defaults_of_both_sorts() {
    let mut object = json!({"spec": {"size": null, "mode": null, "list": [{}, {"a": "c"}]}});
    defaults(&mut object, &widget());
    assert_eq!(
        object,
        json!({"spec": {"size": 3, "mode": null, "list": [{"a": "b"}, {"a": "c"}]}})
    );
    let mut pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 1}]}]}});
    defaults(&mut pod, &builtin(POD).unwrap());
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
}

#[test]
fn after_a_strategic_merge_the_converter_speaks() {
    let error = decode(POD, r#"{"spec":{"containers":"x"}}"#).unwrap_err();
    assert_eq!(error.restore_text(), "cannot restore slice from string");
}

#[test]
fn nulls_and_numbers_of_custom_resources() {
    let schema = custom(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "code": {"type": "string"},
            "maybe": {"type": "string", "nullable": true},
            "size": {"type": "integer"},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
        }}}}),
        false,
    );
    let body = r#"{"spec":{"code":null,"maybe":null,"size":3.0,"map":{"a":null,"b":1.5},"free":{"x":[2.0,null]}}}"#;
    let mut object = json(body.as_bytes(), &schema, &LEAVES).unwrap().value;
    defaults(&mut object, &schema);
    assert_eq!(
        object["spec"],
        json!({"maybe": null, "size": 3, "map": {"b": 1.5}, "free": {"x": [2, null]}})
    );
}
