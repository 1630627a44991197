//! The definitions that are known now, with the schemas of their versions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use kinds::Kind;
use objects::ObjectExt;
use serde_json::Value;
use tokio::sync::Notify;

use super::convert::Webhook;
use super::version::{Budget, Version};

/// One definition.
#[derive(Clone)]
pub(super) struct Known {
    /// Schemas by version.
    pub(super) versions: BTreeMap<String, Arc<Version>>,
    /// The version that is stored.
    storage: String,
    /// From this revision on, objects have been written under these very schemas.
    pub(super) current_from: u64,
    /// Whether it is served. What is once stays so: an event from before, which comes late, must not take
    /// away what clients have been told of.
    pub(super) established: bool,
    /// Who converts objects between versions, if not the server itself.
    pub(super) webhook: Option<Arc<Webhook>>,
}

/// All definitions, by name.
#[derive(Default)]
pub(crate) struct Definitions {
    known: ArcSwap<HashMap<String, Known>>,
    budget: Arc<Budget>,
    /// Told whenever a definition has changed.
    pub(super) changed: Notify,
}

impl Definitions {
    /// The schema of a custom resource.
    pub(crate) fn version(&self, kind: &Kind) -> Option<Arc<Version>> {
        let known = self.known.load();
        known.get(kind.definition.as_ref()?)?.versions.get(&kind.names.version).cloned()
    }

    /// The definition that brought a kind in.
    pub(super) fn get(&self, kind: &Kind) -> Option<Known> {
        self.known.load().get(kind.definition.as_ref()?).cloned()
    }

    /// Takes in a definition; with `installing`, as if it were established. Schemas that have not
    /// changed stay the same, compiled or not.
    pub(super) fn take(
        &self,
        name: &str,
        definition: &Value,
        revision: u64,
        installing: bool,
    ) -> Known {
        let before = self.known.load().get(name).cloned();
        let preserve = definition["spec"]["preserveUnknownFields"] == true;
        let list = definition.list_at(&["spec", "versions"]);
        let storage = list.iter().find(|version| version["storage"] == true);
        let storage = storage.map(|version| version.str_at(&["name"])).unwrap_or_default();
        let mut same = before.as_ref().is_some_and(|before| before.storage == storage);
        let mut versions = BTreeMap::new();
        for version in list {
            let openapi = &version["schema"]["openAPIV3Schema"];
            let name = version.str_at(&["name"]);
            let old = before.as_ref().and_then(|old| old.versions.get(name));
            let made = Version::new(openapi, preserve, &self.budget, old);
            same &= old.is_some_and(|old| Arc::ptr_eq(old, &made));
            versions.insert(name.to_string(), made);
        }
        let current_from = match &before {
            // After a start: nothing has changed the definition since its own last version.
            None => definition.resource_version().parse().unwrap_or(revision + 1),
            Some(before) if same => before.current_from,
            // Requests that began under the old schema may have written up to now.
            Some(_) => revision + 1,
        };
        let conditions = definition.list_at(&["status", "conditions"]);
        let known = Known {
            versions,
            storage: storage.to_string(),
            current_from,
            established: installing
                || objects::conditions::is_true(conditions, "Established")
                || before.is_some_and(|before| before.established),
            webhook: Webhook::of(definition),
        };
        self.known.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(name.to_string(), known.clone());
            all
        });
        known
    }

    /// Forgets a definition that is gone.
    pub(super) fn forget(&self, name: &str) {
        self.known.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(name);
            all
        });
    }
}
