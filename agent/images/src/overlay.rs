//! Writable roots of containers: one overlay mount each, over the layers of their image.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::content::{Content, names};
use crate::digest::Digest;
use crate::io::{broken, failed, failed_nix, remove, write_file};
use crate::layers::{copy_root, in_thread, mount_overlay};
use crate::records::Record;
use crate::{ImageError, Snapshot};

/// What a container's root is made of; the layers stay while this is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    image: Digest,
    layers: Vec<String>,
}

/// Mounts a container's root, or returns the one it has. After a reboot the same root is mounted
/// again, with what the container wrote; its image need not have a record any more. Blocking.
pub(crate) fn mount(
    content: &Content,
    image: &str,
    container_id: &str,
) -> Result<Snapshot, ImageError> {
    let folder = folder(content, container_id)?;
    let rootfs = folder.join("rootfs");
    let made = match read(&folder)? {
        Some(made) if image.parse::<Digest>().is_ok_and(|id| id != made.image) => {
            let reason = format!("its root is made from image {}", made.image);
            return Err(broken(format!("container {container_id}"), reason));
        }
        Some(made) => made,
        None => prepare(content, &content.need(image)?, &folder)?,
    };
    if is_mounted(&rootfs)? {
        return Ok(Snapshot { rootfs });
    }
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    if made.layers.is_empty() {
        // An image without layers: the upper folder is all there is.
        return Ok(Snapshot { rootfs: upper });
    }
    in_thread(|| {
        // The working folder only; the mount is for everybody in our mount namespace.
        unshare(CloneFlags::CLONE_FS).map_err(failed_nix("unshare folder for", &rootfs))?;
        mount_overlay(content, &made.layers, &upper, &work, &rootfs)
    })?;
    Ok(Snapshot { rootfs })
}

fn prepare(content: &Content, image: &Record, folder: &Path) -> Result<Made, ImageError> {
    // Left over from a start that did not get as far as writing snapshot.json.
    detach(&folder.join("rootfs"))?;
    remove(folder)?;
    for name in ["upper", "work", "rootfs"] {
        let part = folder.join(name);
        fs::create_dir_all(&part).map_err(failed("create folder", &part))?;
    }
    if let Some(top) = image.layers.last() {
        copy_root(&content.layers().join(top).join("fs"), &folder.join("upper"))?;
    }
    let made = Made { image: image.id.clone(), layers: image.layers.clone() };
    let text = serde_json::to_vec(&made).expect("plain data");
    write_file(&folder.join("snapshot.json"), &text)?;
    Ok(made)
}

/// Unmounts and removes a container's root. Success if there is none. Returns the image it was made
/// from. Blocking.
pub(crate) fn unmount(content: &Content, container_id: &str) -> Result<Option<Digest>, ImageError> {
    let folder = folder(content, container_id)?;
    // A root that cannot be described can still be removed.
    let made = read(&folder).ok().flatten();
    detach(&folder.join("rootfs"))?;
    remove(&folder)?;
    Ok(made.map(|made| made.image))
}

/// Layers that containers use, whether or not their image still has a name.
pub(crate) fn layers_in_use(content: &Content) -> Result<HashSet<String>, ImageError> {
    let mut used = HashSet::new();
    for name in names(&content.containers())? {
        if let Some(made) = read(&content.containers().join(name))? {
            used.extend(made.layers);
        }
    }
    Ok(used)
}

fn read(folder: &Path) -> Result<Option<Made>, ImageError> {
    let path = folder.join("snapshot.json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed("read", &path))?,
    };
    let made = serde_json::from_slice(&text)
        .map_err(|error| broken(path.display().to_string(), error.to_string()))?;
    Ok(Some(made))
}

/// A mount point is on another device than the folder it is in.
fn is_mounted(rootfs: &Path) -> Result<bool, ImageError> {
    let outside = rootfs.parent().unwrap_or(rootfs);
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    let (inside, outside) = (device(rootfs), device(outside).map_err(failed("look at", outside))?);
    Ok(inside.is_ok_and(|inside| inside != outside))
}

/// Unmounts whatever is mounted there, also several times over.
fn detach(rootfs: &Path) -> Result<(), ImageError> {
    while rootfs.exists() && is_mounted(rootfs)? {
        // Lazily: a process that still stands in it must not keep the container from going away.
        umount2(rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(failed_nix("unmount", rootfs))?;
    }
    Ok(())
}

fn folder(content: &Content, container_id: &str) -> Result<PathBuf, ImageError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let plain = !container_id.starts_with('.') && container_id.bytes().all(word);
    if container_id.is_empty() || container_id.len() > 128 || !plain {
        return Err(broken(format!("container id {container_id:?}"), "it cannot be a folder name"));
    }
    Ok(content.containers().join(container_id))
}
