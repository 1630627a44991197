//! Names of certificate signers and of the trust bundles that belong to them.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation/names.go`, v1.36.

use objects::{FieldErrors, FieldPath, names};

use crate::check;

/// Longest domain, and longest whole name: a domain, a slash, a label, a dot and a subdomain.
const DOMAIN_MAX: usize = names::SUBDOMAIN_MAX;
const NAME_MAX: usize = DOMAIN_MAX + 1 + names::SUBDOMAIN_MAX + names::LABEL_MAX + 1;

/// Checks a signer name: `example.com/signer`.
pub(crate) fn check_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, rest] = parts[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid_str(path, name, detail);
        return;
    };
    if domain.len() > DOMAIN_MAX {
        errors.too_long(path, DOMAIN_MAX);
    }
    check_labels(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid_str(path, domain, detail);
    }
    check_labels(rest, names::dns1123_subdomain, path, errors);
    if name.len() > NAME_MAX {
        errors.too_long(path, NAME_MAX);
    }
}

/// Checks the parts between dots, reporting the first bad one only.
fn check_labels(
    text: &str,
    faults: fn(&str) -> Vec<String>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let bad = text.split('.').map(|label| (label, faults(label))).find(|(_, f)| !f.is_empty());
    if let Some((label, texts)) = bad {
        let texts = texts.into_iter().map(|t| format!("validating label {label:?}: {t}")).collect();
        check::faults(errors, path, text, texts);
    }
}

/// What is wrong with the name of a ClusterTrustBundle: `SIGNER-DOMAIN:SIGNER-PATH:NAME` or a
/// plain name.
pub(crate) fn bundle_name_faults(name: &str) -> Vec<String> {
    let own = name.rfind(':').map_or(name, |colon| &name[colon + 1..]);
    names::dns1123_subdomain(own)
}
