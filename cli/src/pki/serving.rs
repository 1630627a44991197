//! A serving certificate that is exchanged while it serves.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::Identity;

/// The certificate that new connections are answered with.
#[derive(Debug)]
pub(crate) struct Serving(ArcSwap<CertifiedKey>);

impl Serving {
    /// Starts with this certificate.
    pub(crate) fn new(identity: &Identity) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(identity)?))))
    }

    /// Answers new connections with another one.
    pub(crate) fn exchange(&self, identity: &Identity) -> Result<()> {
        self.0.store(Arc::new(certified(identity)?));
        Ok(())
    }

    /// TLS settings of a server that asks for client certificates of `authority_pem`; whether one
    /// is needed is `client_required`.
    pub(crate) fn tls(
        self: &Arc<Self>,
        authority_pem: &str,
        client_required: bool,
    ) -> Result<ServerConfig> {
        let mut verifier = WebPkiClientVerifier::builder(Arc::new(roots(authority_pem)?));
        if !client_required {
            verifier = verifier.allow_unauthenticated();
        }
        let verifier = verifier.build().context("trust the cluster's authority")?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .context("parse certificates")
}

/// A store that trusts the certificates of a PEM text.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).context("trust a certificate")?;
    }
    Ok(store)
}

fn certified(identity: &Identity) -> Result<CertifiedKey> {
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).context("parse a key")?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).context("use a key")?;
    Ok(CertifiedKey::new(certificates(&identity.certificate_pem)?, key))
}
