//! Test images, made from Debian's `busybox-static`: no registry can be reached from here.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Where Debian's package puts the binary.
pub const BUSYBOX: &str = "/usr/bin/busybox";

/// What an image holds besides busybox.
#[derive(Debug, Clone)]
pub struct ImageSpec<'a> {
    /// Name with tag: `registry.example/web:v1`.
    pub reference: &'a str,
    /// Text of `/version`, to tell images apart.
    pub version: &'a str,
    /// Default command.
    pub cmd: &'a [&'a str],
}

/// The web server of the demo: answers every request on port 8080 with host name and version, and
/// ends at SIGTERM (which the kernel keeps from a first process without a handler).
pub const WEB_CMD: &[&str] = &[
    "/bin/sh",
    "-c",
    "mkdir -p /www && echo \"$(hostname) $(cat /version)\" > /www/index.html && \
     { httpd -f -p 8080 -h /www & trap 'kill $!; exit 0' TERM; wait $!; }",
];

/// A blob of an image: digest (`sha256:…`), media type, bytes.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…`.
    pub digest: String,
    /// Media type.
    pub media_type: &'static str,
    /// Content.
    pub bytes: Vec<u8>,
}

/// An image's parts, for pushing.
#[derive(Debug, Clone)]
pub struct ImageParts {
    /// The config.
    pub config: Blob,
    /// The only layer.
    pub layer: Blob,
    /// The manifest.
    pub manifest: Blob,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn blob(media_type: &'static str, bytes: Vec<u8>) -> Blob {
    Blob { digest: digest(&bytes), media_type, bytes }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

fn add_file(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("add {path}"))
}

/// The layer: busybox under all its names, users, `/version`, `/tmp`.
fn layer(version: &str) -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX)
        .with_context(|| format!("read {BUSYBOX} (Debian package busybox-static)"))?;
    let applets = crate::command::run_args(BUSYBOX, &["--list"])?;
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("root/", 0o700),
        ("home/", 0o755),
        ("proc/", 0o755),
        ("sys/", 0o755),
        ("dev/", 0o755),
        ("var/", 0o755),
        ("usr/", 0o755),
    ] {
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), folder, &[][..])?;
    }
    add_file(&mut tar, "bin/busybox", 0o755, &busybox)?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Link, 0o755, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "bin/busybox")?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home:/bin/sh\n\
                  nobody:x:65534:65534:nobody:/home:/bin/sh\n";
    add_file(&mut tar, "etc/passwd", 0o644, passwd.as_bytes())?;
    add_file(&mut tar, "etc/group", 0o644, b"root:x:0:\nweb:x:1000:\nnogroup:x:65534:\n")?;
    add_file(&mut tar, "version", 0o644, format!("{version}\n").as_bytes())?;
    tar.into_inner().context("finish the layer")
}

/// Makes the parts of an image.
pub fn parts(spec: &ImageSpec<'_>) -> Result<ImageParts> {
    let layer = blob("application/vnd.oci.image.layer.v1.tar", layer(spec.version)?);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Cmd": spec.cmd,
            "Env": ["PATH=/bin", format!("IMAGE_VERSION={}", spec.version)],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created_by": "skeg tests"}],
    });
    let config = blob("application/vnd.oci.image.config.v1+json", serde_json::to_vec(&config)?);
    let describe = |blob: &Blob| json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe(&config),
        "layers": [describe(&layer)],
    });
    let manifest =
        blob("application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest)?);
    Ok(ImageParts { config, layer, manifest })
}

/// Writes images as one `docker save` archive.
pub fn write_archive(path: &Path, specs: &[ImageSpec<'_>]) -> Result<()> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut manifest = Vec::new();
    for spec in specs {
        let parts = parts(spec)?;
        let config_name = format!("{}.json", &parts.config.digest[7..]);
        let layer_name = format!("{}/layer.tar", &parts.layer.digest[7..]);
        add_file(&mut tar, &config_name, 0o644, &parts.config.bytes)?;
        add_file(&mut tar, &layer_name, 0o644, &parts.layer.bytes)?;
        manifest.push(json!({
            "Config": config_name, "RepoTags": [spec.reference], "Layers": [layer_name],
        }));
    }
    add_file(&mut tar, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    let bytes = tar.into_inner().context("finish the archive")?;
    let mut file = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.write_all(&bytes).with_context(|| format!("write {}", path.display()))
}
