//! The older discovery documents.

use kinds::{Kind, Registry};
use objects::GroupVersion;
use serde_json::{Value, json};

use crate::config::Config;

/// `/api`.
pub(super) fn versions(config: &Config) -> Value {
    let address = std::net::SocketAddr::new(config.advertise_address, config.advertise_port);
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()},
        ],
    })
}

/// `/apis`.
pub(super) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        registry.groups().iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_entry(group: &kinds::Group) -> Value {
    let version = |name: &str| {
        json!({
            "groupVersion": GroupVersion::new(&group.name, name).to_string(),
            "version": name,
        })
    };
    let versions: Vec<Value> = group.versions.iter().map(|served| version(&served.name)).collect();
    json!({
        "name": group.name,
        "versions": versions,
        "preferredVersion": versions.first().cloned().unwrap_or_default(),
    })
}

/// `/apis/GROUP`.
pub(super) fn group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = registry.groups();
    let group = groups.iter().find(|group| group.name == name && !name.is_empty())?;
    let mut entry = group_entry(group);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub(super) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds = registry.version(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut resources: Vec<Value> = kinds.iter().flat_map(|kind| resource(kind)).collect();
    if kinds.iter().any(|kind| kind.definition.is_none()) {
        resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": GroupVersion::new(group, version).to_string(),
        "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    Some(list)
}

fn resource(kind: &Kind) -> Vec<Value> {
    let names = &kind.names;
    let mut out = Vec::new();
    if !kind.verbs.is_empty() {
        let mut entry = json!({
            "name": names.plural,
            "singularName": names.singular,
            "namespaced": kind.namespaced(),
            "kind": names.kind,
            "verbs": kind.verbs,
        });
        if !names.short_names.is_empty() {
            entry["shortNames"] = json!(names.short_names);
        }
        if !names.categories.is_empty() {
            entry["categories"] = json!(names.categories);
        }
        if !kind.storage_version_hash.is_empty() {
            entry["storageVersionHash"] = json!(kind.storage_version_hash);
        }
        out.push(entry);
    }
    for subresource in &kind.subresources {
        let mut entry = json!({
            "name": format!("{}/{}", names.plural, subresource.name),
            "singularName": "",
            "namespaced": kind.namespaced(),
            "kind": names.kind,
            "verbs": subresource.verbs,
        });
        if let Some((group, version, kind)) = &subresource.kind {
            entry["kind"] = json!(kind);
            if !group.is_empty() {
                entry["group"] = json!(group);
            }
            if !version.is_empty() {
                entry["version"] = json!(version);
            }
        }
        out.push(entry);
    }
    out
}
