//! `metadata.managedFields`: who owns which fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fieldset::FieldSet;

/// Managers of plain writes beyond this number are folded into one.
const UPDATERS_MAX: usize = 10;
/// The manager that old plain writes are folded into.
const ANCIENT: &str = "ancient-changes";

/// What a manager did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// What tells managers apart. The version of an apply is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Id {
    pub(super) fn new(
        manager: &str,
        operation: Operation,
        api_version: &str,
        subresource: &str,
    ) -> Self {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Self {
            manager: manager.to_string(),
            operation,
            api_version: api_version.to_string(),
            subresource: subresource.to_string(),
        }
    }

    /// As conflicts name it: `"NAME"`, with subresource and, for plain writes, version.
    pub(super) fn printed(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) fields: FieldSet,
    pub(super) api_version: String,
    /// When the manager last gained fields; RFC 3339.
    pub(super) time: Option<String>,
}

/// All managers of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Managed(pub(super) BTreeMap<Id, Owned>);

impl Managed {
    /// Reads `metadata.managedFields` of an object; `None` if it is malformed.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let mut managed = Self::default();
        let list = object["metadata"]["managedFields"].as_array();
        for entry in list.into_iter().flatten() {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let id = Id::new(text("manager"), operation, text("apiVersion"), text("subresource"));
            let owned = Owned {
                fields: FieldSet::from_json(&entry["fieldsV1"]),
                api_version: text("apiVersion").to_string(),
                time: entry["time"].as_str().map(String::from),
            };
            managed.0.insert(id, owned);
        }
        Some(managed)
    }

    /// Writes `metadata.managedFields`, or removes it if there are no managers.
    pub(super) fn write(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.0.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let mut entries: Vec<(&Id, &Owned)> = self.0.iter().collect();
        // RFC 3339 in UTC sorts as text.
        entries.sort_by_key(|(id, owned)| {
            (id.operation, owned.time.as_deref(), &id.manager, &owned.api_version, &id.subresource)
        });
        let list = entries.into_iter().map(|(id, owned)| entry(id, owned)).collect();
        metadata.insert("managedFields".to_string(), Value::Array(list));
    }

    /// Folds the oldest managers of plain writes into one per version once there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(Option<String>, Id)> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, owned)| (owned.time.clone(), id.clone()))
            .collect();
        let mut count = updaters.len();
        updaters.sort();
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for (_, id) in updaters {
            if count <= UPDATERS_MAX {
                break;
            }
            let version = id.api_version.clone();
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = Id::new(ANCIENT, Operation::Update, &version, "");
            if !self.0.contains_key(&bucket)
                && let Some(owned) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), owned);
            }
            if bucket == id {
                continue;
            }
            if let Some(owned) = self.0.remove(&id)
                && let Some(ancient) = self.0.get_mut(&bucket)
            {
                ancient.fields = ancient.fields.union(&owned.fields);
                ancient.time = owned.time;
                count -= 1;
            }
        }
    }
}

fn entry(id: &Id, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let operation = match id.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    entry.insert("operation".into(), json!(operation));
    entry.insert("apiVersion".into(), json!(owned.api_version));
    entry.insert("fieldsType".into(), json!("FieldsV1"));
    entry.insert("fieldsV1".into(), owned.fields.to_json());
    for (name, text) in [("manager", &id.manager), ("subresource", &id.subresource)] {
        if !text.is_empty() {
            entry.insert(name.into(), json!(text));
        }
    }
    if let Some(time) = &owned.time {
        entry.insert("time".into(), json!(time));
    }
    Value::Object(entry)
}
