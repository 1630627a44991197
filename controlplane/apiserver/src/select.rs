//! Label and field selectors of a request, and what they look at, derived once per stored version.

use std::collections::BTreeMap;

use kinds::Kind;
use objects::selector::{FieldSelector, Selector};
use objects::{ApiError, ObjectExt};
use serde_json::Value;
use store::Record;

use crate::call::Call;
use crate::encode;
use crate::query::Query;

/// What selectors see of one version of an object. It hangs on the store's record, so that every
/// list and every watcher of that version shares it.
#[derive(Debug, Default)]
struct Selectable {
    labels: BTreeMap<String, String>,
    fields: Vec<(String, String)>,
}

/// The selectors of a list, watch or deletecollection.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; a field that the kind does not offer is refused.
    pub(crate) fn parse(query: &Query, kind: &Kind) -> Result<Self, ApiError> {
        let bad =
            |error: objects::selector::SelectorError| ApiError::bad_request(error.to_string());
        let labels = Selector::parse(query.text("labelSelector")).map_err(bad)?;
        let fields = FieldSelector::parse(query.text("fieldSelector")).map_err(bad)?;
        let empty = Value::Object(serde_json::Map::new());
        let offered = kind.behaviour.fields(&empty);
        let custom = kind.behaviour.custom_fields(&empty);
        for requirement in &fields.0 {
            let name = requirement.field.as_str();
            let general = name == "metadata.name" || name == "metadata.namespace";
            let known = offered.iter().any(|(field, _)| *field == name)
                || custom.iter().any(|(field, _)| field == name);
            if !general && !known {
                return Err(ApiError::bad_request(unsupported_field(kind, name)));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Adds the requirement that the object has this name (a watch of one object).
    pub(crate) fn only(mut self, name: &str) -> Self {
        self.fields.0.push(objects::selector::FieldRequirement {
            field: "metadata.name".into(),
            value: name.into(),
            equal: true,
        });
        self
    }

    /// Whether every object is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether fields other than those of every object may be looked at.
    pub(crate) fn has_fields(&self) -> bool {
        !self.fields.is_everything()
    }

    /// The one name that can match, if the field selector says so.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether a stored object is selected.
    pub(crate) fn matches(&self, call: &Call, record: &Record) -> bool {
        let kind = &*call.kind;
        if self.is_everything() {
            return true;
        }
        // The versions of a custom resource may offer different fields of one record.
        let own;
        let seen = if kind.definition.is_some() && !self.fields.is_everything() {
            own = selectable(kind, &call.object(record));
            &own
        } else {
            record.attachment(|record| selectable(kind, &encode::parse(record)))
        };
        self.labels.matches(&seen.labels)
            && self.fields.matches(|field| {
                seen.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
            })
    }
}

fn selectable(kind: &Kind, object: &Value) -> Selectable {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let labels = object
        .labels()
        .map(|map| map.iter().map(|(key, value)| (key.clone(), text(value))).collect())
        .unwrap_or_default();
    let mut fields = vec![
        ("metadata.name".to_string(), object.name().to_string()),
        ("metadata.namespace".to_string(), object.namespace().to_string()),
    ];
    let special = kind.behaviour.fields(object);
    fields.extend(special.into_iter().map(|(name, value)| (name.to_string(), value)));
    fields.extend(kind.behaviour.custom_fields(object));
    Selectable { labels, fields }
}

fn unsupported_field(kind: &Kind, field: &str) -> String {
    /// Kinds of the core group that convert their field labels themselves, upstream.
    const OWN_WORDS: [&str; 6] =
        ["events", "namespaces", "nodes", "pods", "replicationcontrollers", "secrets"];
    let names = &kind.names;
    let own_words = names.group.is_empty() && OWN_WORDS.contains(&names.plural.as_str());
    if kind.definition.is_some() || own_words {
        return format!("field label not supported: {field}");
    }
    format!(
        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    )
}
