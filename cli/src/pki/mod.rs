//! The cluster's certificate authority and everything it signs.
//!
//! All keys are ECDSA P-256. Leaves live a year and are made anew at start, and once a day while
//! running, when a third of their life is left or their names have changed.

pub(crate) mod enroll;
mod files;
mod join;
mod serving;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

pub(crate) use files::write_private;
pub(crate) use join::{JoinToken, fetch_ca};
pub(crate) use serving::{Serving, certificates, roots};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of the authority: as long as a cluster may live.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Life of a leaf.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A clock that is behind must not refuse a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The certificate, and the authority's behind it.
    pub(crate) certificate_pem: String,
    /// The private key, PKCS #8.
    pub(crate) key_pem: String,
}

/// For whom a leaf is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Common name: the user, or the server.
    pub(crate) common_name: String,
    /// Organisations: the groups.
    pub(crate) organizations: Vec<String>,
    /// DNS names and addresses; a leaf that has some may serve.
    pub(crate) names: Vec<String>,
}

/// The authority.
pub(crate) struct Authority {
    folder: PathBuf,
    certificate_pem: String,
    key_pem: String,
}

impl Authority {
    /// Loads the authority from `folder`, or makes it.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let certificate = folder.join("ca.crt");
        let key = folder.join("ca.key");
        if !certificate.exists() {
            let identity = make_authority().context("make the cluster's authority")?;
            write_private(&key, &identity.key_pem)?;
            files::write(&certificate, &identity.certificate_pem)?;
        }
        let authority = Self {
            certificate_pem: files::read(&certificate)?,
            key_pem: files::read(&key)?,
            folder: folder.to_path_buf(),
        };
        authority.issuer().with_context(|| format!("use the authority in {}", folder.display()))?;
        Ok(authority)
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&self.key_pem).context("parse the authority's key")?;
        Issuer::from_ca_cert_pem(&self.certificate_pem, key)
            .context("parse the authority's certificate")
    }

    /// The leaf kept as `name.crt` and `name.key`; made anew when it is absent, nears its end,
    /// is for other names, or was signed by another authority.
    pub(crate) fn leaf(&self, name: &str, leaf: &Leaf, now: SystemTime) -> Result<Identity> {
        let certificate = self.folder.join(format!("{name}.crt"));
        let key = self.folder.join(format!("{name}.key"));
        if let (Ok(certificate_pem), Ok(key_pem)) = (files::read(&certificate), files::read(&key))
            && files::is_current(&certificate_pem, self, leaf, now)
        {
            return Ok(Identity { certificate_pem, key_pem });
        }
        let identity = self.sign(leaf, now).with_context(|| format!("make certificate {name}"))?;
        write_private(&key, &identity.key_pem)?;
        files::write(&certificate, &identity.certificate_pem)?;
        Ok(identity)
    }

    /// Signs a request of somebody who holds the key; PEM, the authority's certificate behind it.
    pub(crate) fn sign_request(
        &self,
        mut request: CertificateSigningRequestParams,
        life: Duration,
        now: SystemTime,
    ) -> Result<String> {
        request.params.not_before = (now - CLOCK_SKEW).into();
        request.params.not_after = (now + life).into();
        let certificate = request.signed_by(&self.issuer()?).context("sign the certificate")?;
        Ok(certificate.pem() + &self.certificate_pem)
    }

    fn sign(&self, leaf: &Leaf, now: SystemTime) -> Result<Identity> {
        let key = KeyPair::generate().context("make a key")?;
        let certificate = leaf_params(leaf, now)?
            .signed_by(&key, &self.issuer()?)
            .context("sign the certificate")?;
        Ok(Identity {
            // The authority comes along, so that a joining node can check it against its token.
            certificate_pem: certificate.pem() + &self.certificate_pem,
            key_pem: key.serialize_pem(),
        })
    }
}

fn leaf_params(leaf: &Leaf, now: SystemTime) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&leaf.common_name, &leaf.organizations);
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + LEAF_LIFE).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !leaf.names.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in &leaf.names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(
                name.as_str().try_into().with_context(|| format!("certificate name {name:?}"))?,
            ),
        });
    }
    Ok(params)
}

fn distinguished_name(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name
}

fn make_authority() -> Result<Identity> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.distinguished_name = distinguished_name("skeg-ca", &[]);
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + CA_LIFE).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    let certificate = params.self_signed(&key).context("sign the certificate")?;
    Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// The key that signs service-account tokens: `folder/service-account.key`, PKCS #8 PEM.
pub(crate) fn service_account_key(folder: &Path) -> Result<String> {
    let path = folder.join("service-account.key");
    if !path.exists() {
        let key = KeyPair::generate().context("make the service-account key")?;
        write_private(&path, &key.serialize_pem())?;
    }
    files::read(&path)
}

#[cfg(test)]
mod tests;
