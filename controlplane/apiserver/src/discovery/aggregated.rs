//! The aggregated discovery document.

use kinds::{Kind, Registry};
use serde_json::{Value, json};

/// `APIGroupDiscoveryList` of the core group, or of all named groups.
pub(super) fn document(registry: &Registry, core: bool, version: &str) -> Value {
    let items: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let mut kinds: Vec<&Kind> = version.kinds.iter().map(AsRef::as_ref).collect();
                    kinds.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
                    json!({
                        "version": version.name,
                        "resources": kinds.iter().map(|kind| resource(kind)).collect::<Vec<_>>(),
                        "freshness": "Current",
                    })
                })
                .collect();
            let metadata = match group.name.is_empty() {
                true => json!({}),
                false => json!({"name": group.name}),
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(kind: &Kind) -> Value {
    let names = &kind.names;
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": names.plural,
        "responseKind": response("", "", &names.kind),
        "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": names.singular,
        "verbs": kind.verbs,
    });
    if kind.definition.is_some() {
        entry["responseKind"] = response(&names.group, &names.version, &names.kind);
    }
    if !names.short_names.is_empty() {
        entry["shortNames"] = json!(names.short_names);
    }
    if !names.categories.is_empty() {
        entry["categories"] = json!(names.categories);
    }
    if !kind.subresources.is_empty() {
        let mut subresources: Vec<Value> = kind
            .subresources
            .iter()
            .map(|subresource| {
                let response = match &subresource.kind {
                    Some((group, version, kind)) => response(group, version, kind),
                    None => entry["responseKind"].clone(),
                };
                json!({
                    "subresource": subresource.name,
                    "responseKind": response,
                    "verbs": subresource.verbs,
                })
            })
            .collect();
        subresources.sort_by(|a, b| a["subresource"].as_str().cmp(&b["subresource"].as_str()));
        entry["subresources"] = Value::Array(subresources);
    }
    entry
}
