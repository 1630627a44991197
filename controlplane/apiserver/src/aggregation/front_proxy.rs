//! How aggregated servers know that it is the API server that asks, and for whom: a client
//! certificate of an authority of its own, which they find in the config map
//! `kube-system/extension-apiserver-authentication`, and headers with the user.
//!
//! The authority is kept in a Secret, so that every API server of a cluster uses the same one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use objects::{ApiError, ObjectExt};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::inside;
use crate::identity::User;
use crate::server::Server;

/// The name in the client certificate: the only one that is allowed to speak for others.
const CLIENT_NAME: &str = "front-proxy-client";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const SECRET: &str = "front-proxy";
const CONFIG_MAP: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// The client certificate that aggregated servers are shown.
#[derive(Debug)]
pub(super) struct FrontProxy {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Makes the authority if there is none yet, and publishes it.
///
/// # Errors
/// What kept it from being stored or read.
pub(super) async fn prepare(server: &Arc<Server>) -> Result<FrontProxy, ApiError> {
    let path = format!("{SECRETS}/{SECRET}");
    let secret = match inside::request(server, Method::GET, &path, None).await {
        Ok(secret) => secret,
        Err(error) if error.code == 404 => {
            let made = made()?;
            match inside::request(server, Method::POST, SECRETS, Some(&made)).await {
                // Another server was faster.
                Err(error) if error.code == 409 => {
                    inside::request(server, Method::GET, &path, None).await?
                }
                made => made?,
            }
        }
        Err(error) => return Err(error),
    };
    let part = |name: &str| {
        let bytes = STANDARD.decode(secret.str_at(&["data", name]));
        let bad = |why: String| ApiError::internal(format!("{name} of Secret {SECRET}: {why}"));
        String::from_utf8(bytes.map_err(|error| bad(error.to_string()))?)
            .map_err(|error| bad(error.to_string()))
    };
    let (ca, certificate, key) = (part("ca.crt")?, part("tls.crt")?, part("tls.key")?);
    publish(server, &ca).await?;
    let bad = |error: rustls_pki_types::pem::Error| {
        ApiError::internal(format!("Secret {SECRET}: {error}"))
    };
    Ok(FrontProxy {
        chain: vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(bad)?],
        key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(bad)?,
    })
}

/// A new authority and its only certificate, as the Secret that keeps them.
fn made() -> Result<Value, ApiError> {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let failed = |error: rcgen::Error| ApiError::internal(format!("front proxy keys: {error}"));
    let ca_key = KeyPair::generate().map_err(failed)?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "front-proxy-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, CLIENT_NAME);
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(ca, ca_key);
    let certificate = client.signed_by(&key, &issuer).map_err(failed)?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": "kube-system"},
        "data": {
            "ca.crt": STANDARD.encode(ca_certificate.pem()),
            "tls.crt": STANDARD.encode(certificate.pem()),
            "tls.key": STANDARD.encode(key.serialize_pem()),
        },
    }))
}

/// Tells aggregated servers whom to believe. Values are JSON within text, as upstream writes them.
async fn publish(server: &Arc<Server>, ca: &str) -> Result<(), ApiError> {
    let data = json!({"data": {
        "client-ca-file": server.config.cluster_ca_pem,
        "requestheader-allowed-names": json!([CLIENT_NAME]).to_string(),
        "requestheader-client-ca-file": ca,
        "requestheader-extra-headers-prefix": json!(["X-Remote-Extra-"]).to_string(),
        "requestheader-group-headers": json!(["X-Remote-Group"]).to_string(),
        "requestheader-uid-headers": json!(["X-Remote-Uid"]).to_string(),
        "requestheader-username-headers": json!(["X-Remote-User"]).to_string(),
    }});
    inside::request(server, Method::PATCH, CONFIG_MAP, Some(&data)).await.map(drop)
}

/// Says for whom a request is made; what the client itself said of that is taken off. PURE.
///
/// Source: client-go `transport.SetAuthProxyHeaders`.
pub(super) fn introduce(headers: &mut HeaderMap, user: &User) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .chain([&http::header::AUTHORIZATION])
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::try_from(name.to_ascii_lowercase());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        // Hyphens, dots and underscores are fit for header names.
        let key = key.to_string().replace("%2D", "-").replace("%2E", ".").replace("%5F", "_");
        for value in values {
            add(&format!("{EXTRA_PREFIX}{key}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_say_who_they_are() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let mut user = User::authenticated("jane", &["devs"]);
        user.extra.insert("example.com/Key".into(), vec!["v".into()]);
        introduce(&mut headers, &user);
        let all: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_string()))
            .collect();
        let has = |name: &str, value: &str| all.contains(&(name.to_string(), value.to_string()));
        assert!(has("x-remote-user", "jane") && !has("x-remote-user", "root"), "{all:?}");
        assert!(has("x-remote-group", "devs") && has("x-remote-group", "system:authenticated"));
        assert!(has("x-remote-extra-example.com%2fkey", "v"), "{all:?}");
        assert!(!headers.contains_key("authorization") && headers.contains_key("accept"));
    }

    #[test]
    fn the_authority_is_made_with_its_certificate() {
        let secret = made().expect("keys");
        for part in ["ca.crt", "tls.crt", "tls.key"] {
            let pem = STANDARD.decode(secret["data"][part].as_str().expect("text"));
            assert!(pem.expect("base64").starts_with(b"-----BEGIN "), "{part}");
        }
    }
}
