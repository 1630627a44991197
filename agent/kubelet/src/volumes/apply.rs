//! Makes volumes on disk what they are wanted to be. Blocking, idempotent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::payload::Payload;
use super::unmount::mounts_below;
use super::{VolumeError, atomic};

/// What a volume is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An empty folder, in memory if `memory`, then of at most `size_bytes`.
    Empty { memory: bool, size_bytes: Option<i64> },
    /// A path of the node, which must be (or become) of this type.
    HostPath { path: PathBuf, kind: String },
    /// A folder of files made from the API.
    Files(Payload),
}

/// A volume as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) content: Content,
}

impl Content {
    /// Folder of volumes of this sort, named as upstream names it.
    fn folder(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "kubernetes.io~empty-dir",
            Self::HostPath { .. } => "kubernetes.io~host-path",
            Self::Files(_) => "kubernetes.io~projected",
        }
    }
}

/// Makes all volumes of a pod, and says where they are.
pub(crate) fn apply(
    pod_dir: &Path,
    volumes: &[Wanted],
    fs_group: Option<u32>,
    stamp: &str,
) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut places = BTreeMap::new();
    for volume in volumes {
        let place = pod_dir.join("volumes").join(volume.content.folder()).join(&volume.name);
        let failed = |error: io::Error| VolumeError::Setup {
            volume: volume.name.clone(),
            reason: error.to_string(),
        };
        let place = match &volume.content {
            Content::Empty { memory, size_bytes } => {
                empty(&place, *memory, *size_bytes, fs_group).map_err(failed)?;
                place
            }
            Content::HostPath { path, kind } => {
                host_path(path, kind)
                    .map_err(|reason| VolumeError::Setup { volume: volume.name.clone(), reason })?;
                path.clone()
            }
            Content::Files(payload) => {
                files(&place, payload, fs_group, stamp).map_err(failed)?;
                place
            }
        };
        places.insert(volume.name.clone(), place);
    }
    Ok(places)
}

fn empty(
    place: &Path,
    memory: bool,
    size_bytes: Option<i64>,
    fs_group: Option<u32>,
) -> io::Result<()> {
    fs::create_dir_all(place)?;
    if memory && !is_mounted(place)? {
        let size = size_bytes.map(|bytes| format!("size={bytes}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), place, Some("tmpfs"), flags, size.as_deref())?;
    }
    // Any user of the pod may write, unless a group owns the volume.
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    if fs::metadata(place)?.permissions().mode() & 0o7777 != mode {
        chown(place, None, fs_group)?;
        fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn is_mounted(place: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let real = fs::canonicalize(place)?;
    Ok(mounts_below(&table, &real).contains(&real))
}

fn files(place: &Path, payload: &Payload, fs_group: Option<u32>, stamp: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    // Secrets must not reach a disk. Small files in memory cost nothing, so all get a tmpfs.
    if !is_mounted(place)? {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0755"))?;
        chown(place, None, fs_group)?;
    }
    atomic::write(place, payload, fs_group, stamp)?;
    Ok(())
}

/// Checks that a path is what the pod expects, or makes it. The texts are upstream's.
///
/// Source: kubernetes pkg/volume/hostpath/host_path.go, v1.36.
fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("{shown}: {error}");
    let found = fs::metadata(path).ok();
    let check = |holds: fn(&fs::FileType) -> bool, what: &str| match &found {
        Some(metadata) if holds(&metadata.file_type()) => Ok(()),
        _ => Err(format!("hostPath type check failed: {shown} is not a {what}")),
    };
    match kind {
        "DirectoryOrCreate" => {
            if found.is_none() {
                fs::create_dir_all(path).map_err(failed)?;
                let mode = fs::Permissions::from_mode(0o755);
                return fs::set_permissions(path, mode).map_err(failed);
            }
            check(fs::FileType::is_dir, "directory")
        }
        "FileOrCreate" => {
            if found.is_none() {
                let file = fs::File::create(path).map_err(failed)?;
                return file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed);
            }
            check(fs::FileType::is_file, "file")
        }
        "Directory" => check(fs::FileType::is_dir, "directory"),
        "File" => check(fs::FileType::is_file, "file"),
        "Socket" => check(|kind| kind.is_socket(), "socket file"),
        "CharDevice" => check(|kind| kind.is_char_device(), "character device"),
        "BlockDevice" => check(|kind| kind.is_block_device(), "block device"),
        // As container runtimes do for what nobody has checked: a missing path becomes a folder.
        _ if found.is_none() => fs::create_dir_all(path).map_err(failed),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_what_they_are_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, kind, fine) in [
            ("file", "File", true),
            ("file", "", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("folder", "Directory", true),
            ("folder", "Socket", false),
            ("none", "File", false),
            ("none", "CharDevice", false),
            ("new/deep", "DirectoryOrCreate", true),
            ("new/file", "FileOrCreate", true),
            ("unchecked", "", true),
        ] {
            assert_eq!(host_path(&at(name), kind).is_ok(), fine, "{name} {kind}");
        }
        assert!(at("new/deep").is_dir() && at("new/file").is_file() && at("unchecked").is_dir());
        let error = host_path(&at("file"), "Directory").unwrap_err();
        assert!(error.starts_with("hostPath type check failed: "), "{error}");
    }

    #[test]
    fn volumes_in_memory_and_on_disk_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let pod_dir = folder.path().join("pod");
        let wanted = [
            Wanted {
                name: "disk".into(),
                content: Content::Empty { memory: false, size_bytes: None },
            },
            Wanted {
                name: "memory".into(),
                content: Content::Empty { memory: true, size_bytes: Some(1 << 20) },
            },
            Wanted { name: "files".into(), content: Content::Files(Payload::new()) },
        ];
        let places = apply(&pod_dir, &wanted, None, "1").unwrap();
        let again = apply(&pod_dir, &wanted, None, "2").unwrap();
        assert_eq!(places, again);
        let mounted = is_mounted(&places["memory"]).unwrap();
        let on_disk = is_mounted(&places["disk"]).unwrap();
        fs::write(places["disk"].join("x"), "kept").unwrap();
        super::super::unmount::remove_tree(&pod_dir).unwrap();
        assert!(mounted && !on_disk && !pod_dir.exists());
    }
}
