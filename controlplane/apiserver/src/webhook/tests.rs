use std::time::Duration;

use serde_json::json;

use super::target::Place;
use super::*;

#[test]
fn targets_are_read() {
    let service = json!({"service": {"namespace": "ns", "name": "hook", "path": "/a/b"}});
    let target = Target::from_client_config(&service).expect("a target");
    assert_eq!(target.server_name(), "hook.ns.svc");
    assert_eq!(target.authority(), "hook.ns.svc:443");
    assert_eq!(target.path_with(Duration::from_secs(10)), "/a/b?timeout=10s");
    let url = json!({"url": "https://[::1]:8443/x", "caBundle": "AAAA"});
    let target = Target::from_client_config(&url).expect("a target");
    assert_eq!(target.place, Place::Host { host: "::1".into(), port: 8443 });
    assert_eq!(target.authority(), "[::1]:8443");
    for wrong in [json!({}), json!({"url": "http://a"}), json!({"url": "x", "caBundle": "?"})] {
        assert!(Target::from_client_config(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn only_ready_endpoints_at_the_port_of_the_name_are_called() {
    let slice = json!({
        "ports": [{"name": "metrics", "port": 1}, {"name": "https", "port": 8443}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"]},
        ],
    });
    let found: Vec<String> =
        resolve::endpoints(&slice, "https").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:8443", "10.0.0.3:8443"]);
    assert!(resolve::endpoints(&slice, "other").is_empty());
}

#[test]
fn failures_say_what_the_server_said() {
    let text = |code: u16, body: &str| {
        let status = StatusCode::from_u16(code).expect("a status");
        judge(status, body.as_bytes()).expect_err("a failure").to_string()
    };
    assert_eq!(text(404, "x"), "the server could not find the requested resource");
    assert_eq!(text(403, r#"{"kind":"Status","message":"no"}"#), "no");
    assert!(text(200, "x").starts_with("couldn't get version/kind; json parse error: "));
    assert!(text(500, "oh").contains(r#"("oh")"#));
    assert_eq!(judge(StatusCode::OK, b"{}").expect("an answer"), json!({}));
}
