//! Health, version, metrics and the list of paths.

use serde_json::json;

use crate::answer::{self, Answer};
use crate::query::Query;
use crate::server::Server;

/// What is checked. The names that monitoring looks for are upstream's; each is a part that this
/// server really has.
const CHECKS: [&str; 7] = [
    "ping",
    "log",
    "etcd",
    "informer-sync",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/bootstrap-controller",
];

/// `/healthz`, `/livez`, `/readyz`, and one check of them below.
pub(crate) fn answer(server: &Server, path: &str, query: &Query) -> Option<Answer> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or_default();
    let ready = endpoint == "readyz";
    let mut checks: Vec<&str> = CHECKS.to_vec();
    if ready {
        checks.push("shutdown");
    } else {
        checks.retain(|check| *check != "informer-sync");
    }
    if let Some(one) = parts.next() {
        if !checks.contains(&one) {
            return None;
        }
        checks = vec![one];
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = false;
    for check in checks {
        if excluded.contains(&check) {
            text.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        if check == "shutdown" && server.shutdown.is_cancelled() {
            failed = true;
            text.push_str("[-]shutdown failed: the server is shutting down\n");
        } else {
            text.push_str(&format!("[+]{check} ok\n"));
        }
    }
    let verbose = query.get("verbose").is_some();
    Some(match (failed, verbose) {
        (true, _) => answer::text(500, format!("{text}{endpoint} check failed\n")),
        (false, true) => answer::text(200, format!("{text}{endpoint} check passed\n")),
        (false, false) => answer::text(200, "ok"),
    })
}

/// `/version`.
pub(crate) fn version(server: &Server, path: &str) -> Option<Answer> {
    if path != "/version" {
        return None;
    }
    let platform = format!(
        "linux/{}",
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    );
    let body = json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": format!("v1.36.2+{}", server.config.build),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": platform,
    });
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    Some(answer::bytes(200, "application/json", text))
}

/// `/metrics`.
pub(crate) fn metrics(server: &Server) -> Answer {
    let text = server.metrics.text(&server.store) + &server.flow.metrics();
    answer::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// `/`: the paths there are.
pub(crate) fn paths(server: &Server) -> Answer {
    let registry = server.registry.load();
    let mut paths: Vec<String> = vec![
        "/.well-known/openid-configuration".into(),
        "/api".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for group in registry.groups() {
        let base = match group.name.is_empty() {
            true => "/api".to_string(),
            false => {
                paths.push(format!("/apis/{}", group.name));
                format!("/apis/{}", group.name)
            }
        };
        paths.extend(group.versions.iter().map(|version| format!("{base}/{}", version.name)));
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{endpoint}"));
        paths.extend(CHECKS.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    for path in
        ["/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/version"]
    {
        paths.push(path.into());
    }
    paths.sort();
    let body = json!({"paths": paths});
    answer::bytes(200, "application/json", body.to_string())
}
