use objects::FieldErrors;
use serde_json::{Value, json};

use super::*;
use crate::kind::Behaviour;

fn faults(behaviour: &dyn Behaviour, mut object: Value) -> Vec<String> {
    behaviour.default(&mut object);
    let mut errors = FieldErrors::default();
    behaviour.validate(&object, &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

fn webhook(change: impl FnOnce(&mut Value)) -> Value {
    let mut webhook = json!({
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/a/b/"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"]}],
    });
    change(&mut webhook);
    json!({"metadata": {"name": "x"}, "webhooks": [webhook]})
}

#[test]
fn webhooks_are_completed_and_checked() {
    let behaviour = WebhookConfiguration(Way::Mutating);
    let mut good = webhook(|_| {});
    behaviour.default(&mut good);
    let made = &good["webhooks"][0];
    assert_eq!(made["timeoutSeconds"], 10);
    assert_eq!(made["reinvocationPolicy"], "Never");
    assert_eq!(made["rules"][0]["scope"], "*");
    assert_eq!(made["clientConfig"]["service"]["port"], 443);
    assert_eq!(faults(&behaviour, good), [""; 0]);
    let cases: [(&str, Value, &str); 8] = [
        ("/clientConfig/service/path", json!("a"), "must start with a '/'"),
        ("/clientConfig/service/path", json!("//"), "segment[0] may not be empty"),
        (
            "/clientConfig",
            json!({"url": "https://u@h/p?q#f"}),
            "query parameters are not permitted",
        ),
        ("/clientConfig", json!({}), "exactly one of url or service is required"),
        ("/rules/0/operations", json!(["*", "CREATE"]), "must not specify other operations"),
        ("/rules/0/resources", json!(["pods/*", "pods/log"]), "if 'pods/*' is present"),
        ("/admissionReviewVersions", json!(["v1", "v1"]), "duplicate version"),
        ("/rules/0/apiVersions", json!([]), "rules[0].apiVersions: Required value"),
    ];
    for (place, value, said) in cases {
        let bad = webhook(|webhook| *webhook.pointer_mut(place).unwrap() = value);
        let found = faults(&behaviour, bad);
        assert!(found.iter().any(|fault| fault.contains(said)), "{place}: {found:?}");
    }
}

#[test]
fn the_generation_goes_up_with_the_webhooks() {
    let mut new = webhook(|webhook| webhook["timeoutSeconds"] = json!(3));
    let mut old = webhook(|_| {});
    create(&mut old);
    update(&mut new, &old, "webhooks");
    assert_eq!(new["metadata"]["generation"], 2);
    let mut same = old.clone();
    update(&mut same, &old, "webhooks");
    assert_eq!(same["metadata"]["generation"], 1);
}

#[test]
fn policies_and_bindings_are_checked() {
    let policy = json!({"spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": ["pods"], "resourceNames": ["a", "a"]}]},
        "validations": [{"expression": " ", "reason": "Odd"}],
        "variables": [{"name": "1a", "expression": "1"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}, {"key": "k"}],
        "matchConditions": [{"name": "c"}],
    }});
    let found = faults(&Policy(Way::Validating), policy).join("\n");
    for said in [
        "resourceNames[1]: Duplicate value: \"a\"",
        "spec.validations[0].expression: Required value",
        "spec.validations[0].reason: Unsupported value: \"Odd\"",
        "spec.variables[0].name: Invalid value: \"1a\"",
        "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
        "spec.auditAnnotations[1].valueExpression: Required value",
        "spec.matchConditions[0].expression: Required value",
    ] {
        assert!(found.contains(said), "{said} is not in\n{found}");
    }
    let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Allow"}}});
    let found = faults(&PolicyBinding(Way::Validating), binding);
    assert_eq!(found, ["spec.paramRef.name: Forbidden: name and selector are mutually exclusive"]);
}
