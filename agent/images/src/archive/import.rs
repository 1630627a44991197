//! Reads an archive: everything into a staging folder first, then checked, then taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry};

use super::{Layout, NAME_ANNOTATION, REF_ANNOTATION, Saved};
use crate::ImageError;
use crate::content::{Content, Stage};
use crate::digest::{Digest, HashingReader};
use crate::io::{broken, failed};
use crate::layers::{self, decompress};
use crate::manifests::{
    Config, DOCUMENT_LIMIT_BYTES, Descriptor, Document, Manifest, Platform, choose, parse_config,
    parse_document,
};
use crate::pull::{check, packed, record};
use crate::records::Record;
use crate::references::Reference;

/// Files in one archive. Real ones have three per layer.
const FILES_LIMIT: usize = 10_000;

/// A file of the archive, in the staging folder.
#[derive(Debug, Clone)]
struct Staged {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// The files of an archive by their names in it.
struct Files {
    what: String,
    by_name: BTreeMap<PathBuf, Staged>,
    /// Symbolic and hard links: Docker writes a layer that two images share only once.
    links: BTreeMap<PathBuf, PathBuf>,
    // Removed last.
    _stage: Stage,
}

/// An image of the archive, checked, not yet taken in.
struct Found {
    document: Vec<u8>,
    manifest: Manifest,
    config: Config,
    tags: BTreeSet<String>,
}

/// Imports every image of an archive; nothing changes if any of it is broken. Blocking.
pub(crate) fn import(content: &Content, archive: &Path) -> Result<Vec<Record>, ImageError> {
    let adding = content.adding()?;
    let files = stage(content, archive)?;
    let found = files.images()?;
    for image in &found {
        let blobs = image.manifest.layers.iter().chain([&image.manifest.config]);
        for blob in blobs {
            files.take_in(content, blob)?;
        }
    }
    let mut records = Vec::new();
    for image in found {
        let mut size_bytes = 0;
        for layer in packed(&image.manifest.layers, &image.config.diff_ids) {
            size_bytes += layers::ensure(content, &layer)?.size_bytes;
        }
        let stored = content.put_document(&image.document)?;
        let mut record = record(stored, &image.manifest, image.config, size_bytes);
        record.tags = image.tags;
        records.push(record);
    }
    let records = content.register(&records)?;
    drop(adding);
    Ok(records)
}

fn stage(content: &Content, archive: &Path) -> Result<Files, ImageError> {
    let what = archive.display().to_string();
    let damaged = |error: io::Error| broken(&what, error.to_string());
    let file = File::open(archive).map_err(failed("open", archive))?;
    let stage = content.stage()?;
    let mut files = Files {
        what: what.clone(),
        by_name: BTreeMap::new(),
        links: BTreeMap::new(),
        _stage: stage,
    };
    let mut tar = Archive::new(decompress(file).map_err(damaged)?);
    for entry in tar.entries().map_err(|error| broken(&what, error.to_string()))? {
        let mut entry = entry.map_err(|error| broken(&what, error.to_string()))?;
        if files.by_name.len() + files.links.len() >= FILES_LIMIT {
            return Err(broken(&what, format!("more than {FILES_LIMIT} files")));
        }
        files.add(&mut entry)?;
    }
    Ok(files)
}

impl Files {
    fn broken(&self, reason: impl Into<String>) -> ImageError {
        broken(&self.what, reason)
    }

    fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ImageError> {
        let damaged = |error: io::Error| broken(&self.what, error.to_string());
        let name = inside(&entry.path().map_err(damaged)?);
        let Some(name) = name else {
            return Err(self.broken("a file name in it leads out of it"));
        };
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name().map_err(damaged)?.unwrap_or_default();
            let base = if kind.is_symlink() { name.parent() } else { None };
            // A link that leads nowhere is only an error if somebody asks for it.
            if let Some(target) = normalise(base.unwrap_or(Path::new("")), &target) {
                self.links.insert(name, target);
            }
            return Ok(());
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Ok(());
        }
        let path = self._stage.path.join(self.by_name.len().to_string());
        let mut out = File::create_new(&path).map_err(failed("create", &path))?;
        let mut reader = HashingReader::new(entry);
        let size = copy(&mut reader, &mut out, &path, &self.what)?;
        let digest = reader.finish().map_err(damaged)?;
        self.by_name.insert(name, Staged { path, digest, size });
        Ok(())
    }

    fn get(&self, name: &Path) -> Option<&Staged> {
        let mut name = name;
        // Links to links are not something tools write; a few steps are plenty.
        for _ in 0..4 {
            match self.links.get(name) {
                Some(target) => name = target,
                None => return self.by_name.get(name),
            }
        }
        None
    }

    fn need(&self, name: &str) -> Result<&Staged, ImageError> {
        let path = inside(Path::new(name));
        let found = path.and_then(|path| self.get(&path));
        found.ok_or_else(|| {
            self.broken(format!("{name} is missing; it is truncated or not an image archive"))
        })
    }

    fn blob(&self, digest: &Digest) -> Result<&Staged, ImageError> {
        let staged = self.need(&format!("blobs/sha256/{}", digest.hex()))?;
        if staged.digest != *digest {
            return Err(self.broken(format!("blob {digest} is damaged")));
        }
        Ok(staged)
    }

    fn small(&self, staged: &Staged) -> Result<Vec<u8>, ImageError> {
        if staged.size > DOCUMENT_LIMIT_BYTES {
            return Err(self.broken("a manifest or config in it is too large"));
        }
        fs::read(&staged.path).map_err(failed("read", &staged.path))
    }

    fn images(&self) -> Result<Vec<Found>, ImageError> {
        // Docker's file comes first: where both are, only it has whole names.
        let found = if self.get(Path::new("manifest.json")).is_some() {
            self.saved()?
        } else if self.get(Path::new("index.json")).is_some() {
            self.layout()?
        } else {
            return Err(self.broken(
                "neither manifest.json nor index.json is in it; it is truncated or not an image archive",
            ));
        };
        if found.is_empty() {
            return Err(self.broken("no image is in it"));
        }
        for image in &found {
            check(&image.manifest, &image.config).map_err(|reason| self.broken(reason))?;
        }
        Ok(found)
    }

    fn saved(&self) -> Result<Vec<Found>, ImageError> {
        let text = self.small(self.need("manifest.json")?)?;
        let saved: Vec<Saved> = serde_json::from_slice(&text)
            .map_err(|error| self.broken(format!("manifest.json: {error}")))?;
        let describe = |name: &str, media_type: &str| -> Result<Descriptor, ImageError> {
            let staged = self.need(name)?;
            // In the newer form, names are digests: they must be right.
            let hex = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
            if let Ok(named) = format!("sha256:{hex}").parse::<Digest>()
                && named != staged.digest
            {
                return Err(self.broken(format!("{name} is damaged")));
            }
            Ok(Descriptor {
                media_type: media_type.to_owned(),
                digest: staged.digest.clone(),
                size: staged.size,
                platform: None,
                annotations: BTreeMap::new(),
            })
        };
        let mut found = Vec::new();
        for image in saved {
            let layers = image.layers.iter();
            let layers =
                layers.map(|name| describe(name, "application/vnd.oci.image.layer.v1.tar"));
            let manifest = Manifest {
                schema_version: 2,
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                config: describe(&image.config, "application/vnd.oci.image.config.v1+json")?,
                layers: layers.collect::<Result<_, _>>()?,
            };
            let document = serde_json::to_vec(&manifest).expect("plain data");
            let config = self.config(self.need(&image.config)?)?;
            let mut tags = BTreeSet::new();
            for name in image.repo_tags.unwrap_or_default() {
                tags.extend(self.tag(&name)?);
            }
            found.push(Found { document, manifest, config, tags });
        }
        Ok(found)
    }

    fn layout(&self) -> Result<Vec<Found>, ImageError> {
        let text = self.small(self.need("index.json")?)?;
        let layout: Layout = serde_json::from_slice(&text)
            .map_err(|error| self.broken(format!("index.json: {error}")))?;
        let mut found: Vec<Found> = Vec::new();
        for entry in &layout.manifests {
            let mut document = self.small(self.blob(&entry.digest)?)?;
            let parse = |bytes: &[u8]| parse_document(bytes).map_err(|reason| self.broken(reason));
            if let Document::Index(index) = parse(&document)? {
                let chosen = choose(&index, &Platform::host());
                let chosen = chosen.map_err(|reason| self.broken(reason))?;
                document = self.small(self.blob(&chosen.digest)?)?;
            }
            let Document::Manifest(manifest) = parse(&document)? else {
                return Err(self.broken("an index inside an index"));
            };
            for layer in &manifest.layers {
                self.blob(&layer.digest)?;
            }
            let config = self.config(self.blob(&manifest.config.digest)?)?;
            let name = entry.annotations.get(NAME_ANNOTATION);
            let name = name.or_else(|| {
                // Only a tag says nothing about the image's name.
                entry.annotations.get(REF_ANNOTATION).filter(|name| name.contains(['/', ':']))
            });
            let tags = name.map_or(Ok(None), |name| self.tag(name))?;
            let same = found.iter_mut().find(|other| other.manifest == manifest);
            match same {
                Some(other) => other.tags.extend(tags),
                None => {
                    let tags = tags.into_iter().collect();
                    found.push(Found { document, manifest, config, tags });
                }
            }
        }
        Ok(found)
    }

    fn config(&self, staged: &Staged) -> Result<Config, ImageError> {
        parse_config(&self.small(staged)?).map_err(|reason| self.broken(reason))
    }

    fn tag(&self, name: &str) -> Result<Option<String>, ImageError> {
        let reference: Reference = name.parse().map_err(|error: ImageError| {
            self.broken(format!("an image in it has a bad name: {error}"))
        })?;
        Ok(reference.tagged())
    }

    /// Moves a file to the blobs.
    fn take_in(&self, content: &Content, blob: &Descriptor) -> Result<(), ImageError> {
        if content.has_blob(&blob.digest, blob.size) {
            return Ok(());
        }
        let staged = self.by_name.values().find(|staged| staged.digest == blob.digest);
        let staged =
            staged.ok_or_else(|| self.broken(format!("blob {} is missing", blob.digest)))?;
        content.adopt(&staged.path, &blob.digest)
    }
}

/// Copies, telling errors of the archive from errors of the disk.
fn copy(from: &mut impl Read, to: &mut File, path: &Path, what: &str) -> Result<u64, ImageError> {
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let count = from.read(&mut buffer).map_err(|error| broken(what, error.to_string()))?;
        if count == 0 {
            return Ok(size);
        }
        io::Write::write_all(to, &buffer[..count]).map_err(failed("write", path))?;
        size += count as u64;
    }
}

fn inside(path: &Path) -> Option<PathBuf> {
    let outside = path.components().any(|part| matches!(part, Component::ParentDir));
    if outside { None } else { normalise(Path::new(""), path) }
}

/// `path` as seen from `base`, without `.` and `..`; nothing if it leads out of the archive.
fn normalise(base: &Path, path: &Path) -> Option<PathBuf> {
    let mut normal = base.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::RootDir => normal.clear(),
            Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
        }
    }
    Some(normal)
}
