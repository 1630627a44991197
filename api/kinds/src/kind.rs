//! What a registry entry is.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::FieldErrors;
use objects::k8s::jiff::Timestamp;
use serde_json::Value;

/// Whether objects live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One per cluster and name.
    Cluster,
    /// One per namespace and name.
    Namespaced,
}

/// The names of a kind in one API version, as discovery publishes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// API group, empty for core.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `pods`.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
}

/// A subresource as discovery publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, …
    pub name: String,
    /// Group, version, kind of its bodies when they differ from the parent's.
    pub kind: Option<(String, String, String)>,
    /// Verbs, in discovery's order.
    pub verbs: Vec<String>,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `date`, …
    pub kind: String,
    /// `name` for the name column, else usually empty.
    pub format: String,
    /// Help text.
    pub description: String,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// A cell of a Table row: a JSON string, number, boolean or null.
pub type Cell = Value;

/// What a write knows besides the objects.
#[derive(Debug, Clone)]
pub struct WriteContext<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// The authenticated user's name.
    pub user: &'a str,
    /// The groups of the user.
    pub groups: &'a [String],
    /// The user's extra attributes.
    pub extra: &'a BTreeMap<String, Vec<String>>,
    /// The subresource written through, empty for the main resource.
    pub subresource: &'a str,
    /// A random version 4 uid for whatever in the object needs one.
    pub fresh_uid: &'a str,
}

/// What is special about a kind; every function has an empty default. The pipeline calls them in
/// this order for a write: `default`, `prepare_*`, `validate*`. Objects passed in are already
/// decoded against the schema, so field types can be relied on.
pub trait Behaviour: Send + Sync {
    /// Fills in defaults that depend on other fields; plain ones come from the schema.
    fn default(&self, _object: &mut Value) {}
    /// Clears what a client may not set at creation (such as status).
    fn prepare_create(&self, _object: &mut Value, _context: &WriteContext<'_>) {}
    /// Restores what an update through this (sub)resource may not change, and decides whether the
    /// generation goes up.
    fn prepare_update(&self, _new: &mut Value, _old: &Value, _context: &WriteContext<'_>) {}
    /// Reports what is wrong with a new object. Metadata is validated elsewhere.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}
    /// Reports what is wrong with a change, immutability included. Called instead of `validate`;
    /// the default validates the new object.
    fn validate_update(
        &self,
        new: &Value,
        _old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        self.validate(new, errors);
    }
    /// Texts for `Warning` headers.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The cells of a Table row, one per column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell>;
    /// The grace period of a delete, in seconds: `asked` is the client's wish. `None` deletes at
    /// once, without a `deletionGracePeriodSeconds`.
    fn delete_grace_secs(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
}

/// One registry entry.
pub struct Kind {
    /// Names in discovery.
    pub names: Names,
    /// Scope.
    pub scope: Scope,
    /// Verbs of the main resource, in discovery's order; empty if only subresources are served.
    pub verbs: Vec<String>,
    /// Subresources, by name.
    pub subresources: Vec<Subresource>,
    /// Columns of the Table.
    pub columns: Vec<Column>,
    /// Behaviour.
    pub behaviour: Arc<dyn Behaviour>,
}
