//! What a definition brings into the registry.

use serde_json::Value;

use super::JsonPath;
use crate::cells;
use crate::columns::NAME;
use crate::kind::{Cell, Column, Names, ScalePaths, ScaleSelector, Scope, Storage, Subresource};
use crate::read::{Read, part};
use crate::registry::storage_version_hash;
use objects::k8s::jiff::Timestamp;
use objects::{ObjectExt, time};

/// Verbs in the order of discovery.
const VERBS: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// Verbs while the instances are being removed: they may still be changed, as their finalizers are.
const TERMINATING_VERBS: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A served version of a definition, as data; the API server adds behaviour.
#[derive(Debug)]
pub struct Served {
    /// Names in discovery.
    pub names: Names,
    /// Scope.
    pub scope: Scope,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// Headings of the Table.
    pub columns: Vec<Column>,
    /// Cells of the Table.
    pub cells: Columns,
    /// Form and place of storage.
    pub storage: Storage,
    /// `storageVersionHash` of discovery.
    pub storage_version_hash: String,
    /// Whether there is a `status` subresource.
    pub has_status: bool,
    /// The `scale` subresource.
    pub scale: Option<ScalePaths>,
    /// Names and places of selectable fields.
    pub selectable: Vec<(String, JsonPath)>,
    /// The text of the warning that users of this version get.
    pub deprecation: Option<String>,
}

/// The columns that a definition adds.
#[derive(Debug, Default)]
pub struct Columns(Vec<(String, JsonPath)>);

impl Columns {
    /// The cells of an object: its name, then those of the columns.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let mut out = vec![Value::from(object.name())];
        for (kind, path) in &self.0 {
            let found = path.find(object);
            out.push(match found.first() {
                Some(value) => cell(kind, value, now),
                None => Value::Null,
            });
        }
        out
    }
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) if kind != "string" => Value::Null,
        ("string", value) => super::jsonpath::print(value).into(),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => whole.into(),
            #[allow(clippy::cast_possible_truncation, reason = "Go converts so too")]
            None => (number.as_f64().unwrap_or_default() as i64).into(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match time::parse_time(text) {
            Ok(_) => cells::since(text, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// The versions that a definition serves once it is established.
pub fn served(definition: &Value) -> Vec<Served> {
    let spec = part(definition, &["spec"]);
    let versions = spec.items("versions");
    let storage = versions.iter().find(|version| version.flag("storage"));
    let Some(storage) = storage.map(|version| version.text("name")) else { return Vec::new() };
    let served = versions.iter().filter(|version| version.flag("served"));
    served.map(|version| serve(definition, version, storage)).collect()
}

fn serve(definition: &Value, version: &Value, storage: &str) -> Served {
    let spec = part(definition, &["spec"]);
    // Names that could not be accepted stay as they were.
    let accepted = part(definition, &["status", "acceptedNames"]);
    let names = if accepted.text("plural").is_empty() { part(spec, &["names"]) } else { accepted };
    let text = |value: &Value, key: &str| value.text(key).to_string();
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_string).collect();
    let group = text(spec, "group");
    let conditions = part(definition, &["status"]).items("conditions");
    let terminating = objects::conditions::is_true(conditions, "Terminating");
    let verbs = if terminating { TERMINATING_VERBS } else { VERBS };
    let parts = part(version, &["subresources"]);
    let has_status = parts.field("status").is_some();
    let scale = parts.map("scale").map(|_| scale(&parts["scale"]));
    let (columns, cells) = columns(version);
    let kind = text(names, "kind");
    Served {
        storage_version_hash: storage_version_hash(&group, storage, &kind),
        storage: Storage {
            group: group.clone(),
            version: storage.to_string(),
            kind: kind.clone(),
            plural: text(names, "plural"),
        },
        names: Names {
            group: group.clone(),
            version: text(version, "name"),
            kind,
            list_kind: text(names, "listKind"),
            plural: text(names, "plural"),
            singular: text(names, "singular"),
            short_names: owned(names.texts("shortNames")),
            categories: owned(names.texts("categories")),
        },
        scope: if spec.text("scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        verbs: owned(verbs.to_vec()),
        subresources: subresources(has_status, scale.is_some()),
        columns,
        cells,
        has_status,
        scale,
        selectable: version
            .items("selectableFields")
            .iter()
            .map(|field| field.text("jsonPath"))
            .filter_map(|path| Some((path.strip_prefix('.')?.into(), JsonPath::parse(path).ok()?)))
            .collect(),
        deprecation: deprecation(&group, version, names),
    }
}

fn deprecation(group: &str, version: &Value, names: &Value) -> Option<String> {
    if !version.flag("deprecated") {
        return None;
    }
    let own = version.text_opt("deprecationWarning").map(str::to_string);
    Some(own.unwrap_or_else(|| {
        format!("{group}/{} {} is deprecated", version.text("name"), names.text("kind"))
    }))
}

fn subresources(status: bool, scale: bool) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(str::to_string).to_vec();
    let mut out = Vec::new();
    if status {
        out.push(Subresource { name: "status".into(), kind: None, verbs: verbs() });
    }
    if scale {
        let kind = Some(("autoscaling".into(), "v1".into(), "Scale".into()));
        out.push(Subresource { name: "scale".into(), kind, verbs: verbs() });
    }
    out
}

/// The fields on the way of a path in dot notation.
fn steps(path: &str) -> Vec<String> {
    path.trim_start_matches('.').split('.').map(str::to_string).collect()
}

fn scale(scale: &Value) -> ScalePaths {
    ScalePaths {
        spec_replicas: steps(scale.text("specReplicasPath")),
        status_replicas: steps(scale.text("statusReplicasPath")),
        selector: match scale.text("labelSelectorPath") {
            "" => ScaleSelector::None,
            path => ScaleSelector::Text(steps(path)),
        },
    }
}

fn columns(version: &Value) -> (Vec<Column>, Columns) {
    let mut headings = vec![NAME.to_column()];
    let mut cells = Vec::new();
    let age = [serde_json::json!({
        "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": AGE_DESCRIPTION,
    })];
    let given = version.items("additionalPrinterColumns");
    for column in if given.is_empty() { &age[..] } else { given } {
        let path = column.text("jsonPath");
        let Ok(parsed) = JsonPath::parse(path) else { continue };
        let description = match column.text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            own => own.to_string(),
        };
        headings.push(Column {
            name: column.text("name").into(),
            kind: column.text("type").into(),
            format: column.text("format").into(),
            description,
            priority: column.int("priority").and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        });
        cells.push((column.text("type").to_string(), parsed));
    }
    (headings, Columns(cells))
}

const AGE_DESCRIPTION: &str = "When the object was created, by the server's clock.";
