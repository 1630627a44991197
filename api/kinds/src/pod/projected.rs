//! Validation of projected volumes.

use std::collections::BTreeSet;

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::volumes::{check_downward_file, check_key_to_path};
use crate::check;
use crate::read::Read;
use crate::signer;

/// Shortest and longest lifetime of a projected token, in seconds.
const TOKEN_SECS: std::ops::RangeInclusive<i64> = 600..=(1 << 32);
/// Shortest lifetime that a pod certificate may be limited to, in seconds.
const CERTIFICATE_MIN_SECS: i64 = 3600;
/// Longest such lifetime: 91 days, or a day for Kubernetes' own signers.
const CERTIFICATE_MAX_SECS: i64 = 91 * 86_400;
const KUBERNETES_CERTIFICATE_MAX_SECS: i64 = 86_400;

/// The file names of one projected volume so far.
#[derive(Default)]
struct Paths(BTreeSet<String>);

impl Paths {
    /// Adds a file, reporting `value` at the volume if it is there already.
    fn add(&mut self, file: &str, value: &str, path: &FieldPath, errors: &mut FieldErrors) {
        if !self.0.insert(file.to_string()) {
            errors.invalid_str(path, value, "conflicting duplicate paths");
        }
    }
}

/// Checks a `projected` volume source.
pub(crate) fn check(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::file_mode(errors, path, source, "defaultMode");
    let mut paths = Paths::default();
    for (index, source) in source.items("sources").iter().enumerate() {
        let here = path.child("sources").index(index);
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            if let Some(source) = source.field(kind) {
                count += 1;
                check_files(source, path, &here.child(kind), &mut paths, errors);
            }
        }
        if let Some(source) = source.field("downwardAPI") {
            count += 1;
            for item in source.items("items") {
                check_downward_file(item, &here.child("downwardAPI"), errors);
                let file = item.text("path");
                if !file.is_empty() {
                    paths.add(file, file, path, errors);
                }
            }
        }
        if let Some(token) = source.field("serviceAccountToken") {
            count += 1;
            check_token(token, path, &here.child("serviceAccountToken"), errors);
        }
        if let Some(bundle) = source.field("clusterTrustBundle") {
            count += 1;
            check_bundle(bundle, path, &here.child("clusterTrustBundle"), &mut paths, errors);
        }
        if let Some(certificate) = source.field("podCertificate") {
            count += 1;
            check_certificate(certificate, path, &here.child("podCertificate"), &mut paths, errors);
        }
        if count > 1 {
            errors.forbidden(&here, "may not specify more than 1 volume type per source");
        }
    }
}

fn check_files(
    source: &Value,
    volume: &FieldPath,
    path: &FieldPath,
    paths: &mut Paths,
    errors: &mut FieldErrors,
) {
    check::required(errors, source, path, "name");
    for (index, item) in source.items("items").iter().enumerate() {
        check_key_to_path(item, &path.child("items").index(index), errors);
        let file = item.text("path");
        if !file.is_empty() {
            paths.add(file, source.text("name"), volume, errors);
        }
    }
}

fn check_token(token: &Value, volume: &FieldPath, path: &FieldPath, errors: &mut FieldErrors) {
    let secs = token.int("expirationSeconds").unwrap_or(0);
    if secs < *TOKEN_SECS.start() {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&path.child("expirationSeconds"), &json!(secs), detail);
    }
    if secs > *TOKEN_SECS.end() {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&path.child("expirationSeconds"), &json!(secs), detail);
    }
    if check::required(errors, token, volume, "path") {
        check::unreserved_path(errors, &volume.child("path"), token.text("path"));
    }
}

fn check_bundle(
    bundle: &Value,
    volume: &FieldPath,
    path: &FieldPath,
    paths: &mut Paths,
    errors: &mut FieldErrors,
) {
    match (bundle.text_opt("name"), bundle.text_opt("signerName")) {
        (Some(_), Some(_)) => {
            errors.invalid(path, bundle, "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&path.child("name"), "must be a valid object name");
            }
            for text in signer::bundle_name_faults(name) {
                let detail = format!("not a valid clustertrustbundlename: {text}");
                errors.invalid_str(&path.child("name"), name, &detail);
            }
            if let Some(selector) = bundle.field("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                errors.invalid(&path.child("labelSelector"), selector, detail);
            }
        }
        (None, Some(name)) => {
            let here = path.child("signerName");
            if name.is_empty() {
                errors.required(&here, "must be a valid signer name");
            }
            signer::check_name(name, &here, errors);
            let selector = bundle.field("labelSelector");
            check::selector(errors, &path.child("labelSelector"), selector);
        }
        (None, None) => errors.required(path, "either name or signerName must be specified"),
    }
    check::required(errors, bundle, path, "path");
    let file = bundle.text("path");
    check::unreserved_path(errors, &path.child("path"), file);
    paths.add(file, file, volume, errors);
}

fn check_certificate(
    certificate: &Value,
    volume: &FieldPath,
    path: &FieldPath,
    paths: &mut Paths,
    errors: &mut FieldErrors,
) {
    let name = certificate.text("signerName");
    signer::check_name(name, &path.child("signerName"), errors);
    let key_types = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    check::one_of(errors, &path.child("keyType"), certificate.text("keyType"), &key_types);
    if let Some(secs) = certificate.int("maxExpirationSeconds") {
        let here = path.child("maxExpirationSeconds");
        let of_kubernetes =
            name.split('/').next().is_some_and(|domain| domain.ends_with("kubernetes.io"));
        let most =
            if of_kubernetes { KUBERNETES_CERTIFICATE_MAX_SECS } else { CERTIFICATE_MAX_SECS };
        if secs < CERTIFICATE_MIN_SECS {
            let detail = "if provided, maxExpirationSeconds must be >= 3600";
            errors.invalid(&here, &json!(secs), detail);
        }
        if secs > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.invalid(&here, &json!(secs), &detail);
        }
    }
    let mut any = false;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = certificate.text(key);
        if !file.is_empty() {
            any = true;
            check::unreserved_path(errors, &path.child(key), file);
            paths.add(file, file, volume, errors);
        }
    }
    if !any {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(path, detail);
    }
}
