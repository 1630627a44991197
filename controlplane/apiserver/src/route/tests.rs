use super::*;

fn read(method: Method, uri: &str) -> String {
    let info = parse(&method, &uri.parse().unwrap()).unwrap();
    match info.resource {
        None => format!("{} {}", info.verb.as_str(), info.path),
        Some(r) => format!(
            "{} g={} v={} ns={} r={} n={} s={} rest={}",
            info.verb.as_str(),
            r.group,
            r.version,
            r.namespace,
            r.resource,
            r.name,
            r.subresource,
            r.rest
        ),
    }
}

#[test]
fn paths() {
    let cases = [
        (Method::GET, "/api/v1/pods", "list g= v=v1 ns= r=pods n= s= rest="),
        (Method::GET, "/api/v1/pods?watch=1", "watch g= v=v1 ns= r=pods n= s= rest="),
        (Method::GET, "/api/v1/pods?watch=false", "list g= v=v1 ns= r=pods n= s= rest="),
        (Method::GET, "/api/v1/namespaces/a/pods/b/log", "get g= v=v1 ns=a r=pods n=b s=log rest="),
        (Method::GET, "/api/v1/namespaces/a", "get g= v=v1 ns=a r=namespaces n=a s= rest="),
        (
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            "update g= v=v1 ns=a r=namespaces n=a s=finalize rest=",
        ),
        (
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection g=apps v=v1 ns=a r=deployments n= s= rest=",
        ),
        (
            Method::POST,
            "/apis/apps/v1/namespaces/a/deployments",
            "create g=apps v=v1 ns=a r=deployments n= s= rest=",
        ),
        (
            Method::GET,
            "/api/v1/namespaces/a/services/http:b:80/proxy/x%20y/z/",
            "get g= v=v1 ns=a r=services n=http:b:80 s=proxy rest=/x y/z/",
        ),
        (Method::GET, "/api/v1/watch/namespaces/a/pods", "watch g= v=v1 ns=a r=pods n= s= rest="),
        (
            Method::GET,
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
            "get g=rbac.authorization.k8s.io v=v1 ns= r=clusterroles n=system:node s= rest=",
        ),
        (Method::GET, "/apis/apps/v1", "get /apis/apps/v1"),
        (Method::GET, "/apis/apps", "get /apis/apps"),
        (Method::GET, "/api", "get /api"),
        (Method::GET, "/healthz", "get /healthz"),
        (Method::POST, "/version", "post /version"),
    ];
    for (method, uri, want) in cases {
        assert_eq!(read(method, uri), want, "{uri}");
    }
}

#[test]
fn namespace_object_has_no_namespace_of_its_own() {
    let info = parse(&Method::GET, &"/api/v1/namespaces/a".parse().unwrap()).unwrap();
    let path = info.resource.unwrap();
    assert_eq!((path.object_namespace(), path.namespace.as_str()), ("", "a"));
}

#[test]
fn bad_encoding_is_refused() {
    assert!(parse(&Method::GET, &"/api/v1/pods/%ff".parse().unwrap()).is_none());
}
