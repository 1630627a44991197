//! How an answer differs from the recorded one.

use serde_json::Value;

/// Differences, each with its path; empty if there are none.
pub fn differences(want: &Value, got: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(want, got, "", &mut found);
    found
}

fn walk(want: &Value, got: &Value, path: &str, found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let mut keys: Vec<&String> = want.keys().chain(got.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let path = format!("{path}.{key}");
                match (want.get(key), got.get(key)) {
                    (Some(want), Some(got)) => walk(want, got, &path, found),
                    (Some(want), None) => found.push(format!("{path}: missing {}", short(want))),
                    (None, Some(got)) => found.push(format!("{path}: extra {}", short(got))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (index, (want, got)) in want.iter().zip(got).enumerate() {
                walk(want, got, &format!("{path}[{index}]"), found);
            }
        }
        (want, got) if want == got => {}
        (want, got) => {
            found.push(format!("{path}: want {} got {}", short(want), short(got)));
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
