//! What has to be looked up for a container: in its root file system, without following it out,
//! and among the node's devices.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::ContainerSpec;
use crate::spec::{DeviceKind, DeviceNode};

/// Most bytes of a passwd file that are looked at.
const PASSWD_BYTES_MAX: u64 = 1 << 20;
/// Folders of `/dev` whose content is made anew in each container.
const OWN_IN_CONTAINER: [&str; 5] =
    ["/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.udev"];

/// Opens `path` below `rootfs`; links are followed as the container would.
fn open_in(rootfs: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let fd = openat2(rootfs.as_raw_fd(), path, how)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Home folder of `uid` in the image; `/` if the image does not say.
pub(super) fn home(rootfs: &Path, uid: u32) -> String {
    read_passwd(rootfs).and_then(|passwd| home_in(&passwd, uid)).unwrap_or_else(|| "/".to_owned())
}

fn read_passwd(rootfs: &Path) -> Option<String> {
    let root = super::fork::open_folder(rootfs).ok()?;
    // Non-blocking, in case the image has a FIFO there.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = File::from(open_in(&root, Path::new("etc/passwd"), flags).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(PASSWD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, _, _, home, ..] = fields[..] else { return None };
        (id.parse() == Ok(uid) && !home.is_empty()).then(|| home.to_owned())
    })
}

/// Makes the working folder if the image lacks it, as runc does. A folder below a mount of the pod
/// is not seen here; it must exist there.
pub(super) fn make_working_folder(rootfs: &Path, cwd: &Path) -> Result<(), String> {
    let failed = |errno: Errno| format!("make working folder {}: {}", cwd.display(), errno.desc());
    let root = super::fork::open_folder(rootfs)
        .map_err(|error| format!("open root file system {}: {error}", rootfs.display()))?;
    let mut parent = root.try_clone().map_err(|error| error.to_string())?;
    let mut path = PathBuf::new();
    for component in cwd.components() {
        let Component::Normal(name) = component else { continue };
        path.push(name);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        parent = match open_in(&root, &path, flags) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => {
                match mkdirat(Some(parent.as_raw_fd()), name, Mode::from_bits_truncate(0o755)) {
                    // A dangling link is left for the container's own chdir to complain about.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                match open_in(&root, &path, flags) {
                    Ok(folder) => folder,
                    Err(_) => return Ok(()),
                }
            }
            Err(_) => return Ok(()),
        };
    }
    Ok(())
}

/// The device nodes `spec` asks for; for a privileged container all of the node's.
pub(super) fn devices(spec: &ContainerSpec) -> Result<Vec<DeviceNode>, String> {
    let mut nodes = Vec::new();
    if spec.privileged {
        collect(Path::new("/dev"), &mut nodes);
    }
    for device in &spec.devices {
        let node = node(&device.source, &device.destination, &device.permissions)
            .ok_or_else(|| format!("{} is not a device", device.source.display()))?;
        nodes.retain(|known| known.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn node(source: &Path, destination: &Path, permissions: &str) -> Option<DeviceNode> {
    let metadata = fs::metadata(source).ok()?;
    let kind = if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else if metadata.file_type().is_char_device() {
        DeviceKind::Character
    } else {
        return None;
    };
    let number = metadata.rdev();
    Some(DeviceNode {
        path: destination.to_path_buf(),
        kind,
        major: i64::from(libc::major(number)),
        minor: i64::from(libc::minor(number)),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

fn collect(folder: &Path, nodes: &mut Vec<DeviceNode>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !OWN_IN_CONTAINER.iter().any(|own| path == Path::new(own)) {
                collect(&path, nodes);
            }
        } else if (kind.is_char_device() || kind.is_block_device())
            && path != Path::new("/dev/console")
            && path != Path::new("/dev/ptmx")
        {
            nodes.extend(node(&path, &path, "rwm"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_come_from_the_image() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:1000:1000::/srv:/bin/sh\nno:x:7:7:::\n";
        for (uid, home) in [(0, Some("/root")), (1000, Some("/srv")), (7, None), (5, None)] {
            assert_eq!(home_in(passwd, uid).as_deref(), home, "uid {uid}");
        }
    }

    #[test]
    fn links_in_the_image_do_not_lead_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (rootfs, outside) = (folder.path().join("rootfs"), folder.path().join("outside"));
        fs::create_dir_all(&rootfs).unwrap();
        fs::create_dir_all(outside.join("etc")).unwrap();
        fs::write(outside.join("etc/passwd"), "x:x:5:5::/leaked:/").unwrap();
        std::os::unix::fs::symlink(outside.join("etc"), rootfs.join("etc")).unwrap();
        std::os::unix::fs::symlink(&outside, rootfs.join("out")).unwrap();
        assert_eq!(home(&rootfs, 5), "/");
        make_working_folder(&rootfs, Path::new("/out/new")).unwrap();
        assert!(!outside.join("new").exists());
        make_working_folder(&rootfs, Path::new("/a/../b/c")).unwrap();
        assert!(rootfs.join("b/c").is_dir() || rootfs.join("a/b/c").is_dir());
    }

    #[test]
    fn devices_are_found_and_refused() {
        let null = node(Path::new("/dev/null"), Path::new("/dev/zero2"), "rw").unwrap();
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Character, 1, 3));
        assert_eq!(null.path, Path::new("/dev/zero2"));
        assert_eq!(node(Path::new("/etc/passwd"), Path::new("/dev/x"), "r"), None);
    }
}
