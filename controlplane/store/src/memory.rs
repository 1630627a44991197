//! A backend that keeps nothing: for tests and throw-away clusters.

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::backend::{Backend, Change, Loaded};
use crate::error::StoreError;

/// Forgets everything when it is dropped; the view has all there is.
#[derive(Debug, Default)]
pub struct MemoryBackend;

impl Backend for MemoryBackend {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn load(&mut self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        ready(Ok(Loaded { records: Vec::new(), revision: 0 })).boxed()
    }

    fn append(&mut self, _: Vec<Change>, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn compact(&mut self, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}
