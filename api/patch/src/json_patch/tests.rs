use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tests::any_json;

fn patched(target: Value, patch: Value) -> Result<Value, PatchError> {
    let (operations, _) = parse(patch.to_string().as_bytes())?;
    apply(target, &operations)
}

#[test]
fn operations() {
    let object = || json!({"data": {"a": "1", "b": "2"}, "a/b": 1, "list": [1, 2]});
    for (patch, path, wanted) in [
        (json!([{"op": "add", "path": "/data/a", "value": "9"}]), "/data/a", json!("9")),
        (
            json!([{"op": "move", "from": "/data/a", "path": "/data/c"}]),
            "/data",
            json!({"b": "2", "c": "1"}),
        ),
        (json!([{"op": "copy", "from": "/data", "path": "/d"}]), "/d/b", json!("2")),
        (json!([{"op": "replace", "path": "/a~1b", "value": 2}]), "/a~1b", json!(2)),
        (json!([{"op": "add", "path": "/list/0", "value": 0}]), "/list", json!([0, 1, 2])),
        (json!([{"op": "add", "path": "/list/-", "value": 3}]), "/list", json!([1, 2, 3])),
        (json!([{"op": "add", "path": "/list/-1", "value": 3}]), "/list", json!([1, 2, 3])),
        (json!([{"op": "remove", "path": "/list/-1"}]), "/list", json!([1])),
        (json!([{"op": "test", "path": "/data/q", "value": null}]), "/list", json!([1, 2])),
        (json!([{"op": "add", "path": "data/x", "value": 1}]), "/x", json!(1)),
        (json!([{"op": "replace", "path": "", "value": {}}]), "", json!({})),
    ] {
        let result = patched(object(), patch.clone()).unwrap();
        assert_eq!(result.pointer(path), Some(&wanted), "{patch}");
    }
}

#[test]
fn what_does_not_apply_is_rejected_without_saying_why() {
    for patch in [
        json!([{"op": "remove", "path": "/data/zz"}]),
        json!([{"op": "test", "path": "/data/a", "value": "7"}]),
        json!([{"op": "test", "path": "/data/q", "value": "7"}]),
        json!([{"op": "frob", "path": "/data/a"}]),
        json!([{"op": "replace", "path": "/data/q", "value": 1}]),
        json!([{"op": "add", "path": "/none/q", "value": 1}]),
        json!([{"op": "add", "path": "/data/a/b", "value": 1}]),
        json!([{"op": "add", "path": "/data/x", "value": 1}, {"op": "remove", "path": "/none"}]),
    ] {
        let error = patched(json!({"data": {"a": "1"}}), patch.clone()).unwrap_err();
        assert!(matches!(error, PatchError::Rejected(_)), "{patch}");
        assert_eq!(
            error.to_string(),
            "the server rejected our request due to an error in our request"
        );
    }
}

#[test]
fn malformed_patches_as_recorded() {
    for (patch, wanted) in [
        (
            r#"{"op":"add"}"#,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        ("[{", "error decoding patch: unexpected end of JSON input"),
    ] {
        assert_eq!(
            parse(patch.as_bytes()).unwrap_err(),
            PatchError::BadRequest(wanted.to_string())
        );
    }
    let many = format!("[{}{{}}]", "{},".repeat(OPERATIONS_MAX));
    assert!(matches!(parse(many.as_bytes()), Err(PatchError::TooLarge(_))));
}

proptest! {
    #[test]
    fn adding_and_removing_again_changes_nothing(target in any_json(), value in any_json()) {
        prop_assume!(target.get("new").is_none() && target.is_object());
        let patch = json!([
            {"op": "add", "path": "/new", "value": value},
            {"op": "test", "path": "/new", "value": value},
            {"op": "remove", "path": "/new"},
        ]);
        prop_assert_eq!(patched(target.clone(), patch).unwrap(), target);
    }
}
