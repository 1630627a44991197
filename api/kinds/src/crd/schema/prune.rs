//! Dropping what a schema does not know.

use serde_json::Value;

use super::Node;

/// Drops fields that the schema does not specify, at any depth. `is_resource` says that the value
/// is a whole object, whose type and metadata stay.
pub fn prune(value: &mut Value, node: &Node, is_resource: bool) {
    match value {
        Value::Object(map) => {
            let own = |key: &str| {
                (is_resource || node.embedded) && matches!(key, "apiVersion" | "kind" | "metadata")
            };
            let open = node.additional.is_some() || node.preserves_unknown;
            map.retain(|key, _| open || own(key) || node.property(key).is_some());
            for (key, value) in map.iter_mut() {
                if own(key) {
                    continue;
                }
                if let Some(child) = node.child(key) {
                    prune(value, child, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(node) = node.items.as_deref() {
                for item in items {
                    prune(item, node, false);
                }
            }
        }
        _ => {}
    }
}
