//! Who a client is by its certificate, and whether it may use this server. PURE.
//!
//! TLS has checked that the certificate is of the cluster's authority. Upstream then asks the API
//! server by a SubjectAccessReview; here the names in the configuration decide, so that a kubelet
//! without an API server still serves.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ServerConfig;

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Full,
    /// Nothing: it has not said who it is.
    Unknown,
    /// Nothing: it is somebody else, of this name.
    Refused(String),
}

/// Judges the certificates that a client has shown, its own first.
pub(super) fn judge(certificates: Option<&[CertificateDer<'_>]>, config: &ServerConfig) -> Access {
    let Some(first) = certificates.and_then(|certificates| certificates.first()) else {
        return Access::Unknown;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return Access::Unknown };
    let subject = certificate.subject();
    let names: Vec<&str> =
        subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    let mut organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    let is_listed = |listed: &[String], name: &str| listed.iter().any(|known| known == name);
    if names.iter().any(|name| is_listed(&config.client_names, name))
        || organizations.any(|name| is_listed(&config.client_organizations, name))
    {
        Access::Full
    } else {
        Access::Refused(names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;
    use crate::server::tests::tls;

    fn certificate(name: Option<&str>, organizations: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        if let Some(name) = name {
            subject.push(DnType::CommonName, name);
        }
        for organization in organizations {
            subject.push(DnType::OrganizationName, *organization);
        }
        params.distinguished_name = subject;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn only_those_who_are_named_may_come_in() {
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Arc::clone(&tls().server),
            client_names: vec!["api".into()],
            client_organizations: vec!["masters".into()],
        };
        let refused = |name: &str| Access::Refused(name.to_owned());
        for (name, organizations, wanted) in [
            (Some("api"), &[][..], Access::Full),
            (Some("api"), &["nodes"], Access::Full),
            (Some("bob"), &["masters"], Access::Full),
            (None, &["masters"], Access::Full),
            (Some("bob"), &["nodes"], refused("bob")),
            // A name is not an organization, nor the other way round.
            (Some("masters"), &["api"], refused("masters")),
            (Some("API"), &[], refused("API")),
            (Some("api "), &[], refused("api ")),
            (None, &[], refused("")),
        ] {
            let shown = [certificate(name, organizations)];
            assert_eq!(judge(Some(&shown), &config), wanted, "{name:?} {organizations:?}");
        }
        assert_eq!(judge(None, &config), Access::Unknown);
        assert_eq!(judge(Some(&[]), &config), Access::Unknown);
        let nonsense = [CertificateDer::from(vec![1, 2, 3])];
        assert_eq!(judge(Some(&nonsense), &config), Access::Unknown);
        // Only the client's own certificate counts, not those that come with it.
        let shown = [certificate(Some("bob"), &[]), certificate(Some("api"), &["masters"])];
        assert_eq!(judge(Some(&shown), &config), refused("bob"));
        // Nobody is named: nobody may.
        let closed = ServerConfig { client_names: vec![], client_organizations: vec![], ..config };
        assert_eq!(judge(Some(&[certificate(None, &[""])]), &closed), refused(""));
    }
}
