//! What a registry entry is.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, GroupKind, GroupResource, GroupVersion, GroupVersionKind};
use serde_json::Value;

use objects::names::{self, NameCheck};

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
    /// Group, version, kind of its bodies when they differ from the parent's. Group and version
    /// are both empty when they are the parent's, as discovery then leaves them out.
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
    /// Selectable fields whose names are known at run time only: those of a custom resource.
    fn custom_fields(&self, _object: &Value) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Whether the stored JSON of a revision has today's form. A custom resource's has not if its
    /// definition has changed since.
    fn is_current(&self, _revision: u64) -> bool {
        true
    }
    /// Puts an object as it is stored into today's form of this entry's version.
    fn renew(&self, _object: &mut Value) {}
    /// The cells of a Table row, one per column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell>;
    /// The grace period of a delete, in seconds: `asked` is the client's wish. `None` deletes at
    /// once, without a `deletionGracePeriodSeconds`.
    fn delete_grace_secs(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
    /// How `metadata.name` is spelled, for the validation of metadata.
    fn name_check(&self) -> NameCheck {
        names::name_is_dns_subdomain
    }
    /// The fields that a write through a subresource (empty: the main resource) cannot own,
    /// because [`Behaviour::prepare_update`] puts them back; server-side apply takes them out of
    /// the applied set. Dotted paths.
    fn reset_fields(&self, _subresource: &str) -> &'static [&'static str] {
        &[]
    }
    /// What every answer about the resource warns of, if it is deprecated.
    fn deprecation(&self) -> Option<&str> {
        None
    }
    /// Where the `scale` subresource reads and writes; `None` for kinds without one.
    fn scale(&self) -> Option<ScalePaths> {
        None
    }
    /// Whether a PUT of an absent object creates it.
    fn creates_on_update(&self) -> bool {
        false
    }
    /// Whether a PUT without a resourceVersion is taken, last writer winning.
    fn unconditional_update(&self) -> bool {
        true
    }
}

/// Where a kind keeps what `autoscaling/v1.Scale` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// Path of the wanted number of replicas, such as `["spec", "replicas"]`.
    pub spec_replicas: Vec<String>,
    /// Path of the number of replicas there are.
    pub status_replicas: Vec<String>,
    /// Where the selector of the counted objects is.
    pub selector: ScaleSelector,
}

/// Where a scale's selector is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScaleSelector {
    /// A `LabelSelector` at this path.
    LabelSelector(Vec<String>),
    /// A map of labels at this path.
    Labels(Vec<String>),
    /// A selector written as a string at this path (CustomResourceDefinitions).
    Text(Vec<String>),
    /// There is none.
    None,
}

/// The type and resource under which objects are stored, shared by all versions of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// API group, empty for core.
    pub group: String,
    /// Version whose form is stored.
    pub version: String,
    /// Kind in that version.
    pub kind: String,
    /// Plural resource name, which is the key's second part.
    pub plural: String,
}

/// Pure conversions between a served version and the stored one. Both set `apiVersion`.
#[derive(Clone, Copy)]
pub struct Conversion {
    /// From this entry's version to the stored form.
    pub to_storage: fn(&mut Value),
    /// From the stored form to this entry's version.
    pub from_storage: fn(&mut Value),
}

impl std::fmt::Debug for Conversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conversion")
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
    /// Name of the type in the schema table, such as `io.k8s.api.core.v1.Pod`; empty for a custom
    /// resource, whose schema is in its definition.
    pub schema: String,
    /// The form and place of storage; `None` for a kind that is never stored (reviews, bindings).
    pub storage: Option<Storage>,
    /// `storageVersionHash` of legacy discovery; empty when none is published.
    pub storage_version_hash: String,
    /// Conversion to and from the stored form; `None` when the versions are the same, or, for a
    /// custom resource, when only `apiVersion` differs.
    pub conversion: Option<Conversion>,
    /// Name of the CustomResourceDefinition that brought this entry in.
    pub definition: Option<String>,
}

impl Kind {
    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&self.names.group, &self.names.version, &self.names.kind)
    }

    /// Group and kind, as validation failures name an object's type: those of the stored form.
    pub fn group_kind(&self) -> GroupKind {
        let group = self.storage.as_ref().map_or(&self.names.group, |storage| &storage.group);
        GroupKind { group: group.clone(), kind: self.names.kind.clone() }
    }

    /// Group and plural name, as most failures name an object's type.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.names.group, &self.names.plural)
    }

    /// The `apiVersion` of this entry's objects.
    pub fn api_version(&self) -> String {
        GroupVersion::new(&self.names.group, &self.names.version).to_string()
    }

    /// Whether the main resource has a verb.
    pub fn serves(&self, verb: &str) -> bool {
        self.verbs.iter().any(|item| item == verb)
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|item| item.name == name)
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Turns an object of this version into its stored form.
    pub fn to_storage(&self, object: &mut Value) {
        match (self.conversion, &self.storage) {
            (Some(conversion), _) => (conversion.to_storage)(object),
            (None, Some(storage)) if storage.version != self.names.version => {
                let version = GroupVersion::new(&storage.group, &storage.version).to_string();
                object["apiVersion"] = Value::String(version);
            }
            (None, _) => {}
        }
    }

    /// Turns a stored object into this version's form.
    pub fn from_storage(&self, object: &mut Value) {
        match (self.conversion, &self.storage) {
            (Some(conversion), _) => (conversion.from_storage)(object),
            (None, Some(storage)) if storage.version != self.names.version => {
                object["apiVersion"] = Value::String(self.api_version());
            }
            (None, _) => {}
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind").field("names", &self.names).finish_non_exhaustive()
    }
}
