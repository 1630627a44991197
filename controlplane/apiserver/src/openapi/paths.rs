//! The paths of kinds: what can be done where, and with which parameters.
//!
//! Clients read here which kind a resource is, and that the server validates fields.

use std::sync::Arc;

use kinds::Kind;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;

/// Parameters of writes.
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
/// Parameters of deletes.
const DELETE: &[&str] =
    &["dryRun", "gracePeriodSeconds", "orphanDependents", "pretty", "propagationPolicy"];
/// Parameters of lists and watches.
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// The paths of some kinds.
pub(super) fn of(kinds: &[Arc<Kind>], schemas: &mut Schemas<'_>) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in kinds {
        let names = &kind.names;
        let root = if names.group.is_empty() {
            format!("/api/{}", names.version)
        } else {
            format!("/apis/{}/{}", names.group, names.version)
        };
        let base = if kind.namespaced() {
            format!("{root}/namespaces/{{namespace}}/{}", names.plural)
        } else {
            format!("{root}/{}", names.plural)
        };
        let collection = [("list", "get"), ("create", "post"), ("deletecollection", "delete")];
        add(&mut paths, &base, kind, &collection, schemas);
        let object = [("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];
        add(&mut paths, &format!("{base}/{{name}}"), kind, &object, schemas);
        if kind.namespaced() {
            add(&mut paths, &format!("{root}/{}", names.plural), kind, &[("list", "get")], schemas);
        }
        for subresource in &kind.subresources {
            let path = format!("{base}/{{name}}/{}", subresource.name);
            add_subresource(&mut paths, &path, kind, subresource);
        }
    }
    paths
}

fn add(
    paths: &mut Map<String, Value>,
    path: &str,
    kind: &Kind,
    verbs: &[(&str, &str)],
    schemas: &mut Schemas<'_>,
) {
    let mut item = Map::new();
    for (verb, method) in verbs.iter().filter(|(verb, _)| kind.serves(verb)) {
        let list = *verb == "list";
        let shown = schemas.kind(kind, list);
        item.insert((*method).into(), operation(kind, verb, Some(shown)));
    }
    if !item.is_empty() {
        item.insert("parameters".into(), path_parameters(path));
        paths.insert(path.to_string(), Value::Object(item));
    }
}

fn add_subresource(
    paths: &mut Map<String, Value>,
    path: &str,
    kind: &Kind,
    subresource: &kinds::Subresource,
) {
    let mut item = Map::new();
    for verb in &subresource.verbs {
        let method = match verb.as_str() {
            "get" => "get",
            "update" => "put",
            "patch" => "patch",
            "create" => "post",
            "delete" => "delete",
            _ => continue,
        };
        let mut made = operation(kind, verb, None);
        if let Some((group, version, name)) = &subresource.kind {
            made["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": name});
        }
        item.insert(method.into(), made);
    }
    item.insert("parameters".into(), path_parameters(path));
    paths.insert(path.to_string(), Value::Object(item));
}

fn operation(kind: &Kind, verb: &str, shown: Option<Value>) -> Value {
    let names = &kind.names;
    let parameters = match verb {
        "create" | "update" => WRITE.to_vec(),
        "patch" => [WRITE, &["force"]].concat(),
        "delete" | "deletecollection" => DELETE.to_vec(),
        "list" => LIST.to_vec(),
        _ => vec!["pretty"],
    };
    let parameters: Vec<Value> = parameters
        .into_iter()
        .map(|name| json!({"in": "query", "name": name, "schema": {"type": type_of(name)}}))
        .collect();
    let mut answer = json!({"description": "OK"});
    if let Some(shown) = shown {
        answer["content"] = json!({"application/json": {"schema": shown}});
    }
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind":
            {"group": names.group, "version": names.version, "kind": names.kind},
        "parameters": parameters,
        "responses": {"200": answer},
    })
}

fn type_of(parameter: &str) -> &'static str {
    match parameter {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "allowWatchBookmarks" | "watch" | "sendInitialEvents" | "force" | "orphanDependents" => {
            "boolean"
        }
        _ => "string",
    }
}

fn path_parameters(path: &str) -> Value {
    let named =
        ["namespace", "name"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    named
        .map(|name| json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}}))
        .collect()
}
