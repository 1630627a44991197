//! A built-in kind as one table row.

use std::sync::Arc;

use crate::columns::{self, ColumnRow};
use crate::kind::{Behaviour, Conversion, Kind, Names, Scope, Storage, Subresource};
use crate::plain::Plain;
use crate::registry::{schema_name, storage_version_hash};

/// All verbs of an ordinary resource, in discovery's order.
pub(crate) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Verbs of a subresource that shows part of its parent.
pub(crate) const GPU: &[&str] = &["get", "patch", "update"];
/// Verbs of a proxy.
pub(crate) const CDGPU: &[&str] = &["create", "delete", "get", "patch", "update"];
/// The `status` subresource.
pub(crate) const STATUS: SubRow = sub("status", GPU);
/// The `scale` subresource.
pub(crate) const SCALE: SubRow = sub("scale", GPU).of("autoscaling", "v1", "Scale");

/// A subresource as written in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubRow {
    name: &'static str,
    verbs: &'static [&'static str],
    kind: Option<(&'static str, &'static str, &'static str)>,
}

/// A subresource whose bodies are of the parent's kind.
pub(crate) const fn sub(name: &'static str, verbs: &'static [&'static str]) -> SubRow {
    SubRow { name, verbs, kind: None }
}

impl SubRow {
    /// Names the kind of the bodies.
    pub(crate) const fn of(
        mut self,
        group: &'static str,
        version: &'static str,
        kind: &'static str,
    ) -> Self {
        self.kind = Some((group, version, kind));
        self
    }

    fn to_subresource(self) -> Subresource {
        Subresource {
            name: self.name.to_string(),
            kind: self.kind.map(|(group, version, kind)| {
                (group.to_string(), version.to_string(), kind.to_string())
            }),
            verbs: owned(self.verbs),
        }
    }
}

/// One served resource of one version.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    scope: Scope,
    verbs: &'static [&'static str],
    short: &'static [&'static str],
    categories: &'static [&'static str],
    subresources: &'static [SubRow],
    columns: &'static [ColumnRow],
    behaviour: fn() -> Arc<dyn Behaviour>,
    stored_as: Option<(&'static str, &'static str, Conversion)>,
}

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn plain() -> Arc<dyn Behaviour> {
    Arc::new(Plain::new())
}

impl Row {
    /// A namespaced kind with all verbs and no behaviour.
    pub(crate) const fn new(
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
    ) -> Self {
        Self {
            version,
            kind,
            plural,
            singular,
            scope: Scope::Namespaced,
            verbs: ALL_VERBS,
            short: &[],
            categories: &[],
            subresources: &[],
            columns: columns::PLAIN,
            behaviour: plain,
            stored_as: None,
        }
    }

    /// One per cluster.
    pub(crate) const fn cluster(mut self) -> Self {
        self.scope = Scope::Cluster;
        self
    }

    /// Fewer verbs.
    pub(crate) const fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    /// Short names.
    pub(crate) const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short = names;
        self
    }

    /// Categories.
    pub(crate) const fn categories(mut self, names: &'static [&'static str]) -> Self {
        self.categories = names;
        self
    }

    /// Subresources, by name.
    pub(crate) const fn subresources(mut self, rows: &'static [SubRow]) -> Self {
        self.subresources = rows;
        self
    }

    /// Columns.
    pub(crate) const fn columns(mut self, columns: &'static [ColumnRow]) -> Self {
        self.columns = columns;
        self
    }

    /// Behaviour.
    pub(crate) const fn behaves(mut self, make: fn() -> Arc<dyn Behaviour>) -> Self {
        self.behaviour = make;
        self
    }

    /// Stored in another group and version (of the same kind and plural).
    pub(crate) const fn stored_as(
        mut self,
        group: &'static str,
        version: &'static str,
        conversion: Conversion,
    ) -> Self {
        self.stored_as = Some((group, version, conversion));
        self
    }

    /// The registry entry.
    pub(crate) fn to_kind(self, group: &str) -> Kind {
        let stored = self.verbs.contains(&"watch");
        let (storage_group, storage_version) =
            self.stored_as.map_or((group, self.version), |(group, version, _)| (group, version));
        let hash = storage_version_hash(storage_group, storage_version, self.kind);
        Kind {
            names: Names {
                group: group.to_string(),
                version: self.version.to_string(),
                kind: self.kind.to_string(),
                list_kind: format!("{}List", self.kind),
                plural: self.plural.to_string(),
                singular: self.singular.to_string(),
                short_names: owned(self.short),
                categories: owned(self.categories),
            },
            scope: self.scope,
            verbs: owned(self.verbs),
            subresources: self.subresources.iter().map(|row| row.to_subresource()).collect(),
            columns: self.columns.iter().map(|row| row.to_column()).collect(),
            behaviour: (self.behaviour)(),
            schema: schema_name(group, self.version, self.kind),
            storage: stored.then(|| Storage {
                group: storage_group.to_string(),
                version: storage_version.to_string(),
                kind: self.kind.to_string(),
                plural: self.plural.to_string(),
            }),
            storage_version_hash: if stored { hash } else { String::new() },
            conversion: self.stored_as.map(|(_, _, conversion)| conversion),
            definition: None,
        }
    }
}
