use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::*;

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = FieldErrors::default();
    check(&Node::compile(schema), value, &Place::root(), &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn values_that_do_not_fit_are_told_as_upstream_does() {
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10},
            "code": {"type": "string", "pattern": "^[a-z]{2,4}$", "maxLength": 4},
            "port": {"x-kubernetes-int-or-string": true},
            "ip": {"type": "string", "format": "ipv4"},
            "num": {"type": "number", "multipleOf": 0.5},
            "color": {"type": "string", "enum": ["red", "green"]},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}},
            "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        },
    }}});
    let cases = [
        (json!({"size": 3, "code": "ab", "port": "x", "ip": "1.2.3.4", "num": 1.5}), vec![]),
        (
            json!({"size": 0}),
            vec![
                "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
            ],
        ),
        (
            json!({"size": 3.5}),
            vec![
                "spec.size: Invalid value: \"number\": spec.size in body must be of type integer: \"number\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.size",
            ],
        ),
        (json!({}), vec!["spec.size: Required value"]),
        (
            json!({"size": 1, "code": "ABC"}),
            vec![
                "spec.code: Invalid value: \"ABC\": spec.code in body should match '^[a-z]{2,4}$'",
            ],
        ),
        (
            json!({"size": 1, "code": "abcde"}),
            vec!["spec.code: Too long: may not be more than 4 bytes"],
        ),
        (
            json!({"size": 1, "port": 1.5}),
            vec![
                "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
            ],
        ),
        (
            json!({"size": 1, "ip": "1.2.3"}),
            vec![
                "spec.ip: Invalid value: \"1.2.3\": spec.ip in body must be of type ipv4: \"1.2.3\"",
            ],
        ),
        (
            json!({"size": 1, "num": 1.3}),
            vec!["spec.num: Invalid value: 1.3: spec.num in body should be a multiple of 0.5"],
        ),
        (
            json!({"size": 1, "color": "blue"}),
            vec!["spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\""],
        ),
        (
            json!({"size": 1, "m": {"a": "x"}}),
            vec![
                "spec.m.a: Invalid value: \"string\": spec.m.a in body must be of type integer: \"string\"",
            ],
        ),
        (
            json!({"size": 1, "one": {"a": "x", "b": "y"}}),
            vec![
                "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"size": 1, "one": {}}),
            vec![
                "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found none valid",
                "spec.one.a: Required value",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(errors(&schema, &json!({"spec": spec})), expected, "{spec}");
    }
}

#[test]
fn what_has_not_changed_may_stay() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
    }});
    let node = Node::compile(&schema);
    let old = json!({"a": "long", "b": "x"});
    let mut found = FieldErrors::default();
    check_update(&node, &json!({"a": "long", "b": "y"}), Some(&old), &Place::root(), &mut found);
    assert!(found.is_empty());
    check_update(&node, &json!({"a": "longer", "b": "y"}), Some(&old), &Place::root(), &mut found);
    assert_eq!(found.0.len(), 1);
}

#[test]
fn keys_of_lists_are_there_once() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object"}},
    }});
    let mut found = FieldErrors::default();
    let value = json!({"set": ["a", "b", "a", "a"], "map": [{"name": "a"}, {"name": "a"}]});
    check_lists(&Node::compile(&schema), &value, &FieldPath::root(), &mut found);
    let found: Vec<String> = found.0.iter().map(ToString::to_string).collect();
    let expected = ["map[1]: Duplicate value: {\"name\":\"a\"}", "set[2]: Duplicate value: \"a\""];
    assert_eq!(found, expected);
}
