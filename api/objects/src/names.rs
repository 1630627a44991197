//! Syntax of names, labels, keys and ports. Every check returns the texts a real API server gives,
//! none when the value is fine.
//!
//! Source of behaviour: kubernetes apimachinery `util/validation`, v1.36.

/// Longest DNS-1123 or DNS-1035 label, in bytes.
pub const LABEL_MAX: usize = 63;
/// Longest DNS-1123 subdomain, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A check of one name: texts of what is wrong. `true` means that the name is a prefix of a
/// generated one, so that a trailing dash is fine.
pub type NameCheck = fn(&str, bool) -> Vec<String>;

/// The text for a label key or value longer than `max` bytes.
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The text for a name longer than `max` bytes: upstream says characters here, though it too
/// counts bytes.
pub fn too_long_name(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn pattern(what: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|text| format!("'{text}', ")).collect();
    format!("{what} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

fn edges(value: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte))
        }
        _ => false,
    }
}

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_shape(value: &str) -> bool {
    edges(value, lower_alnum, |byte| lower_alnum(byte) || byte == b'-')
}

fn qualified_shape(value: &str) -> bool {
    edges(
        value,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// RFC 1123 label.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_MAX {
        texts.push(too_long_name(LABEL_MAX));
    }
    if !label_shape(value) {
        // A name that would do as a subdomain is told so.
        if subdomain_shape(value) {
            texts.push("must not contain dots".to_string());
        } else {
            texts.push(pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character",
                LABEL_REGEX,
                &["my-name", "123-abc"],
            ));
        }
    }
    texts
}

fn subdomain_shape(value: &str) -> bool {
    value.split('.').all(label_shape)
}

/// RFC 1123 subdomain: labels joined by dots.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        texts.push(too_long_name(SUBDOMAIN_MAX));
    }
    if !subdomain_shape(value) {
        texts.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_REGEX,
            &["example.com"],
        ));
    }
    texts
}

/// RFC 1035 label, as Service names are.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_MAX {
        texts.push(too_long_name(LABEL_MAX));
    }
    if !label_shape(value) || !value.as_bytes()[0].is_ascii_lowercase() {
        texts.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    texts
}

/// A subdomain whose first label is `*`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        texts.push(too_long_name(SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(subdomain_shape) {
        texts.push(pattern(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS \
             subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and \
             end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN_REGEX}"),
            &["*.example.com"],
        ));
    }
    texts
}

/// A key of a label, annotation, taint or extended resource: `[PREFIX/]NAME`.
pub fn qualified_name(value: &str) -> Vec<String> {
    const WHAT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                        and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut texts = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            let shape = pattern(WHAT, QUALIFIED_REGEX, &examples);
            return vec![format!(
                "a qualified name {shape} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                texts.push("prefix part must be non-empty".to_string());
            } else {
                texts.extend(dns1123_subdomain(prefix).iter().map(|t| format!("prefix part {t}")));
            }
            name
        }
    };
    if name.is_empty() {
        texts.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_MAX {
        texts.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !qualified_shape(name) {
        texts.push(format!("name part {}", pattern(WHAT, QUALIFIED_REGEX, &examples)));
    }
    texts
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_MAX {
        texts.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !qualified_shape(value) {
        texts.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED_REGEX})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    texts
}

fn relative_path_text(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_string()),
        ".." => Some("must not be '..'".to_string()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_string()),
        _ => None,
    }
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        texts.push(too_long_name(SUBDOMAIN_MAX));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(allowed) {
        texts.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    texts.extend(relative_path_text(value));
    texts
}

/// The name of an environment variable of a container.
pub fn env_var_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other \
         than '='"
            .to_string(),
    ]
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = value.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_well && value.bytes().all(allowed) {
        return Vec::new();
    }
    vec![pattern(
        "a valid C identifier must start with alphabetic character or '_', followed by a string \
         of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of an HTTP header in a probe.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A port number.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65_535).contains(&value) {
        return Vec::new();
    }
    vec!["must be between 1 and 65535, inclusive".to_string()]
}

/// The name of a port (an IANA service name).
pub fn port_name(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > 15 {
        texts.push(too_long_name(15));
    }
    if value.is_empty() || !value.bytes().all(|byte| lower_alnum(byte) || byte == b'-') {
        texts.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string(),
        );
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        texts.push("must contain at least one letter (a-z)".to_string());
    }
    if value.contains("--") {
        texts.push("must not contain consecutive hyphens".to_string());
    }
    if value.starts_with('-') || value.ends_with('-') {
        texts.push("must not begin or end with a hyphen".to_string());
    }
    texts
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![pattern(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A name used as one segment of a URL path, as RBAC's and many cluster-scoped kinds' names are.
pub fn path_segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"]
        .iter()
        .filter(|bad| value.contains(*bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// For the check of a generated name's prefix: its trailing dash made harmless.
fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked: String = rest.to_string();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => name.to_string(),
    }
}

fn maybe_prefix(name: &str, is_prefix: bool, check: fn(&str) -> Vec<String>) -> Vec<String> {
    if is_prefix { check(&mask_trailing_dash(name)) } else { check(name) }
}

/// [`NameCheck`] for names that are RFC 1123 subdomains: most kinds.
pub fn name_is_dns_subdomain(name: &str, is_prefix: bool) -> Vec<String> {
    maybe_prefix(name, is_prefix, dns1123_subdomain)
}

/// [`NameCheck`] for names that are RFC 1123 labels, such as a Namespace's.
pub fn name_is_dns_label(name: &str, is_prefix: bool) -> Vec<String> {
    maybe_prefix(name, is_prefix, dns1123_label)
}

/// [`NameCheck`] for names that are RFC 1035 labels.
pub fn name_is_dns1035_label(name: &str, is_prefix: bool) -> Vec<String> {
    maybe_prefix(name, is_prefix, dns1035_label)
}

/// [`NameCheck`] for names that are path segments, such as a ClusterRole's.
pub fn name_is_path_segment(name: &str, is_prefix: bool) -> Vec<String> {
    if is_prefix { path_segment_prefix(name) } else { path_segment(name) }
}

/// Longest base of a generated name, in bytes: 63 less the random suffix.
pub const GENERATED_BASE_MAX: usize = LABEL_MAX - GENERATED_SUFFIX_LEN;
/// Length of the random suffix of a generated name.
pub const GENERATED_SUFFIX_LEN: usize = 5;
/// The letters of a random suffix: no vowels, so that no words come out, and none that look alike.
pub const GENERATED_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name made of a `generateName` and a random suffix (the caller's, drawn from
/// [`GENERATED_ALPHABET`]).
pub fn generated_name(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

#[cfg(test)]
mod tests;
