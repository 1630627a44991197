//! Definitions become registry entries.

use kinds::Kind;
use kinds::crd::{self, Served};
use serde_json::Value;

use super::SCOPE;
use super::custom::Custom;
use super::definitions::Known;
use crate::server::Server;

/// Takes in a definition by its store key; `None` for one that is gone.
pub(crate) fn apply(server: &Server, key: &str, definition: Option<&Value>) {
    let name = key.strip_prefix(SCOPE).unwrap_or(key).trim_start_matches('/');
    match definition {
        Some(definition) => install(server, name, definition, false),
        None => {
            server.registry.rcu(|registry| registry.with_definition(name, []));
            server.schemas.definitions.forget(name);
        }
    }
    server.schemas.definitions.changed.notify_one();
}

/// Makes the registry serve what a definition says; with `installing`, as if it were established.
pub(super) fn install(server: &Server, name: &str, definition: &Value, installing: bool) {
    let revision = server.store.revision();
    let known = server.schemas.definitions.take(name, definition, revision, installing);
    server.registry.rcu(|registry| {
        let served = if known.established { crd::served(definition) } else { Vec::new() };
        registry.with_definition(name, served.into_iter().map(|one| entry(name, one, &known)))
    });
}

fn entry(name: &str, served: Served, known: &Known) -> Kind {
    let behaviour = Custom {
        group: served.names.group.clone(),
        version: served.names.version.clone(),
        storage: served.storage.version.clone(),
        versions: known.versions.clone(),
        cells: served.cells,
        has_status: served.has_status,
        scale: served.scale,
        selectable: served.selectable,
        deprecation: served.deprecation,
        current_from: known.current_from,
    };
    Kind {
        names: served.names,
        scope: served.scope,
        verbs: served.verbs,
        subresources: served.subresources,
        columns: served.columns,
        behaviour: std::sync::Arc::new(behaviour),
        schema: String::new(),
        storage: Some(served.storage),
        storage_version_hash: served.storage_version_hash,
        conversion: None,
        definition: Some(name.to_string()),
    }
}
