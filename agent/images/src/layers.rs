//! Unpacked layers, each unpacked once over those below it and shared by all images and containers.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::ImageError;
use crate::content::Content;
use crate::digest::{Digest, HashingReader};
use crate::io::{broken, failed, failed_nix, remove, rename, write_file};
use crate::manifests::Compression;
use crate::unpack::unpack;

/// Name of a layer's folder: so much of its chain id that 128 of them fit on the page of options
/// that mount(2) takes; 96 bits do not meet by chance.
const NAME_DIGITS: usize = 24;

/// What is known about an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The layer and all below it.
    pub(crate) chain_id: Digest,
    /// The layer as a plain tar stream.
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) size_bytes: u64,
}

/// A layer to be unpacked.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
    /// Folder names of the layers below, base first.
    pub(crate) below: Vec<String>,
}

/// The folder name of a layer.
pub(crate) fn name(chain_id: &Digest) -> String {
    chain_id.hex()[..NAME_DIGITS].to_owned()
}

/// An unpacked layer, if it is there.
pub(crate) fn find(content: &Content, name: &str) -> Option<Layer> {
    let text = fs::read(content.layers().join(name).join("layer.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Unpacks a layer that is not there yet. Blocking.
pub(crate) fn ensure(content: &Content, packed: &Packed) -> Result<Layer, ImageError> {
    let name = name(&packed.chain_id);
    if let Some(layer) = find(content, &name) {
        if layer.chain_id != packed.chain_id {
            return Err(broken(&name, "two chains share the start of their ids"));
        }
        return Ok(layer);
    }
    let place = content.layers().join(&name);
    // A folder without layer.json cannot be one of ours.
    remove(&place)?;
    let stage = content.stage()?;
    let fs = prepare(content, &stage.path, packed)?;
    let size_bytes = unpack_over(content, &stage.path, packed)?;
    for folder in ["work", "merged"] {
        remove(&stage.path.join(folder))?;
    }
    let layer =
        Layer { chain_id: packed.chain_id.clone(), diff_id: packed.diff_id.clone(), size_bytes };
    let text = serde_json::to_vec(&layer).expect("plain data");
    write_file(&stage.path.join("layer.json"), &text)?;
    // All of the layer reaches the disk before its name does.
    let folder = File::open(&fs).map_err(failed("open", &fs))?;
    nix::unistd::syncfs(folder.as_raw_fd()).map_err(failed_nix("sync", &fs))?;
    match rename(&stage.path, &place) {
        // Another process unpacked the same meanwhile.
        Err(_) if find(content, &name).is_some() => {}
        other => other?,
    }
    Ok(layer)
}

fn prepare(content: &Content, stage: &Path, packed: &Packed) -> Result<PathBuf, ImageError> {
    for folder in ["fs", "work", "merged"] {
        let folder = stage.join(folder);
        fs::create_dir(&folder).map_err(failed("create folder", &folder))?;
    }
    let fs = stage.join("fs");
    match packed.below.last() {
        Some(top) => copy_root(&content.layers().join(top).join("fs"), &fs)?,
        None => fs::set_permissions(&fs, Permissions::from_mode(0o755))
            .map_err(failed("change mode of", &fs))?,
    }
    Ok(fs)
}

/// Gives an upper folder the owner and mode of the root below, which it hides.
pub(crate) fn copy_root(from: &Path, to: &Path) -> Result<(), ImageError> {
    let root = fs::metadata(from).map_err(failed("look at", from))?;
    chown(to, Some(root.uid()), Some(root.gid())).map_err(failed("change owner of", to))?;
    fs::set_permissions(to, root.permissions()).map_err(failed("change mode of", to))
}

/// Unpacks in a thread with a mount namespace of its own: however the work ends, even by SIGKILL,
/// the mount goes with it.
fn unpack_over(content: &Content, stage: &Path, packed: &Packed) -> Result<u64, ImageError> {
    let merged = stage.join("merged");
    let work = || {
        if packed.below.is_empty() {
            return unpack_verified(content, packed, &stage.join("fs"));
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed_nix("unshare mounts for", &merged))?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(failed_nix("make mounts private for", &merged))?;
        mount_overlay(content, &packed.below, &stage.join("fs"), &stage.join("work"), &merged)?;
        unpack_verified(content, packed, &merged)
    };
    in_thread(work)
}

/// Runs work in a thread whose working folder and namespaces end with it.
pub(crate) fn in_thread<T: Send>(
    work: impl FnOnce() -> Result<T, ImageError> + Send,
) -> Result<T, ImageError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("images-mount".to_owned());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(failed("start a thread in", Path::new("/proc/self")))?;
        thread.join().unwrap_or_else(|_| Err(broken("layer", "the thread unpacking it stopped")))
    })
}

/// Mounts layers (base first) under a writable folder. Call it in [`in_thread`], after `unshare` of
/// at least CLONE_FS: it changes the working folder, so that the layers' names stay short.
pub(crate) fn mount_overlay(
    content: &Content,
    below: &[String],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), ImageError> {
    let layers = content.layers();
    std::env::set_current_dir(&layers).map_err(failed("change to", &layers))?;
    let lower: Vec<String> = below.iter().rev().map(|name| format!("{name}/fs")).collect();
    // Without the inode index an upper folder can be mounted again, over the same layers.
    let options = format!(
        "index=off,metacopy=off,lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        option(upper)?,
        option(work)?,
    );
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(&*options))
        .map_err(failed_nix("mount overlay", target))
}

/// A path as a mount option.
fn option(path: &Path) -> Result<&str, ImageError> {
    path.to_str()
        .filter(|text| !text.contains([',', ':', '\\']))
        .ok_or_else(|| broken(path.display().to_string(), "the path cannot be a mount option"))
}

/// Unpacks the blob, and checks it in both its forms.
fn unpack_verified(content: &Content, packed: &Packed, root: &Path) -> Result<u64, ImageError> {
    let path = content.blob(&packed.blob);
    let what = format!("layer {}", packed.blob);
    let file = File::open(&path).map_err(failed("open", &path))?;
    let mut blob = HashingReader::new(file);
    let (size, diff_id) = {
        let plain = decompress(&mut blob).map_err(|error| broken(&what, error.to_string()))?;
        let mut plain = HashingReader::new(plain);
        let size = unpack(&mut plain, root, &what);
        match size {
            // Damage of the file explains it better than what it led to.
            Err(error @ ImageError::Broken { .. }) => {
                drop(plain);
                let found = blob.finish().map_err(failed("read", &path))?;
                return Err(if found == packed.blob { error } else { damaged(content, packed) });
            }
            size => {
                let diff_id = plain.finish().map_err(|error| broken(&what, error.to_string()))?;
                (size?, diff_id)
            }
        }
    };
    if blob.finish().map_err(failed("read", &path))? != packed.blob {
        return Err(damaged(content, packed));
    }
    if diff_id != packed.diff_id {
        let reason = format!("unpacks to {diff_id}, the config says {}", packed.diff_id);
        return Err(broken(what, reason));
    }
    Ok(size)
}

/// Removes a damaged blob, so that the next attempt fetches it again.
fn damaged(content: &Content, packed: &Packed) -> ImageError {
    let broken = broken(format!("layer {}", packed.blob), "its content is damaged");
    remove(&content.blob(&packed.blob)).err().unwrap_or(broken)
}

/// Reads through whatever compression the first bytes say.
pub(crate) fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    Ok(match Compression::of(reader.fill_buf()?) {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
    })
}
