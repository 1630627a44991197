//! A claim that names no storage class gets the default one.

use objects::ObjectExt;
use serde_json::{Value, json};

use super::Admission;
use crate::encode;
use crate::verbs::list;

const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Sets `spec.storageClassName`. Of several defaults the newest counts, then the first by name.
pub(super) fn mutate(admission: &Admission<'_>, new: &mut Value) {
    let named = new.at(&["spec", "storageClassName"]).is_some_and(|value| !value.is_null());
    let annotated = new
        .annotations()
        .is_some_and(|map| map.contains_key("volume.beta.kubernetes.io/storage-class"));
    if named || annotated {
        return;
    }
    let registry = &admission.call.registry;
    let Some(kind) = registry.resource("storage.k8s.io", "v1", "storageclasses") else { return };
    let mut defaults: Vec<(String, String)> = list::every(admission.server, kind, "")
        .iter()
        .map(|record| encode::parse(record))
        .filter(|class| {
            class.annotations().is_some_and(|map| {
                DEFAULT.iter().any(|key| map.get(*key).is_some_and(|value| value == "true"))
            })
        })
        .map(|class| {
            let created = class.str_at(&["metadata", "creationTimestamp"]).to_string();
            (created, class.name().to_string())
        })
        .collect();
    defaults.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    if let Some((_, name)) = defaults.into_iter().next() {
        new.set_at(&["spec", "storageClassName"], json!(name));
    }
}
