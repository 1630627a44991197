//! Maps in memory, for tests of what is above the kernel.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::diff::MapOp;
use crate::error::ServicesError;
use crate::maps::{Maps, Orphan};
use crate::state::MapSet;

/// Maps in memory; clones share them. Checks after every single operation that no packet could fall
/// over what is there.
#[derive(Debug, Clone, Default)]
pub struct FakeMaps {
    held: Arc<Mutex<MapSet>>,
}

impl FakeMaps {
    /// What is held now.
    pub fn held(&self) -> MapSet {
        self.held.lock().clone()
    }
}

impl Maps for FakeMaps {
    fn read(&mut self) -> Result<MapSet, ServicesError> {
        Ok(self.held())
    }

    fn apply(&mut self, op: &MapOp) -> Result<(), ServicesError> {
        let mut held = self.held.lock();
        held.apply(op);
        assert_eq!(held.fault(), None, "after {op:?}");
        Ok(())
    }

    fn take_orphans(&mut self, _held: &MapSet) -> Result<Vec<Orphan>, ServicesError> {
        Ok(Vec::new())
    }

    fn is_attached(&self) -> bool {
        true
    }

    fn attach_again(&mut self) -> Result<(), ServicesError> {
        Ok(())
    }
}
