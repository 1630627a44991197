//! Cases as they are recorded.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Some requests in order, and their answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// Unique in its area.
    pub name: String,
    /// The file it is in.
    pub area: String,
    /// The requests.
    pub steps: Vec<Step>,
}

/// One request and its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers besides the usual ones.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A body: text is sent as it is, anything else as JSON.
    pub body: Option<Value>,
    /// Expected status.
    pub status: u16,
    /// Expected body, normalised.
    #[serde(default)]
    pub response: Value,
    /// Expected texts of `Warning` headers, sorted.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Expected content type.
    #[serde(default)]
    pub content_type: String,
    /// The recording waited before this step: a controller had work to do.
    #[serde(default)]
    pub sleep: f64,
    /// The answer is a stream of JSON texts.
    #[serde(default)]
    pub stream: bool,
    /// Values of the answer that later steps name.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
    /// `full`, `status` or `keys`.
    #[serde(default = "full")]
    pub compare: String,
    /// Where the keys are, for `keys`.
    #[serde(default)]
    pub keys_of: String,
    /// Paths left out of the comparison.
    #[serde(default)]
    pub drop: Vec<String>,
}

fn full() -> String {
    "full".into()
}

impl Case {
    /// Whether later cases of the file need it.
    pub fn is_fixture(&self) -> bool {
        self.name.starts_with("00-setup") || self.name.starts_with("zz-teardown")
    }
}

/// The cases of an area.
///
/// # Panics
/// If the file is not there or not in the form of cases.
pub fn load(area: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cases/{area}.jsonl"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let case = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{} line {}: {error}", path.display(), index + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(case).collect()
}
