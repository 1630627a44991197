//! Checks that many kinds share. Each adds what is wrong at a path to the errors.
//!
//! Source of behaviour: kubernetes apimachinery `api/validation` and `util/validation`,
//! `pkg/apis/core/validation`, v1.36.

use std::net::IpAddr;

use objects::quantity::Quantity;
use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::read::{NOTHING, Read, same};

/// Adds one `Invalid value` for each text.
pub(crate) fn faults(errors: &mut FieldErrors, path: &FieldPath, value: &str, texts: Vec<String>) {
    for text in texts {
        errors.invalid_str(path, value, &text);
    }
}

/// An RFC 1123 label.
pub(crate) fn label(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    faults(errors, path, value, names::dns1123_label(value));
}

/// An RFC 1123 subdomain.
pub(crate) fn subdomain(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    faults(errors, path, value, names::dns1123_subdomain(value));
}

/// A label key or the like.
pub(crate) fn qualified_name(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    faults(errors, path, value, names::qualified_name(value));
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    faults(errors, path, value, names::config_map_key(value));
}

/// A map of labels; faults are reported at the map itself.
pub(crate) fn labels(errors: &mut FieldErrors, path: &FieldPath, owner: &Value, key: &str) {
    if let Some(labels) = owner.map(key) {
        objects::meta::validate_labels(labels, path, errors);
    }
}

/// A `LabelSelector` that may be absent.
pub(crate) fn selector(errors: &mut FieldErrors, path: &FieldPath, selector: Option<&Value>) {
    if let Some(selector) = selector {
        objects::selector::validate_label_selector(selector, path, errors);
    }
}

/// Whether a `LabelSelector` has no terms.
pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    !selector.is_set("matchLabels") && !selector.is_set("matchExpressions")
}

/// A number that may not be negative.
pub(crate) fn nonnegative(errors: &mut FieldErrors, path: &FieldPath, value: i64) {
    if value < 0 {
        errors.invalid(path, &json!(value), "must be greater than or equal to 0");
    }
}

/// A number that must be positive.
pub(crate) fn positive(errors: &mut FieldErrors, path: &FieldPath, value: i64) {
    if value <= 0 {
        errors.invalid(path, &json!(value), "must be greater than zero");
    }
}

/// A number from `low` to `high`.
pub(crate) fn range(errors: &mut FieldErrors, path: &FieldPath, value: i64, low: i64, high: i64) {
    if value < low || value > high {
        let detail = format!("must be between {low} and {high}, inclusive");
        errors.invalid(path, &json!(value), &detail);
    }
}

/// A port number.
pub(crate) fn port_number(errors: &mut FieldErrors, path: &FieldPath, value: i64) {
    for text in names::port_number(value) {
        errors.invalid(path, &json!(value), &text);
    }
}

/// A port number or port name.
pub(crate) fn port(errors: &mut FieldErrors, path: &FieldPath, value: Option<&Value>) {
    match value {
        Some(Value::String(name)) => faults(errors, path, name, names::port_name(name)),
        other => port_number(errors, path, other.and_then(Value::as_i64).unwrap_or(0)),
    }
}

/// A quantity that may not be negative.
pub(crate) fn nonnegative_quantity(errors: &mut FieldErrors, path: &FieldPath, value: &Quantity) {
    if value.sign() < 0 {
        let detail = "must be greater than or equal to 0";
        errors.invalid_str(path, &value.to_string(), detail);
    }
}

/// A string that must be one of `supported` (printed in the order given).
pub(crate) fn one_of(errors: &mut FieldErrors, path: &FieldPath, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        errors.not_supported(path, &json!(value), supported);
    }
}

/// As [`one_of`], with an empty string reported as missing.
pub(crate) fn required_one_of(
    errors: &mut FieldErrors,
    path: &FieldPath,
    value: &str,
    supported: &[&str],
) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        one_of(errors, path, value, supported);
    }
}

/// A string that may not be empty; says whether it is there.
pub(crate) fn required(
    errors: &mut FieldErrors,
    owner: &Value,
    path: &FieldPath,
    key: &str,
) -> bool {
    let present = !owner.text(key).is_empty();
    if !present {
        errors.required(&path.child(key), "");
    }
    present
}

/// A part that an update may not change.
pub(crate) fn immutable(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: Option<&Value>,
    old: Option<&Value>,
) {
    let (new, old) = (new.unwrap_or(&NOTHING), old.unwrap_or(&NOTHING));
    if !same(new, old) {
        errors.invalid(path, new, "field is immutable");
    }
}

/// The fields of `path` that an update may not change.
pub(crate) fn immutable_fields(
    errors: &mut FieldErrors,
    path: &FieldPath,
    (new, old): (&Value, &Value),
    keys: &[&str],
) {
    for key in keys {
        immutable(errors, &path.child(key), new.field(key), old.field(key));
    }
}

/// File permission bits.
pub(crate) fn file_mode(errors: &mut FieldErrors, path: &FieldPath, owner: &Value, key: &str) {
    if let Some(mode) = owner.int(key).filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&path.child(key), &json!(mode), detail);
    }
}

/// A path without `..` steps.
pub(crate) fn no_backsteps(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.split('/').any(|step| step == "..") {
        errors.invalid_str(path, value, "must not contain '..'");
    }
}

/// A relative path that stays below its start.
pub(crate) fn descending_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.starts_with('/') {
        errors.invalid_str(path, value, "must be a relative path");
    }
    no_backsteps(errors, path, value);
}

/// A relative path that does not begin with `..`, which volumes reserve for themselves.
pub(crate) fn unreserved_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    descending_path(errors, path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid_str(path, value, "must not start with '..'");
    }
}

/// A non-negative number or a percentage.
pub(crate) fn positive_int_or_percent(errors: &mut FieldErrors, path: &FieldPath, value: &Value) {
    match value {
        Value::String(text) => faults(errors, path, text, names::percent(text)),
        other => nonnegative(errors, path, other.as_i64().unwrap_or(0)),
    }
}

/// A percentage that may not be above 100.
pub(crate) fn at_most_whole(errors: &mut FieldErrors, path: &FieldPath, value: &Value) {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    if percent.is_some_and(|percent| percent > 100) {
        errors.invalid(path, value, "must not be greater than 100%");
    }
}

/// Parses an address as the oldest parsers did: leading zeros in IPv4 parts are fine.
pub(crate) fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let octets: Option<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let trimmed = part.trim_start_matches('0');
            let number = if trimmed.is_empty() { "0" } else { trimmed };
            digits.then(|| number.parse().ok()).flatten()
        })
        .collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

/// Parses an address, adding what is wrong with it.
fn parse_ip(errors: &mut FieldErrors, path: &FieldPath, value: &str) -> Option<IpAddr> {
    let Some(ip) = sloppy_ip(value) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid_str(path, value, detail);
        return None;
    };
    match value.parse::<IpAddr>() {
        Err(_) => {
            errors.invalid_str(path, value, "must not have leading 0s");
            None
        }
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            errors.invalid_str(path, value, "must not be an IPv4-mapped IPv6 address");
            None
        }
        Ok(_) => Some(ip),
    }
}

/// An IP address in a field that old clients write: any spelling but leading zeros and mapped
/// addresses.
pub(crate) fn ip(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    parse_ip(errors, path, value);
}

/// An IP address in canonical form.
pub(crate) fn canonical_ip(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if let Some(ip) = parse_ip(errors, path, value).filter(|ip| ip.to_string() != value) {
        let detail = format!("must be in canonical form (\"{ip}\")");
        errors.invalid_str(path, value, &detail);
    }
}

/// A network in CIDR form, without host bits. With `canonical`, in its shortest spelling.
pub(crate) fn cidr(
    errors: &mut FieldErrors,
    path: &FieldPath,
    value: &str,
    canonical: bool,
) -> Option<ipnet::IpNet> {
    let Some((address, length)) = sloppy_cidr(value) else {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.invalid_str(path, value, detail);
        return None;
    };
    let net = ipnet::IpNet::new(address, length).ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let detail = if value.parse::<ipnet::IpNet>().is_err() {
        "must not have leading 0s in IP or prefix length".to_string()
    } else if mapped {
        "must not have an IPv4-mapped IPv6 address".to_string()
    } else if net.trunc() != net {
        "must not have bits set beyond the prefix length".to_string()
    } else if canonical && net.to_string() != value {
        format!("must be in canonical form (\"{net}\")")
    } else {
        return Some(net);
    };
    errors.invalid_str(path, value, &detail);
    None
}

/// The network in a text, whatever its spelling.
pub(crate) fn sloppy_network(value: &str) -> Option<ipnet::IpNet> {
    let (address, length) = sloppy_cidr(value)?;
    ipnet::IpNet::new(address, length).ok()
}

/// Splits a CIDR whose numbers may have leading zeros.
fn sloppy_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address = sloppy_ip(address)?;
    let length: u8 = length.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (length <= most).then_some((address, length))
}

/// A warning for an address in an unusual spelling.
pub(crate) fn ip_warning(path: &FieldPath, value: &str) -> Option<String> {
    let ip = sloppy_ip(value)?;
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => (v6.to_string() != value).then(|| {
            format!(
                "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format (\"{v6}\")"
            )
        }),
        Ok(IpAddr::V4(_)) => None,
        Ok(IpAddr::V6(v6)) => {
            let plain = v6.to_ipv4_mapped().map_or(ip, IpAddr::V4);
            Some(format!("{path}: non-standard IP address {value:?} is invalid: use \"{plain}\""))
        }
        Err(_) => {
            Some(format!("{path}: non-standard IP address {value:?} is invalid: use \"{ip}\""))
        }
    }
}

/// A warning for a network in an unusual spelling.
pub(crate) fn cidr_warnings(path: &FieldPath, value: &str) -> Vec<String> {
    let Some((address, length)) = sloppy_cidr(value) else { return Vec::new() };
    let Ok(net) = ipnet::IpNet::new(address, length) else { return Vec::new() };
    let trunc = net.trunc();
    let mut warnings = Vec::new();
    if trunc != net {
        let single = if address.is_ipv4() { 32 } else { 128 };
        warnings.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be \"{trunc}\" or \
             \"{address}/{single}\"?)"
        ));
    }
    if value.parse::<ipnet::IpNet>().is_err() {
        warnings
            .push(format!("{path}: non-standard CIDR value {value:?} is invalid: use \"{trunc}\""));
    }
    if warnings.is_empty() && address.is_ipv6() && net.to_string() != value {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format (\"{net}\")"
        ));
    }
    warnings
}

/// A path below a domain, such as `acme.io/foo`.
pub(crate) fn domain_prefixed_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts = value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty());
    let Some((host, rest)) = parts else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.invalid_str(path, value, detail);
        return;
    };
    subdomain(errors, path, host);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(allowed) {
        let detail = "Invalid path (regex used for validation is \
                      '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.invalid_str(path, rest, detail);
    }
}

/// A name that can be a segment of a URL path.
pub(crate) fn path_segment(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    faults(errors, path, value, names::path_segment(value));
}

/// A name that is required and can be a segment of a URL path.
pub(crate) fn required_segment(
    errors: &mut FieldErrors,
    owner: &Value,
    path: &FieldPath,
    key: &str,
) {
    if required(errors, owner, path, key) {
        path_segment(errors, &path.child(key), owner.text(key));
    }
}

/// Replaces how the last error prints its value: as a real API server does, with Go's names in
/// Go's order.
pub(crate) fn print_last_as(errors: &mut FieldErrors, printed: String) {
    if let Some(error) = errors.0.last_mut() {
        error.value = printed;
    }
}

/// A domain name of at least two labels.
pub(crate) fn domain_name(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = value.strip_suffix('.').unwrap_or(value);
    let faults = names::dns1123_subdomain(name);
    if !faults.is_empty() {
        errors.invalid_str(path, name, &faults.join(","));
    } else if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid_str(path, name, detail);
    } else if let Some(label) =
        name.split('.').find(|label| !names::dns1123_label(label).is_empty())
    {
        errors.invalid_str(path, label, &names::dns1123_label(label).join(","));
    }
}

/// Longest reason of a condition, in bytes.
const MAX_REASON_BYTES: usize = 1024;
/// Longest message of a condition, in bytes.
const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// Conditions in the form that newer kinds share (`metav1.Condition`).
pub(crate) fn conditions(errors: &mut FieldErrors, path: &FieldPath, list: &[Value]) {
    for (index, condition) in list.iter().enumerate() {
        let here = path.index(index);
        let kind = condition.text("type");
        if list[..index].iter().any(|earlier| earlier.text("type") == kind) {
            errors.duplicate(&here.child("type"), &json!(kind));
        }
        qualified_name(errors, &here.child("type"), kind);
        let statuses = ["False", "True", "Unknown"];
        one_of(errors, &here.child("status"), condition.text("status"), &statuses);
        if let Some(generation) = condition.int("observedGeneration").filter(|count| *count < 0) {
            let detail = "must be greater than or equal to zero";
            errors.invalid(&here.child("observedGeneration"), &json!(generation), detail);
        }
        required(errors, condition, &here, "lastTransitionTime");
        let reason = condition.text("reason");
        if required(errors, condition, &here, "reason") && !is_reason(reason) {
            let detail = "a condition reason must start with alphabetic character, optionally \
                          followed by a string of alphanumeric characters or '_,:', and must end \
                          with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  \
                          or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used \
                          for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
            errors.invalid_str(&here.child("reason"), reason, detail);
        }
        for (key, most) in [("reason", MAX_REASON_BYTES), ("message", MAX_MESSAGE_BYTES)] {
            if condition.text(key).len() > most {
                errors.too_long(&here.child(key), most);
            }
        }
    }
}

fn is_reason(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_,:".contains(&b);
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text.bytes().all(inner)
        && !text.ends_with([',', ':'])
}
