//! ServiceAccounts.

use objects::k8s::jiff::Timestamp;
use serde_json::Value;

use crate::cells;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part};

const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Behaviour of ServiceAccounts.
pub(crate) struct ServiceAccount;

impl Behaviour for ServiceAccount {
    fn prepare_create(&self, _object: &mut Value, _context: &WriteContext<'_>) {}

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let enforces = |object: &Value| {
            part(object, &["metadata", "annotations"]).text(ENFORCE_MOUNTABLE) == "true"
        };
        if !enforces(object) || old.is_some_and(enforces) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{ENFORCE_MOUNTABLE}]: deprecated in v1.32+; prefer separate \
             namespaces to isolate access to mounted secrets"
        )]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::name_and_age(object, now)
    }
}
