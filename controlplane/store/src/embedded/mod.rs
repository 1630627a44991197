//! The default backend: one redb file in a folder of its own (docs/decisions/0020).
//!
//! ```text
//! FOLDER/lock         held (flock) by the server that uses the folder
//! FOLDER/store.redb   tables `meta` (format, revision) and `records` (key → version)
//! ```

mod engine;

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use self::engine::Engine;
use crate::backend::{Backend, Change, Loaded};
use crate::encryption::Encryption;
use crate::error::StoreError;

/// A file below this size is not worth compacting: its free pages are used again.
const COMPACT_FROM_BYTES: u64 = 256 << 20;

/// A file is compacted when it is so many times bigger than what it holds. Every write of redb
/// leaves free pages behind, so twice is normal; writes wait while a file is compacted.
const COMPACT_RATIO: u64 = 4;

/// The store in a folder.
#[derive(Debug)]
pub struct EmbeddedBackend {
    path: PathBuf,
    engine: Arc<Engine>,
    /// Keeps other servers out for as long as it is open.
    _lock: File,
}

impl EmbeddedBackend {
    /// Opens the store in `folder`, making both if they are not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Damaged`], [`StoreError::Newer`], [`StoreError::Io`];
    /// nothing was changed then.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_encrypted(folder, Arc::default()).await
    }

    /// The same with values encrypted.
    ///
    /// # Errors
    /// The same; a value that was encrypted with an unknown key counts as damage.
    pub async fn open_encrypted(
        folder: impl Into<PathBuf>,
        encryption: Arc<Encryption>,
    ) -> Result<Self, StoreError> {
        let folder = folder.into();
        blocking(folder.clone(), move || Self::open_now(&folder, encryption)).await
    }

    fn open_now(folder: &Path, encryption: Arc<Encryption>) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(io("create folder", folder))?;
        let lock = lock(folder)?;
        let path = folder.join("store.redb");
        if !path.try_exists().map_err(io("look for", &path))? {
            create(folder, &path)?;
        }
        let engine = Engine::open(&path, engine::open_file(&path), encryption)?;
        Ok(Self { path, engine: Arc::new(engine), _lock: lock })
    }
}

impl Backend for EmbeddedBackend {
    fn name(&self) -> String {
        format!("embedded {}", self.path.display())
    }

    fn load(&mut self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        let engine = Arc::clone(&self.engine);
        blocking(self.path.clone(), move || engine.load()).boxed()
    }

    fn append(
        &mut self,
        group: Vec<Change>,
        revision: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let engine = Arc::clone(&self.engine);
        blocking(self.path.clone(), move || engine.append(&group, revision)).boxed()
    }

    fn compact(&mut self, live_bytes: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.size_bytes() < COMPACT_FROM_BYTES.max(COMPACT_RATIO * live_bytes) {
            return std::future::ready(Ok(())).boxed();
        }
        let engine = Arc::clone(&self.engine);
        blocking(self.path.clone(), move || engine.compact()).boxed()
    }

    fn reseal(&mut self) -> BoxFuture<'_, Result<usize, StoreError>> {
        let engine = Arc::clone(&self.engine);
        blocking(self.path.clone(), move || engine.reseal()).boxed()
    }

    fn size_bytes(&self) -> u64 {
        // The file is sparse: what counts is what it occupies.
        fs::metadata(&self.path).map_or(0, |file| file.blocks() * 512)
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io("open lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
    }
}

/// Makes the file under another name first: a file of the right name is always a whole store, so
/// an empty one is damage and not a beginning.
fn create(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let new = folder.join("store.redb.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove", &new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    engine::create_file(&new)?;
    fs::rename(&new, path).map_err(io("rename", &new))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync folder", folder))
}

/// Runs disk work where it may block. A panic of the engine is a damaged file, not our end.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Damaged { path, reason: format!("engine stopped: {error}") }),
    }
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { operation, path, source }
}
