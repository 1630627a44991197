//! Join tokens: a bootstrap token that also pins the cluster's authority.
//!
//! `skeg1.HASH.ID.SECRET`: HASH is the SHA-256 of the authority's certificate (DER), ID and SECRET
//! are a Kubernetes bootstrap token. Whoever holds it can neither be sent to a false server, since
//! that cannot show the certificate, nor needs a file copied beforehand.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::serving::certificates;

/// A parsed join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    /// SHA-256 of the authority's certificate, hexadecimal.
    pub(crate) authority_hash: String,
    /// Bootstrap token id, 6 characters.
    pub(crate) id: String,
    /// Bootstrap token secret, 16 characters.
    pub(crate) secret: String,
}

impl JoinToken {
    /// A token for the authority in `authority_pem`.
    pub(crate) fn new(authority_pem: &str, id: &str, secret: &str) -> Result<Self> {
        let first = certificates(authority_pem)?.into_iter().next().context("no certificate")?;
        Ok(Self { authority_hash: hash(&first), id: id.into(), secret: secret.into() })
    }

    /// The bearer token that the API accepts.
    pub(crate) fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skeg1.{}.{}.{}", self.authority_hash, self.id, self.secret)
    }
}

impl FromStr for JoinToken {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["skeg1", hash, id, secret] = parts.as_slice() else {
            bail!("this is not a join token: `skeg token create` on a server prints one");
        };
        let is_plain = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        ensure!(
            is_plain(hash, 64) && is_plain(id, 6) && is_plain(secret, 16),
            "the join token is damaged: copy it whole"
        );
        Ok(Self { authority_hash: (*hash).into(), id: (*id).into(), secret: (*secret).into() })
    }
}

fn hash(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate))
}

/// Asks a server for its certificates and returns the authority that the token pins, PEM.
pub(crate) async fn fetch_ca(address: &str, name: &str, token: &JoinToken) -> Result<String> {
    let verifier = Arc::new(PinVerifier { authority_hash: token.authority_hash.clone() });
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    let name = ServerName::try_from(name.to_string()).context("server name")?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .with_context(|| format!("check the server at {address} against the token"))?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificates")?;
    let authority = chain
        .iter()
        .find(|certificate| hash(certificate) == token.authority_hash)
        .context("the authority is not in the chain")?;
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
}

/// Accepts a server whose certificate is signed by the pinned authority, which it must send along.
#[derive(Debug)]
struct PinVerifier {
    authority_hash: String,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|one| hash(one) == self.authority_hash);
        let Some(pinned) = pinned else {
            return Err(rustls::Error::General(
                "the server does not belong to the cluster that the token is for".into(),
            ));
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = rustls::client::WebPkiServerVerifier::builder(Arc::new(roots))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
