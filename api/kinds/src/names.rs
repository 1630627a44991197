//! How names are spelled: one text for each fault.
//!
//! Source of behaviour: kubernetes apimachinery `util/validation`, v1.36.

/// The longest DNS subdomain, in bytes.
const SUBDOMAIN_MAX: usize = 253;
/// The longest DNS label, in bytes.
const LABEL_MAX: usize = 63;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// A name that will get a suffix: as if the dash at its end were already followed by something.
fn masked(name: &str, prefix: bool) -> String {
    match (prefix && name.len() > 1).then(|| name.strip_suffix('-')).flatten() {
        Some(stem) => format!("{stem}a"),
        None => name.to_string(),
    }
}

fn is_label(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            alphanumeric(*first)
                && alphanumeric(*last)
                && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
        }
        _ => false,
    }
}

/// What is wrong with a DNS subdomain (RFC 1123), the rule for most names.
pub fn subdomain_faults(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut faults = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        faults.push(too_long(SUBDOMAIN_MAX));
    }
    if !name.split('.').all(is_label) {
        faults.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_string(),
        );
    }
    faults
}

/// What is wrong with a DNS label (RFC 1123).
pub fn label_faults(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut faults = Vec::new();
    if name.len() > LABEL_MAX {
        faults.push(too_long(LABEL_MAX));
    }
    if !is_label(&name) {
        faults.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
             '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_string(),
        );
    }
    faults
}
