use super::*;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources: [{group: \"\", resources: [endpoints, services, services/status]}]
- level: None
  userGroups: [system:authenticated]
  nonResourceURLs: ['/api*', /version]
- level: Request
  resources: [{group: \"\", resources: [configmaps], resourceNames: [one]}]
  namespaces: [kube-system]
  omitManagedFields: false
- level: Metadata
  resources: [{group: \"\", resources: [secrets, 'pods/*', '*/scale']}]
  omitStages: [ResponseStarted]
- level: RequestResponse
  resources: [{group: apps}]
- level: Metadata
  verbs: [delete]
";

fn of<'a>(verb: &'a str, resource: &'a str, subresource: &'a str) -> Attributes<'a> {
    Attributes { verb, resource, subresource, namespace: "a", ..Attributes::default() }
}

fn level(user: &User, request: &Attributes<'_>) -> Level {
    Policy::parse(POLICY).unwrap().verdict(user, request).level
}

#[test]
fn the_first_rule_that_fits_decides() {
    let proxy = User::authenticated("system:kube-proxy", &[]);
    let ann = User::authenticated("ann", &[]);
    for (user, request, expected) in [
        (&proxy, of("watch", "endpoints", ""), Level::None),
        (&proxy, of("watch", "services", "status"), Level::None),
        (&proxy, of("delete", "endpoints", ""), Level::Metadata),
        (&ann, of("watch", "endpoints", ""), Level::None),
        (&ann, of("get", "secrets", ""), Level::Metadata),
        (&ann, of("get", "secrets", "status"), Level::None),
        (&ann, of("get", "pods", ""), Level::Metadata),
        (&ann, of("create", "pods", "exec"), Level::Metadata),
        (&ann, of("update", "replicationcontrollers", "scale"), Level::Metadata),
        (
            &ann,
            Attributes { group: "apps", ..of("get", "deployments", "") },
            Level::RequestResponse,
        ),
        (&ann, Attributes { group: "batch", ..of("get", "jobs", "") }, Level::None),
    ] {
        assert_eq!(level(user, &request), expected, "{} {request:?}", user.name);
    }
    for (path, expected) in [("/apis/x", Level::None), ("/version", Level::None)] {
        let request = Attributes { verb: "get", path, ..Attributes::default() };
        assert_eq!(level(&ann, &request), expected, "{path}");
        let request = Attributes { verb: "delete", path, ..Attributes::default() };
        assert_eq!(level(&User::anonymous(), &request), Level::Metadata, "{path}");
    }
}

#[test]
fn names_and_namespaces_narrow_a_rule() {
    let ann = User::authenticated("ann", &[]);
    let one = Attributes { namespace: "kube-system", name: "one", ..of("get", "configmaps", "") };
    assert_eq!(level(&ann, &one), Level::Request);
    assert_eq!(level(&ann, &Attributes { name: "two", ..one.clone() }), Level::None);
    assert_eq!(level(&ann, &Attributes { namespace: "a", ..one }), Level::None);
}

#[test]
fn stages_add_up_and_managed_fields_are_the_rules_choice() {
    let policy = Policy::parse(POLICY).unwrap();
    let ann = User::authenticated("ann", &[]);
    let secret = policy.verdict(&ann, &of("get", "secrets", ""));
    assert_eq!(secret.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
    assert!(secret.omit_managed_fields);
    let one = Attributes { namespace: "kube-system", name: "one", ..of("get", "configmaps", "") };
    assert!(!policy.verdict(&ann, &one).omit_managed_fields);
}

#[test]
fn bad_policies_name_the_field() {
    for (from, to, said) in [
        ("kind: Policy", "kind: Polity", "kind: must be Policy"),
        ("level: Request\n", "level: Loud\n", "Loud"),
        ("'/api*'", "'api*'", "rules[1].nonResourceURLs[0]: must begin"),
        ("'/api*'", "'/a*i*'", "rules[1].nonResourceURLs[0]: must begin"),
        ("group: apps", "group: apps/v1", "rules[4].resources[0].group: must be a group"),
        ("resources: [configmaps], ", "", "resourceNames: using resourceNames requires"),
        ("namespaces: [kube", "nonResourceURLs: [/x]\n  namespaces: [kube", "both regular"),
        ("verbs: [delete]", "verb: [delete]", "verb"),
    ] {
        let bad = POLICY.replacen(from, to, 1);
        assert_ne!(bad, POLICY, "{from}");
        let error = Policy::parse(&bad).unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} is not in {error:?}");
    }
    let empty = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []";
    assert!(Policy::parse(empty).unwrap_err().to_string().contains("at least one rule"));
}
