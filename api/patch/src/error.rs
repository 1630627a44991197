//! Why a change cannot be made.

use serde_json::Value;

/// Why a patch cannot be applied. Each variant says which HTTP status the API answers with; the
/// text is the API's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 413.
    #[error("{0}")]
    TooLarge(String),
    /// 422, reason `Invalid`, without details. Which operation failed is not told to the client;
    /// the field says it for the log.
    #[error("the server rejected our request due to an error in our request")]
    Rejected(String),
    /// 500 without a reason, as upstream answers to a patch that contradicts the schema.
    #[error("{0}")]
    Internal(String),
    /// 409, reason `Conflict`, a cause per conflict.
    #[error("{}", conflict_text(.0))]
    Conflict(Vec<Conflict>),
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// `conflict with "MANAGER"…`: the cause's message; its reason is `FieldManagerConflict`.
    pub message: String,
    /// The path, such as `.spec.replicas`: the cause's field.
    pub field: String,
}

/// `Apply failed with N conflicts: …`, the fields of one manager together.
fn conflict_text(conflicts: &[Conflict]) -> String {
    match conflicts {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let mut text = format!("Apply failed with {} conflicts:", many.len());
            let mut before = None;
            for conflict in many {
                if before == Some(&conflict.message) {
                    text.push_str(&format!("\n- {}", conflict.field));
                } else {
                    let lead = if before.is_none() { " " } else { "\n" };
                    let who = conflict.message.replacen("conflict", "conflicts", 1);
                    text.push_str(&format!("{lead}{who}:\n- {}", conflict.field));
                }
                before = Some(&conflict.message);
            }
            text
        }
    }
}

/// A value as Go's `%v` prints a decoded JSON value: `map[a:1 b:[x y]]`. The API shows patches so.
pub fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_string(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Go's name of the JSON type of a value, for decoding errors.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
