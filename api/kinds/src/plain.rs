//! Kinds without behaviour.

use objects::ObjectExt;
use objects::k8s::jiff::Timestamp;
use serde_json::Value;

use crate::kind::{Behaviour, Cell};

/// The behaviour of a kind that is only stored.
pub struct Plain;

impl Plain {
    /// A kind whose cells are its name and creation time.
    pub fn new() -> Self {
        Self
    }
}

impl Default for Plain {
    fn default() -> Self {
        Self::new()
    }
}

impl Behaviour for Plain {
    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        vec![object.name().into(), object.str_at(&["metadata", "creationTimestamp"]).into()]
    }
}
