//! What differs from run to run is replaced by placeholders, as in the recording.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

struct Replacement(Regex, &'static str);

static TEXTS: LazyLock<Vec<Replacement>> = LazyLock::new(|| {
    let of = |pattern, to| Replacement(Regex::new(pattern).expect("a valid pattern"), to);
    vec![
        of(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
        // Authored times are all before 2025.
        of(
            r"\b20(?:2[5-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
            "<time>",
        ),
        of(r"kube-api-access-[a-z0-9]{5}\b", "kube-api-access-<suffix>"),
        of(r"(too old resource version: \d+ )\(\d+\)", "${1}(<rv>)"),
        of(r"(Too large resource version: \d+, current: )\d+", "${1}<rv>"),
        of(
            r"(ResourceVersion in precondition: \d+, ResourceVersion in object meta: )\d+",
            "${1}<rv>",
        ),
        of(r#"(resourceVersion(?:\\*")?: ?\\*")\d+"#, "${1}<rv>"),
        of(r"X509SHA256=[0-9a-f]{64}", "X509SHA256=<hash>"),
        of(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", "<jwt>"),
    ]
});

static AGE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(\d+[smhdy]){1,2}$").expect("a valid pattern"));
static SERVICE_IP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^10\.96\.\d+\.\d+$").expect("a valid pattern"));

/// A text with placeholders.
pub fn text(text: &str) -> String {
    let mut out = Cow::Borrowed(text);
    for Replacement(pattern, to) in TEXTS.iter() {
        if pattern.is_match(&out) {
            out = Cow::Owned(pattern.replace_all(&out, *to).into_owned());
        }
    }
    sort_strict_errors(&out)
}

/// Unknown fields come in any order from the real server.
fn sort_strict_errors(text: &str) -> String {
    const HEAD: &str = "strict decoding error: ";
    let Some((head, tail)) = text.split_once(HEAD) else { return text.to_owned() };
    let mut errors: Vec<&str> = tail.split(", ").collect();
    let is_field = |text: &&str| {
        text.starts_with("unknown field \"") || text.starts_with("duplicate field \"")
    };
    if errors.iter().all(is_field) {
        errors.sort_unstable();
    }
    format!("{head}{HEAD}{}", errors.join(", "))
}

fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// A value with placeholders.
pub fn value(value: &Value) -> Value {
    match value {
        Value::Object(map) => object(map),
        Value::Array(list) => list.iter().map(self::value).collect(),
        Value::String(string) => text(string).into(),
        other => other.clone(),
    }
}

fn object(map: &Map<String, Value>) -> Value {
    // The sentences that describe a table's columns are each server's own.
    let is_column = map.contains_key("priority") && map.contains_key("format");
    let entries = map.iter().filter(|(key, _)| !(is_column && *key == "description"));
    Value::Object(entries.map(|(key, value)| (text(key), field(map, key, value))).collect())
}

fn field(map: &Map<String, Value>, key: &str, value: &Value) -> Value {
    match (key, value) {
        ("resourceVersion", Value::String(version)) if !matches!(version.as_str(), "" | "0") => {
            "<rv>".into()
        }
        ("continue", Value::String(token)) if !token.is_empty() => "<continue>".into(),
        ("clusterIP", Value::String(ip)) if is_ip(ip) => "<ip>".into(),
        ("clusterIPs", Value::Array(ips)) => ips
            .iter()
            .map(|ip| if ip.as_str().is_some_and(is_ip) { json!("<ip>") } else { ip.clone() })
            .collect(),
        ("nodePort" | "healthCheckNodePort", Value::Number(port))
            if port.as_i64().is_some_and(|port| (30_000..=32_767).contains(&port)) =>
        {
            "<nodeport>".into()
        }
        ("name", Value::String(name)) => match map.get("generateName").and_then(Value::as_str) {
            Some(base) if !base.is_empty() && name.starts_with(base) => {
                format!("{base}<suffix>").into()
            }
            _ => text(name).into(),
        },
        ("cells", Value::Array(cells)) => cells.iter().map(cell).collect(),
        _ => self::value(value),
    }
}

fn cell(cell: &Value) -> Value {
    match cell.as_str() {
        Some(text) if AGE.is_match(text) => "<age>".into(),
        Some(text) if SERVICE_IP.is_match(text) => "<ip>".into(),
        _ => value(cell),
    }
}

/// Removes a dotted path; `*` is every item, `~1` a dot inside a key.
pub fn remove(value: &mut Value, path: &str) {
    let (head, rest) = path.split_once('.').unwrap_or((path, ""));
    let head = head.replace("~1", ".");
    match value {
        Value::Array(list) => {
            for (index, item) in list.iter_mut().enumerate() {
                if head == "*" || head.parse() == Ok(index) {
                    remove(item, rest);
                }
            }
        }
        Value::Object(map) if head == "*" => map.values_mut().for_each(|item| remove(item, rest)),
        Value::Object(map) if rest.is_empty() => {
            map.remove(&head);
        }
        Value::Object(map) => {
            if let Some(item) = map.get_mut(&head) {
                remove(item, rest);
            }
        }
        _ => {}
    }
}

/// The value at a dotted path, as text; empty if there is none.
pub fn dig<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}
