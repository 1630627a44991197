//! Which images there are: one small file per image, changed under a lock.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::content::{Content, names};
use crate::digest::Digest;
use crate::io::{broken, failed, remove, write_file};
use crate::references::Reference;
use crate::{Image, ImageConfig, ImageError, layers};

/// What is kept about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The config's digest.
    pub(crate) id: Digest,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) digests: BTreeSet<String>,
    /// The manifest blob.
    pub(crate) manifest: Digest,
    /// The layer blobs, base first.
    pub(crate) blobs: Vec<Digest>,
    /// Folder names of the unpacked layers, base first.
    pub(crate) layers: Vec<String>,
    pub(crate) size_bytes: u64,
    pub(crate) config: ImageConfig,
}

impl Record {
    pub(crate) fn image(&self, pinned: &BTreeSet<String>) -> Image {
        Image {
            id: self.id.to_string(),
            tags: self.tags.iter().cloned().collect(),
            digests: self.digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            config: self.config.clone(),
            pinned: self.tags.iter().any(|tag| pinned.contains(tag)),
        }
    }

    /// Names of all blobs and layer folders this image needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = String> {
        let blobs = self.blobs.iter().chain([&self.id, &self.manifest]);
        blobs.map(|digest| digest.hex().to_owned()).chain(self.layers.iter().cloned())
    }

    fn is_named(&self, name: &Name) -> bool {
        match name {
            Name::Id(id) => self.id == *id,
            Name::IdPrefix(prefix) => self.id.hex().starts_with(prefix.as_str()),
            Name::Reference(reference) => match (&reference.digest, reference.tagged()) {
                (Some(digest), _) => self.digests.contains(&reference.with_digest(digest)),
                (None, Some(tag)) => self.tags.contains(&tag),
                (None, None) => false,
            },
        }
    }
}

/// The ways to name an image.
pub(crate) enum Name {
    Id(Digest),
    IdPrefix(String),
    Reference(Reference),
}

impl Name {
    /// `sha256:…`, an id without that, or a reference. A short id only counts if no image has that
    /// text as its name, so it is the second choice.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        if let Ok(id) = text.parse().or_else(|_| format!("sha256:{text}").parse()) {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Reference)
    }

    fn short(text: &str) -> Option<Self> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        // Twelve digits are what tools print.
        let short = (12..64).contains(&text.len()) && text.bytes().all(digits);
        short.then(|| Self::IdPrefix(text.to_owned()))
    }
}

impl Content {
    fn record(&self, id: &Digest) -> PathBuf {
        self.records().join(format!("{}.json", id.hex()))
    }

    /// Every image, by id. A record that cannot be read is an error: guessing could lose images.
    pub(crate) fn all(&self) -> Result<Vec<Record>, ImageError> {
        let folder = self.records();
        let mut records = Vec::new();
        for name in names(&folder)?.iter().filter(|name| name.ends_with(".json")) {
            let path = folder.join(name);
            let text = match fs::read(&path) {
                // Removed since the folder was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                text => text.map_err(failed("read", &path))?,
            };
            let record: Record = serde_json::from_slice(&text)
                .map_err(|error| broken(path.display().to_string(), error.to_string()))?;
            records.push(record);
        }
        Ok(records)
    }

    pub(crate) fn find(&self, text: &str) -> Result<Option<Record>, ImageError> {
        let name = Name::parse(text)?;
        let records = self.all()?;
        if let Some(found) = records.iter().find(|record| record.is_named(&name)) {
            return Ok(Some(found.clone()));
        }
        let Some(short) = Name::short(text) else { return Ok(None) };
        let mut found = records.into_iter().filter(|record| record.is_named(&short));
        Ok(found.next().filter(|_| found.next().is_none()))
    }

    pub(crate) fn need(&self, text: &str) -> Result<Record, ImageError> {
        self.find(text)?.ok_or_else(|| ImageError::NotPresent { reference: text.to_owned() })
    }

    /// Adds images, or names to images that are there. A tag leaves the image that had it.
    pub(crate) fn register(&self, new: &[Record]) -> Result<Vec<Record>, ImageError> {
        let lock = self.changing_records()?;
        let mut records = self.all()?;
        let mut changed = HashSet::new();
        for record in new {
            for other in records.iter_mut().filter(|other| other.id != record.id) {
                let before = other.tags.len();
                other.tags.retain(|tag| !record.tags.contains(tag));
                if other.tags.len() != before {
                    changed.insert(other.id.clone());
                }
            }
            changed.insert(record.id.clone());
            match records.iter_mut().find(|other| other.id == record.id) {
                Some(known) => {
                    let (tags, digests) = (known.tags.clone(), known.digests.clone());
                    *known = record.clone();
                    known.tags.extend(tags);
                    known.digests.extend(digests);
                }
                None => records.push(record.clone()),
            }
        }
        // First the new owners of tags: a crash in between leaves a tag twice, not nowhere.
        records.sort_by_key(|record| !new.iter().any(|new| new.id == record.id));
        for record in records.iter().filter(|record| changed.contains(&record.id)) {
            let text = serde_json::to_vec(record).expect("plain data");
            write_file(&self.record(&record.id), &text)?;
        }
        drop(lock);
        records.retain(|record| new.iter().any(|new| new.id == record.id));
        Ok(records)
    }

    /// Takes a name away, or the whole image if it was named by id or has no other tag.
    pub(crate) fn unregister(&self, text: &str) -> Result<(), ImageError> {
        let name = Name::parse(text)?;
        let _lock = self.changing_records()?;
        let mut record = self.need(text)?;
        if let Name::Reference(reference) = &name
            && record.is_named(&name)
        {
            match (reference.tagged(), &reference.digest) {
                (Some(tag), _) => record.tags.remove(&tag),
                (None, Some(digest)) => record.digests.remove(&reference.with_digest(digest)),
                (None, None) => false,
            };
            if !record.tags.is_empty() {
                let text = serde_json::to_vec(&record).expect("plain data");
                return write_file(&self.record(&record.id), &text);
            }
        }
        remove(&self.record(&record.id))
    }

    /// Removes records of images whose parts are missing: they are pulled again when needed.
    pub(crate) fn drop_incomplete(&self) -> Result<(), ImageError> {
        let _lock = self.changing_records()?;
        for record in self.all()? {
            let missing = record.layers.iter().find(|name| layers::find(self, name).is_none());
            if let Some(layer) = missing {
                tracing::warn!(image = %record.id, layer, "forgetting an image whose layer is missing");
                remove(&self.record(&record.id))?;
            }
        }
        Ok(())
    }
}
