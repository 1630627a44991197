//! Writes an image to a file that Docker, containerd and this store read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use tar::{Builder, Header};

use super::{Layout, Saved, annotations};
use crate::ImageError;
use crate::content::Content;
use crate::digest::{Digest, HashingReader};
use crate::io::{broken, failed, remove, rename};
use crate::manifests::{Descriptor, Document, parse_document};
use crate::records::Record;

/// Writes `image` to `file`, whole or not at all. Blocking.
pub(crate) fn export(content: &Content, image: &Record, file: &Path) -> Result<(), ImageError> {
    let adding = content.adding()?;
    let new = file.with_extension("partial");
    let result = write(content, image, &new).and_then(|()| rename(&new, file));
    drop(adding);
    if result.is_err() {
        remove(&new)?;
    }
    result
}

fn write(content: &Content, image: &Record, new: &Path) -> Result<(), ImageError> {
    let document = content.document(&image.manifest)?;
    let Ok(Document::Manifest(manifest)) = parse_document(&document) else {
        return Err(broken(format!("manifest {}", image.manifest), "it cannot be read"));
    };
    let out = File::create(new).map_err(failed("create", new))?;
    let mut tar = Builder::new(BufWriter::new(out));
    let mut put = |name: &str, bytes: &[u8]| {
        append(&mut tar, name, bytes.len() as u64, bytes).map_err(failed("write", new))
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put("index.json", &index(image, document.len() as u64, &manifest.media_type))?;
    let saved = Saved {
        config: blob_name(&image.id),
        repo_tags: Some(image.tags.iter().cloned().collect()),
        layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    };
    put("manifest.json", &serde_json::to_vec(&[saved]).expect("plain data"))?;
    put(&blob_name(&image.manifest), &document)?;
    let mut written: Vec<&Digest> = Vec::new();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        // Empty layers repeat.
        if written.contains(&&blob.digest) {
            continue;
        }
        written.push(&blob.digest);
        copy_blob(content, &mut tar, blob, new)?;
    }
    let out = tar.into_inner().and_then(|out| out.into_inner().map_err(io::Error::from));
    out.and_then(|out| out.sync_all()).map_err(failed("write", new))
}

fn index(image: &Record, size: u64, media_type: &str) -> Vec<u8> {
    let entry = Descriptor {
        media_type: if media_type.is_empty() {
            "application/vnd.oci.image.manifest.v1+json".to_owned()
        } else {
            media_type.to_owned()
        },
        digest: image.manifest.clone(),
        size,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let named =
        image.tags.iter().map(|tag| Descriptor { annotations: annotations(tag), ..entry.clone() });
    let mut manifests: Vec<Descriptor> = named.collect();
    if manifests.is_empty() {
        manifests.push(entry);
    }
    serde_json::to_vec(&Layout { schema_version: 2, manifests }).expect("plain data")
}

fn copy_blob(
    content: &Content,
    tar: &mut Builder<impl Write>,
    blob: &Descriptor,
    new: &Path,
) -> Result<(), ImageError> {
    let path = content.blob(&blob.digest);
    let source = File::open(&path).map_err(failed("open", &path))?;
    let size = fs::metadata(&path).map_err(failed("look at", &path))?.len();
    let mut source = HashingReader::new(source);
    append(tar, &blob_name(&blob.digest), size, &mut source).map_err(failed("write", new))?;
    if source.finish().map_err(failed("read", &path))? != blob.digest {
        return Err(broken(format!("blob {}", blob.digest), "its content is damaged"));
    }
    Ok(())
}

fn append(tar: &mut Builder<impl Write>, name: &str, size: u64, data: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, data)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
