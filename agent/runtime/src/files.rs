//! Small files that are either whole or not there.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` in one step. Readers see the old content or the new, never a part. Not synced to
/// disk: the run folder does not outlive the machine's run.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
    let temporary = path.with_file_name(name);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}
