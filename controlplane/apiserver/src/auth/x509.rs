//! Users from client certificates: common name and organisations.

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::User;

/// The user that a verified client certificate names; `None` without a common name.
pub fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let groups: Vec<&str> =
        subject.iter_organization().filter_map(|part| part.as_str().ok()).collect();
    let mut user = User::authenticated(name, &groups);
    let hash = hex::encode(Sha256::digest(certificate));
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec![format!("X509SHA256={hash}")],
    );
    Some(user)
}
