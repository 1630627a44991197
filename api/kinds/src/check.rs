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

/// How many items an `IntOrString` says of `total`, rounded up or down; percentages need `%`.
pub(crate) fn scaled(value: &Value, total: i64, up: bool) -> Option<i64> {
    match value {
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let hundredths = percent.checked_mul(total)?;
            Some(if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 })
        }
        other => other.as_i64(),
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
