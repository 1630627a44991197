//! Groups of aggregated servers among our own.

use serde_json::{Value, json};

use super::metrics;
use crate::server::Server;

/// A group and version that is not the registry's, with its `APIResourceList` if that is known.
struct Served {
    group: String,
    version: String,
    group_priority: i64,
    version_priority: i64,
    is_available: bool,
    resources: Option<Value>,
}

fn served(server: &Server) -> Vec<Served> {
    let table = &server.aggregation.table;
    let mut all: Vec<Served> = table
        .all()
        .iter()
        .map(|target| Served {
            group: target.group.clone(),
            version: target.version.clone(),
            group_priority: target.group_priority,
            version_priority: target.version_priority,
            is_available: target.is_available,
            resources: table.resources(&target.name).map(|resources| (*resources).clone()),
        })
        .collect();
    if !all.iter().any(|one| one.group == metrics::GROUP && one.version == metrics::VERSION) {
        all.push(Served {
            group: metrics::GROUP.into(),
            version: metrics::VERSION.into(),
            group_priority: 100,
            version_priority: 100,
            is_available: true,
            resources: Some(metrics::resources()),
        });
    }
    // The preferred first: by priority, then by name.
    all.sort_by(|a, b| {
        b.group_priority
            .cmp(&a.group_priority)
            .then_with(|| a.group.cmp(&b.group))
            .then_with(|| b.version_priority.cmp(&a.version_priority))
            .then_with(|| a.version.cmp(&b.version))
    });
    all
}

fn by_group(all: Vec<Served>) -> Vec<Vec<Served>> {
    let mut groups: Vec<Vec<Served>> = Vec::new();
    for one in all {
        match groups.iter_mut().find(|group| group[0].group == one.group) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// Entries of `APIGroupList`. Groups of servers that do not answer are left out.
pub(crate) fn groups(server: &Server) -> Vec<Value> {
    let all = served(server).into_iter().filter(|one| one.is_available).collect();
    by_group(all).iter().map(|group| group_entry(group)).collect()
}

/// `/apis/GROUP`.
pub(crate) fn group(server: &Server, name: &str) -> Option<Value> {
    let mut entry = groups(server).into_iter().find(|group| group["name"] == name)?;
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn group_entry(group: &[Served]) -> Value {
    let versions: Vec<Value> = group
        .iter()
        .map(|one| {
            let full = format!("{}/{}", one.group, one.version);
            json!({"groupVersion": full, "version": one.version})
        })
        .collect();
    json!({"name": group[0].group, "versions": versions, "preferredVersion": versions[0]})
}

/// Items of `APIGroupDiscoveryList`. What does not answer is stale.
pub(crate) fn items(server: &Server) -> Vec<Value> {
    let groups = by_group(served(server));
    groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group
                .iter()
                .map(|one| {
                    let resources = one.resources.as_ref().map(resources).unwrap_or_default();
                    let is_fresh = one.is_available && one.resources.is_some();
                    json!({
                        "version": one.version, "resources": resources,
                        "freshness": if is_fresh { "Current" } else { "Stale" },
                    })
                })
                .collect();
            json!({"metadata": {"name": group[0].group}, "versions": versions})
        })
        .collect()
}

/// The older form of a list of resources in the newer one. PURE.
fn resources(list: &Value) -> Vec<Value> {
    let of = |one: &Value| {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_string();
        json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
    };
    let all = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_string();
    let mut out = Vec::new();
    for one in all.iter().filter(|one| !name(one).contains('/')) {
        let plural = name(one);
        let mut entry = json!({
            "resource": plural,
            "responseKind": of(one),
            "scope": if one["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": one["singularName"],
            "verbs": one["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if let Some(value) = one.get(field) {
                entry[field] = value.clone();
            }
        }
        let below: Vec<Value> = all
            .iter()
            .filter_map(|below| {
                let sub = name(below).strip_prefix(&format!("{plural}/"))?.to_string();
                Some(
                    json!({"subresource": sub, "responseKind": of(below), "verbs": below["verbs"]}),
                )
            })
            .collect();
        if !below.is_empty() {
            entry["subresources"] = json!(below);
        }
        out.push(entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_hang_below_their_resource() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder",
                "verbs": ["update"]},
        ]});
        let new = resources(&list);
        assert_eq!(new.len(), 1);
        assert_eq!(new[0]["resource"], "flunders");
        assert_eq!(new[0]["scope"], "Namespaced");
        assert_eq!(new[0]["shortNames"], json!(["fl"]));
        assert_eq!(new[0]["subresources"][0]["subresource"], "status");
    }
}
