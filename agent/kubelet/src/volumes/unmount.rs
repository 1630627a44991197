//! Unmounts what is below a folder, as the kernel lists it, and removes the folder.
//!
//! Only the mount table is asked, never `stat`: what is mounted may hang, or its source may be gone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// Mount points at or below `folder` in a text of mountinfo, the innermost first. PURE.
pub(crate) fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    // Later lines are on top of earlier ones.
    below.reverse();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    below
}

/// The kernel writes blanks and backslashes as `\040`.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = bytes
            .get(index + 1..index + 4)
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (bytes[index], code) {
            (b'\\', Some(code)) => {
                out.push(code);
                index += 4;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Unmounts everything at or below `folder`, which may be reached through links.
pub(crate) fn unmount_below(folder: &Path) -> io::Result<()> {
    // The mount table shows paths without links.
    let real = match fs::canonicalize(folder) {
        Ok(real) => real,
        Err(_) => match (folder.parent().map(fs::canonicalize), folder.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => return Ok(()),
        },
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for point in mounts_below(&table, &real) {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Somebody else was faster, or it went away with its parent.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Unmounts everything below `folder`, then removes it. Succeeds if there is none.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    unmount_below(folder)?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_innermost_first() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                     2 1 0:5 / /d/pods/u/v/x rw - tmpfs t rw\n\
                     3 1 0:5 / /d/pods/u/v/x/in\\040ner rw - tmpfs t rw\n\
                     4 1 0:5 / /d/pods/u2 rw - tmpfs t rw\n";
        assert_eq!(
            mounts_below(table, Path::new("/d/pods/u")),
            [PathBuf::from("/d/pods/u/v/x/in ner"), PathBuf::from("/d/pods/u/v/x")]
        );
    }

    #[test]
    fn nothing_to_remove_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        remove_tree(&folder.path().join("a")).unwrap();
        assert!(!folder.path().join("a").exists());
        remove_tree(&folder.path().join("a")).unwrap();
    }
}
