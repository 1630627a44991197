//! Paths inside a root file system, where symbolic links must not lead out of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// As many links as the kernel follows in one path.
const LINKS_LIMIT: usize = 40;

/// Where `path` leads inside `root`, following symbolic links as a process chrooted there would.
/// Parts that do not exist are kept as they are. For folders that nobody else changes meanwhile; in
/// a running container use [`open_in_root`].
pub(crate) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let queue = |todo: &mut VecDeque<OsString>, path: &Path| {
        for part in path.components().rev() {
            match part {
                Component::Normal(name) => todo.push_front(name.to_owned()),
                Component::ParentDir => todo.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    };
    queue(&mut todo, path);
    let mut found = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            found.pop();
            continue;
        }
        let candidate = root.join(&found).join(&part);
        let target = match fs::symlink_metadata(&candidate) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&candidate)?,
            Ok(_) => {
                found.push(part);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.push(part);
                continue;
            }
            Err(error) => return Err(error),
        };
        links += 1;
        if links > LINKS_LIMIT {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        if target.is_absolute() {
            found.clear();
        }
        queue(&mut todo, &target);
    }
    Ok(root.join(found))
}

/// Opens a file inside `root` for reading; the kernel keeps links inside, also against a container
/// that changes them meanwhile. Anything but a regular file is refused.
pub(crate) fn open_in_root(root: &Path, path: &str) -> io::Result<fs::File> {
    let folder = fs::File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let relative = path.trim_start_matches('/');
    let raw = openat2(std::os::fd::AsRawFd::as_raw_fd(&folder), relative, how)?;
    // Opened again by its number, to own it: nix 0.29 returns a bare one.
    let file = fs::File::open(format!("/proc/self/fd/{raw}"));
    nix::unistd::close(raw)?;
    let file = file?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("folder");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/lib")).expect("create");
        fs::write(at("usr/lib/os-release"), "inside").expect("write");
        symlink("usr/lib", at("lib")).expect("link");
        symlink("/usr/lib/os-release", at("absolute")).expect("link");
        symlink("../../../../../../etc/hostname", at("out")).expect("link");
        symlink("loop", at("loop")).expect("link");
        root
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let root = root();
        let cases = [
            ("lib/x", "usr/lib/x"),
            ("/lib/../etc", "usr/etc"),
            ("absolute", "usr/lib/os-release"),
            ("out", "etc/hostname"),
            ("../../x", "x"),
            ("no/such/path", "no/such/path"),
        ];
        for (path, expected) in cases {
            let found = resolve(root.path(), Path::new(path)).expect(path);
            assert_eq!(found, root.path().join(expected), "{path}");
        }
        assert!(resolve(root.path(), Path::new("loop/x")).is_err());
    }

    #[test]
    fn opening_stays_inside_and_takes_files_only() {
        let root = root();
        let read = |path| {
            let mut text = String::new();
            open_in_root(root.path(), path).and_then(|mut file| file.read_to_string(&mut text))?;
            io::Result::Ok(text)
        };
        assert_eq!(read("/lib/os-release").expect("through a link"), "inside");
        assert_eq!(read("absolute").expect("through an absolute link"), "inside");
        assert_eq!(read("out").expect_err("not in here").kind(), io::ErrorKind::NotFound);
        assert!(read("usr").is_err());
    }
}
