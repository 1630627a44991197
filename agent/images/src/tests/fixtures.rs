//! Images made from a few lines, and places to try them in.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tar::{Builder, EntryType, Header};

use crate::digest::Digest;
use crate::{Config, ImageStore};

/// One entry of a layer.
#[derive(Debug, Clone)]
pub(super) struct Item {
    path: &'static str,
    kind: EntryType,
    mode: u32,
    owner: u64,
    data: &'static str,
    xattr: Option<(&'static str, &'static str)>,
}

impl Item {
    fn new(path: &'static str, kind: EntryType, mode: u32, data: &'static str) -> Self {
        Self { path, kind, mode, owner: 0, data, xattr: None }
    }

    pub(super) fn file(path: &'static str, data: &'static str) -> Self {
        Self::new(path, EntryType::Regular, 0o644, data)
    }

    pub(super) fn dir(path: &'static str, mode: u32) -> Self {
        Self::new(path, EntryType::Directory, mode, "")
    }

    pub(super) fn link(path: &'static str, target: &'static str) -> Self {
        Self::new(path, EntryType::Symlink, 0o777, target)
    }

    pub(super) fn hard(path: &'static str, target: &'static str) -> Self {
        Self::new(path, EntryType::Link, 0o644, target)
    }

    pub(super) fn fifo(path: &'static str) -> Self {
        Self::new(path, EntryType::Fifo, 0o600, "")
    }

    /// The device 1:3.
    pub(super) fn null(path: &'static str) -> Self {
        Self::new(path, EntryType::Char, 0o666, "")
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn owner(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }

    pub(super) fn xattr(mut self, name: &'static str, value: &'static str) -> Self {
        self.xattr = Some((name, value));
        self
    }
}

/// A layer as a plain tar stream.
pub(super) fn layer(items: &[Item]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for item in items {
        if let Some((name, value)) = item.xattr {
            let key = format!("SCHILY.xattr.{name}");
            tar.append_pax_extensions([(&*key, value.as_bytes())]).expect("extension");
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner);
        header.set_gid(item.owner);
        header.set_mtime(1_000_000_000);
        let data: &[u8] = match item.kind {
            EntryType::Regular => item.data.as_bytes(),
            EntryType::Symlink | EntryType::Link => {
                header.set_link_name_literal(item.data).expect("short");
                &[]
            }
            EntryType::Char => {
                header.set_device_major(1).expect("gnu");
                header.set_device_minor(3).expect("gnu");
                &[]
            }
            _ => &[],
        };
        header.set_size(data.len() as u64);
        // Written as it is: the tar crate would refuse some of the paths that we want to try.
        let name = &mut header.as_old_mut().name;
        name[..item.path.len()].copy_from_slice(item.path.as_bytes());
        header.set_cksum();
        tar.append(&header, data).expect("memory");
    }
    tar.into_inner().expect("memory")
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

/// An image: its layers as they are in the archive, and its config.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) layers: Vec<Vec<u8>>,
    pub(super) config: Vec<u8>,
}

impl Made {
    /// An image of plain layers, each then packed by `pack`.
    pub(super) fn new(plain: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Self {
        let diff_ids: Vec<String> =
            plain.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
        let config = format!(
            r#"{{"os":"linux","config":{{"Cmd":["/bin/app"],"User":"web"}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        Self { layers: plain.iter().map(|layer| pack(layer)).collect(), config: config.into() }
    }

    pub(super) fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub(super) fn manifest(&self) -> Vec<u8> {
        let describe = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#,
                bytes.len()
            )
        };
        let layers: Vec<String> =
            self.layers.iter().map(|layer| describe(layer, "layer.v1.tar")).collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
            describe(&self.config, "config.v1+json"),
            layers.join(",")
        )
        .into()
    }

    /// The files of a `docker save` in its older form.
    pub(super) fn saved(&self, tag: &str) -> BTreeMap<String, Vec<u8>> {
        let config = format!("{}.json", self.id().hex());
        let mut files = BTreeMap::from([(config.clone(), self.config.clone())]);
        let mut names = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let name = format!("layer-{number}/layer.tar");
            files.insert(name.clone(), layer.clone());
            names.push(format!("\"{name}\""));
        }
        let manifest = format!(
            r#"[{{"Config":"{config}","RepoTags":["{tag}"],"Layers":[{}]}}]"#,
            names.join(",")
        );
        files.insert("manifest.json".into(), manifest.into());
        files
    }

    /// The files of an OCI layout.
    pub(super) fn layout(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let manifest = self.manifest();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
            Digest::of(&manifest),
            manifest.len()
        );
        let blob =
            |bytes: &Vec<u8>| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.clone());
        let mut files: BTreeMap<String, Vec<u8>> = self.layers.iter().map(blob).collect();
        files.extend([blob(&manifest), blob(&self.config)]);
        files.insert("index.json".into(), index.into());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }
}

/// An archive of files.
pub(super) fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &**bytes).expect("memory");
    }
    tar.into_inner().expect("memory")
}

/// A folder that is removed at the end, with everything mounted in it gone before.
pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("write");
        path
    }

    pub(super) async fn store(&self) -> ImageStore {
        ImageStore::open(Config::new(self.path("store"))).await.expect("open")
    }

    /// Everything in the folders that a broken import must not leave anything in.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let names = |folder: &str| {
            let folder = self.path("store").join(folder);
            crate::content::names(&folder).expect("list")
        };
        ["blobs", "layers", "records", "staging"].iter().flat_map(|folder| names(folder)).collect()
    }
}

/// Runs a test in a thread with namespaces of its own: what it mounts and whom it talks to is
/// nobody else's business, and ends with it.
pub(super) fn isolated<F: Future<Output = ()>>(
    more: CloneFlags,
    test: impl FnOnce(Place) -> F + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | more).expect("needs root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
        let folder = tempfile::tempdir_in("/var/tmp").expect("folder");
        let at = folder.path().to_owned();
        let place = Place { folder };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("runtime");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(test(place));
        }));
        drop(runtime);
        assert!(!at.exists(), "{} was left behind", at.display());
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let containers = self.path("store/containers");
        for container in crate::content::names(&containers).unwrap_or_default() {
            let rootfs = containers.join(container).join("rootfs");
            // Not mounted is fine.
            _ = nix::mount::umount2(&rootfs, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The text of a file in a root.
pub(super) fn text(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
