//! What a view needs to know of an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use objects::ObjectKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object that can be kept in a view: any `k8s_openapi` type with metadata, or [`Partial`].
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;

    /// Namespace and name.
    fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// `metadata.uid`, `""` when absent.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or("")
    }

    /// `metadata.resourceVersion` as a number; 0 when absent or not a number.
    fn revision(&self) -> u64 {
        let text = self.meta().resource_version.as_deref().unwrap_or("");
        text.parse().unwrap_or(0)
    }

    /// Whether deletion has begun.
    fn is_terminating(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// The owner reference that has `controller: true`.
    fn controller(&self) -> Option<&OwnerReference> {
        let owners = self.meta().owner_references.as_deref().unwrap_or(&[]);
        owners.iter().find(|owner| owner.controller == Some(true))
    }
}

impl<K> Object for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

/// The metadata of an object of any kind (`PartialObjectMetadata`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partial {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Object for Partial {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}
