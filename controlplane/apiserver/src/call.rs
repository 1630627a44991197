//! One authenticated request on a resource, with everything that its handler reads.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use kinds::{Kind, Registry};
use objects::{ApiError, GroupResource};
use serde_json::Value;
use store::Record;

use crate::audit::Notes;
use crate::encode::View;
use crate::identity::User;
use crate::query::Query;
use crate::route::{ResourcePath, Verb};

/// A request on a resource.
#[derive(Debug, Clone)]
pub struct Call {
    /// Verb.
    pub verb: Verb,
    /// The resource's path.
    pub path: ResourcePath,
    /// Query parameters.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    /// Who calls.
    pub user: User,
    /// The (parent) resource's registry entry.
    pub kind: Arc<Kind>,
    /// How stored records are shown in this version.
    pub view: View,
    /// The registry this request sees from beginning to end.
    pub registry: Registry,
    /// When the request came.
    pub now: Timestamp,
    /// What is to be said about it in the audit log.
    pub notes: Notes,
}

impl Call {
    /// The namespace of the object, empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.path.object_namespace()
    }

    /// The name in the path, empty for a collection.
    pub fn name(&self) -> &str {
        &self.path.name
    }

    /// The resource as failures name it.
    pub fn resource(&self) -> GroupResource {
        self.kind.group_resource()
    }

    /// The store's key of an object of this kind.
    pub fn key(&self, name: &str) -> String {
        key(&self.kind, self.namespace(), name)
    }

    /// The store's scope of the collection: one namespace, or all.
    pub fn scope(&self) -> String {
        scope(&self.kind, self.namespace())
    }

    /// The record's object in this version.
    pub fn object(&self, record: &Record) -> Value {
        self.view.object(&self.kind, record)
    }

    /// 404 for the object in the path.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource(), self.name())
    }

    /// The same call on another kind, namespace and name, as the same user: for what a request
    /// does besides its own object.
    pub fn on(&self, kind: &Arc<Kind>, namespace: &str, name: &str, verb: Verb) -> Self {
        Self {
            verb,
            path: ResourcePath {
                group: kind.names.group.clone(),
                version: kind.names.version.clone(),
                namespace: namespace.to_string(),
                resource: kind.names.plural.clone(),
                name: name.to_string(),
                ..ResourcePath::default()
            },
            query: Query::default(),
            view: View::new(kind),
            kind: kind.clone(),
            ..self.clone()
        }
    }
}

fn place(kind: &Kind) -> (&str, &str) {
    match &kind.storage {
        Some(storage) => (&storage.group, &storage.plural),
        None => (&kind.names.group, &kind.names.plural),
    }
}

/// The store's key of an object.
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    let (group, plural) = place(kind);
    format!("{group}/{plural}/{namespace}/{name}")
}

/// The store's scope of a collection; an empty namespace means all of a namespaced kind.
pub(crate) fn scope(kind: &Kind, namespace: &str) -> String {
    let (group, plural) = place(kind);
    match (kind.namespaced(), namespace.is_empty()) {
        (true, false) => format!("{group}/{plural}/{namespace}/"),
        (true, true) | (false, _) => format!("{group}/{plural}/"),
    }
}
