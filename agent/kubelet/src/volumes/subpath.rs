//! `subPath`: one folder or file of a volume, pinned by a bind mount.
//!
//! A container may change what is in its volume while another starts, so the path is walked by the
//! kernel without leaving the volume (`openat2` with `RESOLVE_BENEATH`), and what was found is
//! bind-mounted by its descriptor, so that a later swap of a link changes nothing.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

use super::unmount::unmount_below;

/// Mounts `sub_path` of the volume at `place` and returns that; makes folders that are missing.
pub(crate) fn pin(volume: &Path, sub_path: &str, place: &Path) -> io::Result<PathBuf> {
    let found = open_beneath(volume, sub_path)?;
    unmount_below(place)?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let parent = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(place)?;
    } else if !place.exists() {
        fs::File::create(place)?;
    }
    mount(
        Some(source.as_str()),
        place,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(place.to_path_buf())
}

fn open_beneath(volume: &Path, sub_path: &str) -> io::Result<fs::File> {
    let root = fs::File::open(volume)?;
    if !root.metadata()?.is_dir() {
        return Err(io::Error::other(format!("subPath {sub_path:?} of a volume that is a file")));
    }
    match open_at(&root, Path::new(sub_path)) {
        Err(Errno::ENOENT) => {}
        Err(Errno::EXDEV) => {
            let text = format!("subPath {sub_path:?} leads out of the volume");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        other => return Ok(other?),
    }
    let mut at = root;
    for part in Path::new(sub_path).components() {
        let part = Path::new(part.as_os_str());
        let mode = Mode::from_bits_truncate(0o750);
        at = match open_at(&at, part) {
            Err(Errno::ENOENT) => {
                mkdirat(Some(at.as_raw_fd()), part, mode)?;
                open_at(&at, part)?
            }
            other => other?,
        };
    }
    Ok(at)
}

fn open_at(at: &fs::File, path: &Path) -> Result<fs::File, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let raw = openat2(at.as_raw_fd(), path, how)?;
    // Opened again by its number, to own it: this version of nix returns a bare one.
    let mut again = fs::OpenOptions::new();
    again.read(true).custom_flags(OFlag::O_PATH.bits());
    let file = again.open(format!("/proc/self/fd/{raw}"));
    nix::unistd::close(raw)?;
    file.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_do_not_leave_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir_all(volume.join("in")).unwrap();
        symlink("in", volume.join("good")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        assert!(open_beneath(&volume, "good").is_ok());
        assert!(open_beneath(&volume, "new/deep").is_ok());
        assert!(volume.join("new/deep").is_dir());
        for bad in ["absolute", "up", "absolute/passwd", "../other", "up/x"] {
            let error = open_beneath(&volume, bad).expect_err(bad);
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{bad}");
        }
    }
}
