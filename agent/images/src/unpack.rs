//! Applies a layer's tar stream to a folder that shows the layers below (an overlay mount), so that
//! the kernel does what depends on them: links into lower layers, modes of implied folders, and
//! deletions, which become whiteouts.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tar::{Archive, Entry, EntryType};

use crate::ImageError;
use crate::io::{broken, failed, failed_nix, remove};
use crate::paths::resolve;

/// Deletes a file of a lower layer.
const WHITEOUT: &[u8] = b".wh.";

/// Deletes what lower layers have in the folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Prefix of an extended attribute in a PAX header.
const XATTR: &str = "SCHILY.xattr.";

/// Applies a whole stream; `what` names the layer in errors. Returns the bytes of its files.
pub(crate) fn unpack(reader: impl Read, root: &Path, what: &str) -> Result<u64, ImageError> {
    let mut archive = Archive::new(reader);
    let damaged = |error: io::Error| broken(what, error.to_string());
    let mut unpacker = Unpacker {
        root,
        what,
        written: HashSet::new(),
        folders: Vec::new(),
        parent: None,
        bytes: 0,
    };
    for entry in archive.entries().map_err(damaged)? {
        unpacker.apply(&mut entry.map_err(damaged)?)?;
    }
    unpacker.finish()?;
    Ok(unpacker.bytes)
}

struct Unpacker<'a> {
    root: &'a Path,
    what: &'a str,
    /// Paths (with links resolved) that this layer brought: its own whiteouts do not concern them.
    written: HashSet<PathBuf>,
    /// Folders and their times, set last because filling a folder changes it.
    folders: Vec<(PathBuf, TimeSpec)>,
    /// The last parent as written in the archive, and where it is.
    parent: Option<(PathBuf, PathBuf)>,
    bytes: u64,
}

/// An entry's metadata, checked.
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: TimeSpec,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Unpacker<'_> {
    fn broken(&self, path: &Path, reason: &str) -> ImageError {
        broken(self.what, format!("{}: {reason}", path.display()))
    }

    fn apply(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ImageError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = self.inside(&entry.path_bytes())?;
        let Some(name) = path.file_name() else {
            // The root itself: only its metadata counts.
            let metadata = self.metadata(entry, &path)?;
            return self.dress(self.root, kind, &metadata);
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if name.as_bytes() == OPAQUE {
            return self.make_opaque(&parent);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.hide(&parent, OsStr::from_bytes(hidden), &path);
        }
        let target = parent.join(name);
        let metadata = self.metadata(entry, &path)?;
        if !kind.is_dir() && !kind.is_file() && !kind.is_contiguous() {
            // It may be, or replace, a link that other paths lead through.
            self.parent = None;
        }
        self.create(entry, kind, &path, &target, &metadata)?;
        if !kind.is_hard_link() {
            self.dress(&target, kind, &metadata)?;
        }
        self.written.insert(target);
        Ok(())
    }

    fn create(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        path: &Path,
        target: &Path,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let here = fs::symlink_metadata(target);
        if kind.is_dir() && here.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return Ok(());
        }
        if here.is_ok() {
            remove(target)?;
            self.parent = None;
        }
        match kind {
            EntryType::Directory => fs::create_dir(target).map_err(failed("create folder", target)),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.write(entry, target)
            }
            EntryType::Symlink => {
                let link = self.link(entry, path)?;
                symlink(OsStr::from_bytes(&link), target).map_err(failed("link", target))
            }
            EntryType::Link => {
                let link = self.inside(&self.link(entry, path)?)?;
                let folder = self.parent(link.parent().unwrap_or(Path::new("")))?;
                let source = folder.join(link.file_name().unwrap_or_default());
                fs::hard_link(&source, target).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => {
                        self.broken(path, &format!("links to {}, which is missing", link.display()))
                    }
                    _ => failed("link", target)(error),
                })
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let (flag, device) = self.device(entry, kind, path)?;
                let mode = Mode::from_bits_truncate(metadata.mode);
                mknod(target, flag, mode, device).map_err(failed_nix("make node", target))
            }
            other => {
                Err(self.broken(path, &format!("entries of type {other:?} are not supported")))
            }
        }
    }

    fn write(&mut self, entry: &mut Entry<'_, impl Read>, target: &Path) -> Result<(), ImageError> {
        let mut file = File::create_new(target).map_err(failed("create", target))?;
        // Errors of the stream and of the disk mean different things.
        let mut buffer = [0; 64 << 10];
        loop {
            let count =
                entry.read(&mut buffer).map_err(|error| self.broken(target, &error.to_string()))?;
            if count == 0 {
                return Ok(());
            }
            io::Write::write_all(&mut file, &buffer[..count]).map_err(failed("write", target))?;
            self.bytes += count as u64;
        }
    }

    fn link(&self, entry: &Entry<'_, impl Read>, path: &Path) -> Result<Vec<u8>, ImageError> {
        let link = entry.link_name_bytes().filter(|link| !link.is_empty());
        link.map(|link| link.into_owned()).ok_or_else(|| self.broken(path, "a link to nothing"))
    }

    fn device(
        &self,
        entry: &Entry<'_, impl Read>,
        kind: EntryType,
        path: &Path,
    ) -> Result<(SFlag, u64), ImageError> {
        let number = |number: io::Result<Option<u32>>| {
            number.ok().flatten().ok_or_else(|| self.broken(path, "a device without a number"))
        };
        let header = entry.header();
        Ok(match kind {
            EntryType::Fifo => (SFlag::S_IFIFO, 0),
            _ => {
                let (major, minor) =
                    (number(header.device_major())?, number(header.device_minor())?);
                let flag = if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                if (flag, major, minor) == (SFlag::S_IFCHR, 0, 0) {
                    return Err(self.broken(path, "the device 0:0 would be a whiteout"));
                }
                (flag, makedev(u64::from(major), u64::from(minor)))
            }
        })
    }

    fn metadata(
        &self,
        entry: &mut Entry<'_, impl Read>,
        path: &Path,
    ) -> Result<Metadata, ImageError> {
        let damaged = |error: io::Error| broken(self.what, error.to_string());
        let mut xattrs = Vec::new();
        if let Some(extensions) = entry.pax_extensions().map_err(damaged)? {
            for extension in extensions {
                let extension = extension.map_err(damaged)?;
                let Ok(key) = extension.key() else { continue };
                // An image must not steer our own overlay.
                if let Some(name) = key.strip_prefix(XATTR)
                    && !name.starts_with("trusted.overlay.")
                    && !name.starts_with("user.overlay.")
                {
                    xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let id = |id: io::Result<u64>| {
            let id = id.ok().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| self.broken(path, "an impossible owner"))
        };
        let modified = header.mtime().ok().and_then(|secs| i64::try_from(secs).ok()).unwrap_or(0);
        Ok(Metadata {
            mode: header.mode().map_err(damaged)? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
            modified: TimeSpec::new(modified, 0),
            xattrs,
        })
    }

    /// Owner, mode, attributes, time; in this order, since each may reset those after it.
    fn dress(&mut self, target: &Path, kind: EntryType, with: &Metadata) -> Result<(), ImageError> {
        lchown(target, Some(with.uid), Some(with.gid))
            .map_err(failed("change owner of", target))?;
        if !kind.is_symlink() {
            fs::set_permissions(target, Permissions::from_mode(with.mode))
                .map_err(failed("change mode of", target))?;
            for (name, value) in &with.xattrs {
                set_xattr(target, name, value)?;
            }
        }
        if kind.is_dir() {
            self.folders.push((target.to_owned(), with.modified));
            return Ok(());
        }
        set_time(target, &with.modified)
    }

    fn finish(&mut self) -> Result<(), ImageError> {
        for (folder, modified) in self.folders.drain(..) {
            // A later entry may have replaced it.
            if fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                set_time(&folder, &modified)?;
            }
        }
        Ok(())
    }

    /// The path relative to the root, if it stays inside by its words alone.
    fn inside(&self, bytes: &[u8]) -> Result<PathBuf, ImageError> {
        let path = Path::new(OsStr::from_bytes(bytes));
        let mut inside = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => inside.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(self.broken(path, "the path leads out of the image"));
                }
            }
        }
        Ok(inside)
    }

    /// Where a folder is, made if need be: a layer may leave out folders on the way.
    fn parent(&mut self, path: &Path) -> Result<PathBuf, ImageError> {
        if let Some((known, place)) = &self.parent
            && known == path
        {
            return Ok(place.clone());
        }
        let mut place = self.root.to_owned();
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            place =
                resolve(self.root, &so_far).map_err(failed("resolve", &self.root.join(&so_far)))?;
            match fs::symlink_metadata(&place) {
                Ok(found) if found.is_dir() => continue,
                Ok(_) => remove(&place)?,
                Err(_) => {}
            }
            // A dangling link may lead to where nothing is yet.
            fs::create_dir_all(&place).map_err(failed("create folder", &place))?;
            fs::set_permissions(&place, Permissions::from_mode(0o755))
                .map_err(failed("change mode of", &place))?;
            self.written.insert(place.clone());
        }
        self.parent = Some((path.to_owned(), place.clone()));
        Ok(place)
    }

    fn hide(&mut self, parent: &Path, name: &OsStr, path: &Path) -> Result<(), ImageError> {
        if name.as_bytes().starts_with(WHITEOUT) {
            return Ok(()); // Bookkeeping of aufs.
        }
        if matches!(name.as_bytes(), b"" | b"." | b"..") {
            return Err(self.broken(path, "a whiteout of nothing"));
        }
        self.parent = None;
        self.remove_lower(&parent.join(name))
    }

    fn make_opaque(&mut self, folder: &Path) -> Result<(), ImageError> {
        self.parent = None;
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let entry = entry.map_err(failed("list", folder))?;
            self.remove_lower(&entry.path())?;
        }
        Ok(())
    }

    /// Removes what lower layers brought; what this layer brought before stays.
    fn remove_lower(&mut self, path: &Path) -> Result<(), ImageError> {
        if !self.written.contains(path) {
            return remove(path);
        }
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return self.make_opaque(path);
        }
        Ok(())
    }
}

fn set_time(target: &Path, modified: &TimeSpec) -> Result<(), ImageError> {
    utimensat(None, target, modified, modified, UtimensatFlags::NoFollowSymlink)
        .map_err(failed_nix("set time of", target))
}

fn set_xattr(target: &Path, name: &str, value: &[u8]) -> Result<(), ImageError> {
    match xattr::set(target, name, value) {
        // Labels of a security module that is not active, user attributes on special files.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM))
                && name != "security.capability" =>
        {
            tracing::debug!(path = %target.display(), name, "attribute not supported here");
            Ok(())
        }
        other => other.map_err(failed("set attribute of", target)),
    }
}
