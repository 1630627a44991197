use serde_json::json;

use super::*;

fn index() -> Rbac {
    let rbac = Rbac::default();
    let group = "rbac.authorization.k8s.io";
    rbac.apply(
        &format!("{group}/roles/a/reader"),
        Some(&json!({"rules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["only"]},
            {"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/scale"]},
        ]})),
    );
    rbac.apply(
        &format!("{group}/rolebindings/a/b"),
        Some(&json!({
            "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "s"}],
        })),
    );
    rbac.apply(
        &format!("{group}/clusterroles//health"),
        Some(&json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez/*"]}]})),
    );
    rbac.apply(
        &format!("{group}/clusterrolebindings//h"),
        Some(&json!({
            "roleRef": {"kind": "ClusterRole", "name": "health"},
            "subjects": [{"kind": "Group", "name": "system:authenticated"}],
        })),
    );
    rbac
}

fn pods<'a>(verb: &'a str, namespace: &'a str) -> Attributes<'a> {
    Attributes { verb, namespace, resource: "pods", ..Attributes::default() }
}

#[test]
fn rules_match() {
    let rbac = index();
    let jane = User::authenticated("jane", &[]);
    let config = |name| Attributes {
        verb: "delete",
        namespace: "a",
        resource: "configmaps",
        name,
        ..Attributes::default()
    };
    let scale = Attributes {
        verb: "update",
        group: "apps",
        namespace: "a",
        resource: "deployments",
        subresource: "scale",
        ..Attributes::default()
    };
    let path = |path| Attributes { verb: "get", path, ..Attributes::default() };
    let log = Attributes { subresource: "log", ..pods("get", "a") };
    let cases = [
        (pods("get", "a"), true),
        (pods("get", "b"), false),
        (pods("delete", "a"), false),
        (log, false),
        (config("only"), true),
        (config("other"), false),
        (config(""), false),
        (scale, true),
        (path("/healthz"), true),
        (path("/livez/ping"), true),
        (path("/metrics"), false),
    ];
    for (want, allowed) in cases {
        assert_eq!(rbac.decide(&jane, &want).allowed, allowed, "{want:?}");
    }
}

#[test]
fn reasons_name_the_binding() {
    let rbac = index();
    let jane = User::authenticated("jane", &[]);
    let decision = rbac.decide(&jane, &pods("get", "a"));
    assert_eq!(
        decision.reason,
        "RBAC: allowed by RoleBinding \"b/a\" of Role \"reader\" to User \"jane\""
    );
    let account = User::authenticated("system:serviceaccount:a:s", &[]);
    let decision = rbac.decide(&account, &pods("get", "a"));
    assert_eq!(
        decision.reason,
        "RBAC: allowed by RoleBinding \"b/a\" of Role \"reader\" to ServiceAccount \"s/a\""
    );
}

#[test]
fn what_is_gone_allows_nothing() {
    let rbac = index();
    let jane = User::authenticated("jane", &[]);
    rbac.apply("rbac.authorization.k8s.io/roles/a/reader", None);
    let decision = rbac.decide(&jane, &pods("get", "a"));
    assert!(!decision.allowed);
    assert_eq!(decision.reason, "RBAC: role.rbac.authorization.k8s.io \"reader\" not found");
    rbac.apply("rbac.authorization.k8s.io/rolebindings/a/b", None);
    assert_eq!(rbac.decide(&jane, &pods("get", "a")), Decision::default());
}
