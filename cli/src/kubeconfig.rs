//! kubeconfig files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::pki::Identity;

/// A kubeconfig for one user of one cluster, with everything inside. JSON is YAML.
pub(crate) fn text(server: &str, authority_pem: &str, user: &str, identity: &Identity) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "skeg", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority_pem),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem),
        }}],
        "contexts": [{"name": "skeg", "context": {"cluster": "skeg", "user": user}}],
        "current-context": "skeg",
    });
    format!("{config:#}\n")
}
