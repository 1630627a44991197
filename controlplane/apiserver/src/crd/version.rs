//! The schema of one version of a definition: kept packed, compiled when it is used.
//!
//! A cluster has many definitions and uses few of them at a time. Packed, a schema of 100 KB takes
//! about a tenth of that; compiled ones share a budget, past which the one used longest ago is
//! dropped (see `docs/decisions/0053-schemas-are-packed.md`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use kinds::crd::schema::Node;
use parking_lot::Mutex;
use patch::Schema;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What compiled schemas may take together, by their own estimate: 100 small definitions, or the
/// dozen large ones that a busy cluster uses at a time.
const BUDGET_BYTES: usize = 12 << 20;
/// Compression level: packing happens once per change, so it may cost some time.
const LEVEL: i32 = 9;

/// A schema in the forms that requests use.
pub(crate) struct Compiled {
    /// For decoding, pruning, defaults and apply.
    pub(crate) schema: Schema,
    /// For validation.
    pub(crate) node: Node,
    /// Whether there are rules in CEL.
    pub(crate) has_rules: bool,
}

/// The schema of one version of a definition.
pub(crate) struct Version {
    packed: Box<[u8]>,
    size: usize,
    /// Changes with the schema.
    pub(crate) hash: [u8; 8],
    /// Of the definition.
    preserve_unknown: bool,
    compiled: Mutex<Option<Arc<Compiled>>>,
    used: AtomicBool,
    budget: Arc<Budget>,
}

impl Version {
    /// Packs the `openAPIV3Schema` of a version, unless `before` is the same schema.
    pub(crate) fn new(
        openapi: &Value,
        preserve_unknown: bool,
        budget: &Arc<Budget>,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let text = openapi.to_string();
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(&text)[..8]);
        let same = |old: &&Arc<Self>| old.hash == hash && old.preserve_unknown == preserve_unknown;
        if let Some(before) = before.filter(same) {
            return before.clone();
        }
        let packed = zstd::bulk::compress(text.as_bytes(), LEVEL)
            .expect("compression into memory does not fail");
        Arc::new(Self {
            packed: packed.into(),
            size: text.len(),
            hash,
            preserve_unknown,
            compiled: Mutex::new(None),
            used: AtomicBool::new(false),
            budget: budget.clone(),
        })
    }

    /// The schema as it was sent.
    pub(crate) fn openapi(&self) -> Value {
        let text = zstd::bulk::decompress(&self.packed, self.size);
        let text = text.expect("it was packed by this process");
        serde_json::from_slice(&text).expect("it was JSON when it was packed")
    }

    /// The schema as it is used.
    pub(crate) fn compiled(self: &Arc<Self>) -> Arc<Compiled> {
        self.used.store(true, Ordering::Relaxed);
        if let Some(compiled) = &*self.compiled.lock() {
            return compiled.clone();
        }
        let openapi = self.openapi();
        let node = Node::compile(&openapi);
        let compiled = Arc::new(Compiled {
            schema: patch::schema::custom(&openapi, self.preserve_unknown),
            has_rules: node.has_rules(),
            node,
        });
        // The two forms are about as large as each other.
        let bytes = compiled.node.bytes() * 2;
        *self.compiled.lock() = Some(compiled.clone());
        self.budget.spend(self, bytes);
        compiled
    }
}

/// What compiled schemas take together.
#[derive(Default)]
pub(crate) struct Budget {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// In the order in which they were compiled or found in use.
    versions: VecDeque<(Weak<Version>, usize)>,
}

impl Budget {
    /// Counts a compiled schema; drops others that have not been used since they were last looked
    /// at, until all fit.
    fn spend(&self, version: &Arc<Version>, bytes: usize) {
        let mut held = self.held.lock();
        held.bytes += bytes;
        held.versions.push_back((Arc::downgrade(version), bytes));
        // Each is looked at twice at most: once to be spared, once to go.
        let mut looks = held.versions.len() * 2;
        while held.bytes > BUDGET_BYTES && held.versions.len() > 1 && looks > 0 {
            looks -= 1;
            let Some((candidate, bytes)) = held.versions.pop_front() else { return };
            let Some(other) = candidate.upgrade() else {
                held.bytes -= bytes;
                continue;
            };
            if Arc::ptr_eq(&other, version) || other.used.swap(false, Ordering::Relaxed) {
                held.versions.push_back((candidate, bytes));
            } else {
                held.bytes -= bytes;
                *other.compiled.lock() = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn large(name: &str) -> Value {
        let properties: serde_json::Map<String, Value> = (0..20_000)
            .map(|index| (format!("{name}{index}"), json!({"type": "string"})))
            .collect();
        json!({"type": "object", "properties": properties})
    }

    #[test]
    fn compiled_schemas_keep_to_the_budget() {
        let budget = Arc::new(Budget::default());
        let versions: Vec<Arc<Version>> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| Version::new(&large(name), false, &budget, None))
            .collect();
        for version in &versions {
            assert_eq!(version.compiled().node.properties.len(), 20_000);
            let bytes = budget.held.lock().bytes;
            let one = version.compiled().node.bytes() * 2;
            assert!(bytes <= BUDGET_BYTES.max(one), "{bytes}");
        }
        assert!(versions[0].compiled.lock().is_none());
        assert!(versions[3].compiled.lock().is_some());
        assert_eq!(versions[0].openapi(), large("a"));
    }
}
