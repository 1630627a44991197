//! Certificates and keys on disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

use super::{Authority, DAY, Leaf};

/// A leaf is made anew when less than this is left of its year.
const RENEW_DAYS: u32 = 122;

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Writes a file that everybody may read, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o644)
}

/// Writes a file that only root may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o600)
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)
        .with_context(|| format!("create {}", fresh.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("put {} in place", path.display()))
}

/// Whether a leaf on disk still serves.
pub(super) fn is_current(pem: &str, authority: &Authority, leaf: &Leaf, now: SystemTime) -> bool {
    let Ok((_, block)) = parse_x509_pem(pem.as_bytes()) else { return false };
    let Ok(certificate) = block.parse_x509() else { return false };
    let Ok((_, ca_block)) = parse_x509_pem(authority.certificate_pem().as_bytes()) else {
        return false;
    };
    let Ok(ca) = ca_block.parse_x509() else { return false };
    certificate.verify_signature(Some(ca.public_key())).is_ok() && lasts(pem, leaf, now)
}

/// Whether a certificate is for `leaf` and has enough of its life left.
pub(super) fn lasts(pem: &str, leaf: &Leaf, now: SystemTime) -> bool {
    let Ok((_, block)) = parse_x509_pem(pem.as_bytes()) else { return false };
    let Ok(certificate) = block.parse_x509() else { return false };
    !ends_soon(&certificate, now)
        && names_in(&certificate) == leaf.names.iter().cloned().collect()
        && subject_of(&certificate) == (leaf.common_name.clone(), leaf.organizations.clone())
}

fn ends_soon(certificate: &X509Certificate<'_>, now: SystemTime) -> bool {
    let ends = certificate.validity().not_after.timestamp();
    let limit = now + DAY * RENEW_DAYS;
    let limit = limit.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(limit).is_ok_and(|limit| ends < limit)
}

fn names_in(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_string()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            },
            _ => None,
        })
        .collect()
}

fn subject_of(certificate: &X509Certificate<'_>) -> (String, Vec<String>) {
    let subject = certificate.subject();
    let common = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    (common.unwrap_or_default().to_string(), organizations.map(str::to_string).collect())
}
