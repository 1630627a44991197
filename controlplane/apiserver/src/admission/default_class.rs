//! A claim that names no storage class, and an Ingress that names no class, get the default one.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/storage/storageclass/setdefault` and
//! `plugin/pkg/admission/network/defaultingressclass`, v1.36.

use objects::ObjectExt;
use serde_json::{Value, json};

use super::Admission;
use crate::encode;
use crate::verbs::list;

const STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

/// Sets `spec.storageClassName` of a claim.
pub(super) fn of_claim(admission: &Admission<'_>, claim: &mut Value) {
    let annotation = "volume.beta.kubernetes.io/storage-class";
    if !is_named(claim, "storageClassName", annotation)
        && let Some(name) = default(admission, "storage.k8s.io", "storageclasses", &STORAGE)
    {
        claim.set_at(&["spec", "storageClassName"], json!(name));
    }
}

/// Sets `spec.ingressClassName` of an Ingress.
pub(super) fn of_ingress(admission: &Admission<'_>, ingress: &mut Value) {
    if !is_named(ingress, "ingressClassName", "kubernetes.io/ingress.class")
        && let Some(name) = default(admission, "networking.k8s.io", "ingressclasses", &INGRESS)
    {
        ingress.set_at(&["spec", "ingressClassName"], json!(name));
    }
}

fn is_named(object: &Value, field: &str, annotation: &str) -> bool {
    object.at(&["spec", field]).is_some_and(|value| !value.is_null())
        || object.annotations().is_some_and(|map| map.contains_key(annotation))
}

/// Of several defaults the newest counts, then the first by name.
fn default(
    admission: &Admission<'_>,
    group: &str,
    plural: &str,
    annotations: &[&str],
) -> Option<String> {
    let kind = admission.call.registry.resource(group, "v1", plural)?;
    let is_default = |class: &Value| {
        class.annotations().is_some_and(|map| {
            annotations.iter().any(|key| map.get(*key).is_some_and(|value| value == "true"))
        })
    };
    let mut defaults: Vec<(String, String)> = list::every(admission.server, kind, "")
        .iter()
        .map(|record| encode::parse(record))
        .filter(is_default)
        .map(|class| {
            let created = class.str_at(&["metadata", "creationTimestamp"]).to_string();
            (created, class.name().to_string())
        })
        .collect();
    defaults.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    defaults.into_iter().next().map(|(_, name)| name)
}
