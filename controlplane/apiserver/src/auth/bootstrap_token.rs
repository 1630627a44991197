//! Bootstrap tokens: `ID.SECRET`, kept as Secrets in kube-system, with which a node asks for its
//! first certificate.
//!
//! Source of behaviour: kubernetes `plugin/pkg/auth/authenticator/token/bootstrap`, v1.36.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::{ObjectExt, time};
use serde_json::Value;

use crate::encode;
use crate::identity::User;
use crate::server::Server;

/// The user of a token, if it is a valid bootstrap token.
pub fn authenticate(server: &Server, token: &str) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if id.len() != 6 || secret.len() != 16 || !plain(id) || !plain(secret) {
        return None;
    }
    let record = server.store.get(&format!("/secrets/kube-system/bootstrap-token-{id}"))?;
    let object = encode::parse(&record);
    let field = |name: &str| field(&object, name);
    let typed = object.str_at(&["type"]) == "bootstrap.kubernetes.io/token";
    let usable = field("usage-bootstrap-authentication") == "true";
    let matches = field("token-id") == id && same(&field("token-secret"), secret);
    if !typed || !usable || !matches || !object.deletion_timestamp().is_empty() {
        return None;
    }
    let expiration = field("expiration");
    if !expiration.is_empty() {
        let until = time::parse_time(&expiration).ok()?;
        if until <= jiff::Timestamp::now() {
            return None;
        }
    }
    let mut groups = vec!["system:bootstrappers".to_string()];
    groups.extend(
        field("auth-extra-groups").split(',').filter(|group| !group.is_empty()).map(str::to_string),
    );
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(User::authenticated(&format!("system:bootstrap:{id}"), &groups))
}

fn field(secret: &Value, name: &str) -> String {
    let decoded = STANDARD.decode(secret.str_at(&["data", name])).unwrap_or_default();
    String::from_utf8(decoded).unwrap_or_default()
}

/// Compares in time that does not depend on where the texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes().zip(b.bytes()).fold(0_u8, |differing, (a, b)| differing | (a ^ b)) == 0
}
