//! The store's folder: what is where, blobs by digest, and the locks between processes.
//!
//! ```text
//! ROOT/lock                    shared while something is being added, exclusive while sweeping
//! ROOT/records.lock            exclusive while records change
//! ROOT/blobs/HEX               manifests, configs, layers as they came; named by their digest
//! ROOT/parts/HEX               layers on their way; a download goes on where it stopped
//! ROOT/layers/NAME/{fs,layer.json}   unpacked layers, named by the start of their chain id
//! ROOT/records/HEX.json        images, by id
//! ROOT/containers/ID/{snapshot.json,upper,work,rootfs}
//! ROOT/staging/N               unfinished work; emptied at start
//! ```
//!
//! Everything appears by a rename after it is complete and synced, so what is there is whole. Layers
//! and blobs that no record and no container names are swept when nobody is adding anything.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ImageError;
use crate::digest::{Digest, HashingReader};
use crate::io::{broken, failed, remove, rename, write_file};
use crate::manifests::DOCUMENT_LIMIT_BYTES;

/// How long the parts of an unfinished pull wait to be gone on with: a night without network.
pub(crate) const UNFINISHED_AGE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder and its locks.
#[derive(Debug)]
pub(crate) struct Content {
    root: PathBuf,
}

/// Distinguishes unfinished work of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Content {
    /// Makes the folders that are missing.
    pub(crate) fn open(root: PathBuf) -> Result<Self, ImageError> {
        for name in ["blobs", "parts", "layers", "records", "containers", "staging"] {
            let folder = root.join(name);
            fs::create_dir_all(&folder).map_err(failed("create folder", &folder))?;
        }
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    pub(crate) fn part(&self, digest: &Digest) -> PathBuf {
        self.root.join("parts").join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// A new empty folder for unfinished work, removed when it is dropped.
    pub(crate) fn stage(&self) -> Result<Stage, ImageError> {
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.root.join("staging").join(name);
        remove(&path)?;
        fs::create_dir(&path).map_err(failed("create folder", &path))?;
        Ok(Stage { path })
    }

    /// Held while blobs and layers are added that no record names yet: nothing is swept.
    pub(crate) fn adding(&self) -> Result<File, ImageError> {
        let (file, path) = self.lock_file("lock")?;
        file.lock_shared().map_err(failed("lock", &path))?;
        Ok(file)
    }

    /// The right to sweep, unless something is being added.
    pub(crate) fn try_sweeping(&self) -> Result<Option<File>, ImageError> {
        let (file, path) = self.lock_file("lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    /// The right to change records.
    pub(crate) fn changing_records(&self) -> Result<File, ImageError> {
        let (file, path) = self.lock_file("records.lock")?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(file)
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), ImageError> {
        let path = self.root.join(name);
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        Ok((file.map_err(failed("open lock", &path))?, path))
    }

    /// Whether a blob of this size is there. Its content is checked whenever it is read.
    pub(crate) fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|found| found.len() == size)
    }

    /// Stores a small blob.
    pub(crate) fn put_document(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest, bytes.len() as u64) {
            write_file(&self.blob(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Reads a small blob and checks it.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob(digest);
        let file = File::open(&path).map_err(failed("open", &path))?;
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_LIMIT_BYTES).read_to_end(&mut bytes);
        read.map_err(failed("read", &path))?;
        if Digest::of(&bytes) != *digest {
            // So that the next pull fetches it again.
            remove(&path)?;
            return Err(broken(format!("blob {digest}"), "its content is damaged"));
        }
        Ok(bytes)
    }

    /// Takes in a complete file as a blob, if it has this digest.
    pub(crate) fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), ImageError> {
        let opened = File::open(file).map_err(failed("open", file))?;
        opened.sync_all().map_err(failed("sync", file))?;
        let found = HashingReader::new(opened).finish().map_err(failed("read", file))?;
        if found != *digest {
            remove(file)?;
            return Err(broken(format!("blob {digest}"), format!("its digest is {found}")));
        }
        rename(file, &self.blob(digest))
    }

    /// Removes blobs and layers whose names are not in `keep` and that are at least so old, all
    /// staging, and downloads that nobody went on with.
    pub(crate) fn sweep(&self, keep: &HashSet<String>, age: Duration) -> Result<(), ImageError> {
        let rules = [
            ("blobs", age),
            ("layers", age),
            ("staging", Duration::ZERO),
            ("parts", UNFINISHED_AGE_LIMIT),
        ];
        for (folder, age) in rules {
            let folder = self.root.join(folder);
            for name in names(&folder)? {
                let path = folder.join(&name);
                if !keep.contains(&name) && is_older(&path, age) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    // A time in the future says nothing: the clock was set.
    modified.is_ok_and(|modified| modified.elapsed().unwrap_or(age) >= age)
}

/// File names in a folder, sorted; names that are not UTF-8 are not ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A folder for unfinished work.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) path: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), "leaving unfinished work behind: {error}");
        }
    }
}
