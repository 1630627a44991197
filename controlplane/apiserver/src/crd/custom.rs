//! What is special about custom resources.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/registry/customresource`, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kinds::crd::{Columns, JsonPath};
use kinds::{Behaviour, Cell, ScalePaths, WriteContext};
use objects::{GroupVersion, ObjectExt};
use patch::decode;
use serde_json::{Value, json};

use super::version::Version;
use crate::codec::LEAVES;

/// The behaviour of one served version.
pub(super) struct Custom {
    pub(super) group: String,
    pub(super) version: String,
    /// The version that is stored.
    pub(super) storage: String,
    /// Schemas of all versions.
    pub(super) versions: BTreeMap<String, Arc<Version>>,
    pub(super) cells: Columns,
    pub(super) has_status: bool,
    pub(super) scale: Option<ScalePaths>,
    pub(super) selectable: Vec<(String, JsonPath)>,
    pub(super) deprecation: Option<String>,
    /// From this revision on, objects have been written under these very schemas.
    pub(super) current_from: u64,
}

impl Custom {
    fn prune(&self, object: &mut Value, version: &str, with_defaults: bool) {
        let Some(version) = self.versions.get(version) else { return };
        let schema = &version.compiled().schema;
        if let Ok(decoded) = decode::value(object.clone(), schema, &LEAVES) {
            *object = decoded.value;
        }
        if with_defaults {
            decode::defaults(object, schema);
        }
    }
}

/// Everything but metadata, which changes without a new generation.
fn without_metadata(object: &Value) -> Value {
    let mut rest = object.clone();
    rest.remove_at(&["metadata"]);
    rest
}

impl Behaviour for Custom {
    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        if self.has_status {
            object.remove_at(&["status"]);
        }
        object.set_at(&["metadata", "generation"], json!(1));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            let status = new.get("status").cloned();
            let managed = new.at(&["metadata", "managedFields"]).cloned();
            *new = old.clone();
            match status {
                Some(status) => new["status"] = status,
                None => {
                    new.remove_at(&["status"]);
                }
            }
            match managed {
                Some(managed) => new.set_at(&["metadata", "managedFields"], managed),
                None => {
                    new.remove_at(&["metadata", "managedFields"]);
                }
            }
            return;
        }
        if self.has_status {
            match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => {
                    new.remove_at(&["status"]);
                }
            }
        }
        if without_metadata(new) != without_metadata(old) {
            let next = old.generation() + 1;
            new.set_at(&["metadata", "generation"], json!(next));
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let known = old.map(ObjectExt::finalizers).unwrap_or_default();
        let mut added: Vec<&str> =
            object.finalizers().into_iter().filter(|name| !known.contains(name)).collect();
        added.sort_unstable();
        added.into_iter().flat_map(finalizer_warnings).collect()
    }

    fn custom_fields(&self, object: &Value) -> Vec<(String, String)> {
        let text = |path: &JsonPath| match path.find(object).first() {
            None | Some(Value::Null) => String::new(),
            Some(value) => kinds::crd::jsonpath::print(value),
        };
        self.selectable.iter().map(|(name, path)| (name.clone(), text(path))).collect()
    }

    fn is_current(&self, revision: u64) -> bool {
        self.version == self.storage && revision >= self.current_from
    }

    fn renew(&self, object: &mut Value) {
        let stored = GroupVersion::parse(object.api_version()).map(|version| version.version);
        let stored = stored.unwrap_or_else(|| self.storage.clone());
        self.prune(object, &stored, true);
        if stored != self.version {
            let version = GroupVersion::new(&self.group, &self.version).to_string();
            object["apiVersion"] = version.into();
            self.prune(object, &self.version, false);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        self.cells.cells(object, now)
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        match subresource {
            "status" => &["metadata", "spec"],
            _ if self.has_status => &["status"],
            _ => &[],
        }
    }

    fn scale(&self) -> Option<ScalePaths> {
        self.scale.clone()
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }
}

/// What upstream says of finalizers that may clash with others'.
fn finalizer_warnings(name: &str) -> Vec<String> {
    const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];
    let quoted = objects::field::quote(name);
    let mut out: Vec<String> = objects::names::qualified_name(name)
        .into_iter()
        .map(|why| format!("metadata.finalizers: {quoted}: {why}"))
        .collect();
    if !name.contains('/') && !STANDARD.contains(&name) {
        let how = if name.contains('.') { " including a path (/)" } else { "" };
        out.push(format!(
            "metadata.finalizers: {quoted}: prefer a domain-qualified finalizer name{how} to avoid \
             accidental conflicts with other finalizer writers"
        ));
    }
    out
}
