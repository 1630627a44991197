//! The table rows say what a real server's discovery says.

use serde_json::{Map, Value, json};

use super::golden;
use crate::{Kind, Scope, builtin};

fn resource(kind: &Kind) -> Value {
    let mut out = Map::new();
    out.insert("resource".into(), json!(kind.names.plural));
    out.insert("responseKind".into(), json!({"group": "", "version": "", "kind": kind.names.kind}));
    let scope = if kind.scope == Scope::Cluster { "Cluster" } else { "Namespaced" };
    out.insert("scope".into(), json!(scope));
    out.insert("singularResource".into(), json!(kind.names.singular));
    out.insert("verbs".into(), json!(kind.verbs));
    if !kind.names.short_names.is_empty() {
        out.insert("shortNames".into(), json!(kind.names.short_names));
    }
    if !kind.names.categories.is_empty() {
        out.insert("categories".into(), json!(kind.names.categories));
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let own = (String::new(), String::new(), kind.names.kind.clone());
            let (group, version, kind) = sub.kind.clone().unwrap_or(own);
            json!({
                "subresource": sub.name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        out.insert("subresources".into(), Value::Array(subresources));
    }
    Value::Object(out)
}

#[test]
fn rows_match_recorded_discovery() {
    let Some(path) = golden("discovery.json") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let mut wanted = Vec::new();
    for half in ["api", "apis"] {
        for group in recorded[half]["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or("");
            for version in group["versions"].as_array().unwrap() {
                let resources = version["resources"].as_array().unwrap().clone();
                wanted.push((name.to_string(), version["version"].clone(), resources));
            }
        }
    }
    let mut ours = Vec::new();
    for group in builtin().groups() {
        for version in group.versions {
            let resources: Vec<Value> = version.kinds.iter().map(|kind| resource(kind)).collect();
            ours.push((group.name.clone(), json!(version.name), resources));
        }
    }
    assert_eq!(wanted.len(), ours.len());
    for (wanted, ours) in wanted.iter().zip(&ours) {
        assert_eq!(wanted, ours);
    }
}

#[test]
fn hashes_match_recorded_discovery() {
    let files = [("raw_api_v1.json", "", "v1"), ("raw_apis_apps_v1.json", "apps", "v1")];
    for (file, group, version) in files {
        let Some(path) = golden(file) else { return };
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for item in recorded["resources"].as_array().unwrap() {
            let name = item["name"].as_str().unwrap();
            if name.contains('/') {
                continue;
            }
            let registry = builtin();
            let kind = registry.resource(group, version, name).unwrap();
            let wanted = item["storageVersionHash"].as_str().unwrap_or("");
            assert_eq!(kind.storage_version_hash, wanted, "{name}");
        }
    }
}

#[test]
fn columns_match_recorded_tables() {
    let Some(path) = golden("table-columns.tsv") else { return };
    let registry = builtin();
    for line in std::fs::read_to_string(path).unwrap().lines().filter(|l| !l.starts_with('#')) {
        let [group, version, plural, columns] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let kind = registry.resource(group, version, plural).unwrap();
        let ours: Vec<String> = kind
            .columns
            .iter()
            .map(|c| format!("{}/{}/{}/{}", c.name, c.kind, c.format, c.priority))
            .collect();
        assert_eq!(ours.join("; "), columns, "{plural}");
    }
}
