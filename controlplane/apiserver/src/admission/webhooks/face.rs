//! What webhooks see of a write through a subresource: a Scale or a Binding, and not the object in
//! which it is kept. PURE.

use kinds::ScalePaths;
use objects::ObjectExt as _;
use serde_json::{Value, json};

use crate::call::Call;
use crate::subresources;

/// How an object is shown.
pub(super) enum Face {
    /// As it is.
    Whole,
    /// As its scale.
    Scale(ScalePaths),
    /// As the binding of a pod to its node.
    Binding,
}

impl Face {
    pub(super) fn of(call: &Call) -> Self {
        match call.path.subresource.as_str() {
            "scale" => call.kind.behaviour.scale().map_or(Self::Whole, Self::Scale),
            "binding" => Self::Binding,
            _ => Self::Whole,
        }
    }

    /// Whether what is shown comes into being with the write.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::Binding)
    }

    pub(super) fn show(&self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Scale(paths) => subresources::show_scale(object, paths),
            Self::Binding => json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {
                    "name": object.name(), "namespace": object.namespace(), "uid": object.uid(),
                },
                "target": {
                    "apiVersion": "v1", "kind": "Node", "name": object.str_at(&["spec", "nodeName"]),
                },
            }),
        }
    }

    /// Writes back into the object what was changed of its face.
    pub(super) fn put(&self, face: Value, object: &mut Value) {
        match self {
            Self::Whole => *object = face,
            Self::Scale(paths) => {
                let path: Vec<&str> = paths.spec_replicas.iter().map(String::as_str).collect();
                let wanted = face.i64_at(&["spec", "replicas"]).unwrap_or(0);
                object.set_at(&path, json!(wanted));
            }
            Self::Binding => {
                object.set_at(&["spec", "nodeName"], json!(face.str_at(&["target", "name"])));
            }
        }
    }
}
