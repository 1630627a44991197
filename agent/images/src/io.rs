//! Errors of system calls with the operation and the path in them, and files written whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::ImageError;

/// Names what was done to what when it failed.
pub(crate) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Io { operation, path, source }
}

/// The same for errors of `nix`.
pub(crate) fn failed_nix(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(nix::Error) -> ImageError + use<> {
    let failed = failed(operation, path);
    move |error| failed(error.into())
}

/// Something that was read is not what it should be.
pub(crate) fn broken(what: impl Into<String>, reason: impl Into<String>) -> ImageError {
    ImageError::Broken { what: what.into(), reason: reason.into() }
}

/// Success if it is gone, however that came about.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes whatever is at a path; nothing there is fine. Symbolic links are not followed.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    gone(removed).map_err(failed("remove", path))
}

/// Puts a file in place whole and durable: readers see the old content or the new one, always.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(failed("create", &new))?;
    file.write_all(content).map_err(failed("write", &new))?;
    file.sync_all().map_err(failed("sync", &new))?;
    rename(&new, path)
}

/// Renames, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::rename(from, to).map_err(failed("rename", from))?;
    let folder = to.parent().unwrap_or(to);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync folder", folder))
}

/// Runs work that blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(broken("store", format!("a worker stopped: {error}"))),
    }
}

/// A second owner of an error, for everybody who waited for the same work.
pub(crate) fn same(error: &ImageError) -> ImageError {
    match error {
        ImageError::InvalidReference { reference, reason } => {
            ImageError::InvalidReference { reference: reference.clone(), reason: reason.clone() }
        }
        ImageError::NotPresent { reference } => {
            ImageError::NotPresent { reference: reference.clone() }
        }
        ImageError::Pull { reference, reason } => {
            ImageError::Pull { reference: reference.clone(), reason: reason.clone() }
        }
        ImageError::Broken { what, reason } => broken(what, reason),
        ImageError::Io { operation, path, source } => {
            let source = source.raw_os_error().map_or_else(
                || io::Error::new(source.kind(), source.to_string()),
                io::Error::from_raw_os_error,
            );
            ImageError::Io { operation, path: path.clone(), source }
        }
    }
}
