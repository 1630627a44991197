use super::*;

fn texts(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

fn created(meta: &Value) -> Vec<String> {
    let mut errors = FieldErrors::default();
    let path = FieldPath::new("metadata");
    validate(meta, true, names::name_is_dns_subdomain, &path, &mut errors);
    texts(&errors)
}

fn updated(new: &Value, old: &Value) -> Vec<String> {
    let mut errors = FieldErrors::default();
    validate_update(new, old, &FieldPath::new("metadata"), &mut errors);
    texts(&errors)
}

#[test]
fn a_sound_object_passes() {
    let meta = json!({
        "name": "web.1", "namespace": "default", "labels": {"a/b": "c"},
        "annotations": {"X.Example.com/Y": "z"}, "finalizers": ["example.com/f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "y", "uid": "u"}],
    });
    assert_eq!(created(&meta), [""; 0]);
}

#[test]
fn names_and_namespaces() {
    assert_eq!(
        created(&json!({})),
        [
            "metadata.name: Required value: name or generateName is required",
            "metadata.namespace: Required value",
        ]
    );
    let mut errors = FieldErrors::default();
    let meta = json!({"name": "a%b", "namespace": "x"});
    let path = FieldPath::new("metadata");
    validate(&meta, false, names::name_is_path_segment, &path, &mut errors);
    assert_eq!(
        texts(&errors),
        [
            "metadata.name: Invalid value: \"a%b\": may not contain '%'",
            "metadata.namespace: Forbidden: not allowed on this type",
        ]
    );
}

#[test]
fn two_controllers_are_printed_as_recorded() {
    let meta = json!({
        "name": "a", "namespace": "b",
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "X", "name": "y", "uid": "u1", "controller": true},
            {"apiVersion": "v1", "kind": "X", "name": "z", "uid": "u2", "controller": true},
        ],
    });
    assert_eq!(
        created(&meta),
        [
            "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"kind\":\"X\",\"name\":\"y\",\"uid\":\"u1\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"X\",\"name\":\"z\",\"uid\":\"u2\",\"controller\":true}]: Only one reference can have Controller set to true. Found \"true\" in references for X/y and X/z"
        ]
    );
}

#[test]
fn annotations_have_a_limit() {
    let meta = json!({
        "name": "a", "namespace": "b", "annotations": {"k": "v".repeat(ANNOTATIONS_MAX)},
    });
    assert_eq!(
        created(&meta),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
}

#[test]
fn finalizers() {
    let meta = json!({
        "name": "a", "namespace": "b", "finalizers": ["orphan", "foregroundDeletion"],
    });
    assert_eq!(
        created(&meta),
        [
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set"
        ]
    );
    let old = json!({"name": "a", "deletionTimestamp": "2025-06-01T12:00:00Z"});
    let mut new = old.clone();
    new["resourceVersion"] = json!("1");
    new["finalizers"] = json!(["example.com/g"]);
    assert_eq!(
        updated(&new, &old),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/g\"}"
        ]
    );
    let mut errors = FieldErrors::default();
    validate_built_in_finalizers(&json!({"finalizers": ["x"]}), &FieldPath::new("m"), &mut errors);
    assert_eq!(
        texts(&errors),
        [
            "m.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"
        ]
    );
}

#[test]
fn what_an_update_may_not_change() {
    let old = json!({"name": "a", "uid": "u", "generation": 2});
    let new = json!({"name": "a", "uid": "zzz", "generation": 1});
    assert_eq!(
        updated(&new, &old),
        [
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.uid: Invalid value: \"zzz\": field is immutable",
        ]
    );
}

#[test]
fn field_managers() {
    let mut errors = FieldErrors::default();
    validate_field_manager("a\u{1}", &FieldPath::new("fieldManager"), &mut errors);
    assert_eq!(
        texts(&errors),
        ["fieldManager: Invalid value: \"a\\x01\": invalid character U+0001 (at position 1)"]
    );
}
