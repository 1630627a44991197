//! A pull from beginning to end: manifest, config, layers side by side, each unpacked as its turn
//! comes, then the record.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::content::Content;
use crate::digest::Digest;
use crate::io::{blocking, broken};
use crate::layers::{self, Packed};
use crate::manifests::{
    Config, DOCUMENT_LIMIT_BYTES, Descriptor, Document, Manifest, Platform, chain_ids, choose,
    parse_config, parse_document,
};
use crate::records::Record;
use crate::references::Reference;
use crate::registry::{OnProgress, Progress, Refusal, Registry, Trust};
use crate::{Credentials, ImageError};

/// Layers of one image on their way at once, as Docker and containerd have it.
const DOWNLOADS_AT_ONCE: usize = 3;

/// Pulls an image and records it.
pub(crate) async fn pull(
    content: &Arc<Content>,
    reference: &Reference,
    credentials: &[Credentials],
    trust: &Trust,
    progress: &OnProgress,
) -> Result<Record, ImageError> {
    let adding = {
        let content = Arc::clone(content);
        blocking(move || content.adding()).await?
    };
    let record = pull_unrecorded(content, reference, credentials, trust, progress).await?;
    let recorded = {
        let content = Arc::clone(content);
        blocking(move || content.register(&[record])).await?
    };
    drop(adding);
    recorded.into_iter().next().ok_or_else(|| broken(reference.to_string(), "it was not recorded"))
}

async fn pull_unrecorded(
    content: &Arc<Content>,
    reference: &Reference,
    credentials: &[Credentials],
    trust: &Trust,
    progress: &OnProgress,
) -> Result<Record, ImageError> {
    let failed = |refusal: Refusal| refusal.into_error(reference);
    let (registry, top) = connect(reference, credentials, trust).await?;
    let top_digest = Digest::of(&top);
    let bytes = match parse(reference, &top)? {
        Document::Manifest(_) => top,
        Document::Index(index) => {
            let chosen = choose(&index, &Platform::host())
                .map_err(|reason| failed(Refusal::Final(reason)))?;
            registry.document(Some(&chosen.digest)).await.map_err(failed)?
        }
    };
    let Document::Manifest(manifest) = parse(reference, &bytes)? else {
        return Err(failed(Refusal::Final("an index inside an index".to_owned())));
    };
    let quiet: OnProgress = Arc::new(|_| {});
    if manifest.config.size > DOCUMENT_LIMIT_BYTES {
        return Err(failed(Refusal::Final("the image's config is too large".to_owned())));
    }
    registry.fetch(content, &manifest.config, &quiet).await.map_err(failed)?;
    let config = {
        let (content, digest) = (Arc::clone(content), manifest.config.digest.clone());
        let bytes = blocking(move || content.document(&digest)).await?;
        parse_config(&bytes).map_err(|reason| failed(Refusal::Final(reason)))?
    };
    check(&manifest, &config).map_err(|reason| failed(Refusal::Final(reason)))?;
    let sizes = manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size));
    progress(Progress::Layers(sizes.collect()));
    let size_bytes = layers(content, reference, &registry, &manifest, &config, progress).await?;
    let stored = {
        let content = Arc::clone(content);
        blocking(move || content.put_document(&bytes)).await?
    };
    let mut record = record(stored, &manifest, config, size_bytes);
    record.digests.insert(reference.with_digest(&top_digest));
    record.tags.extend(reference.tagged());
    Ok(record)
}

/// Finds credentials that work (then none) by asking for the reference's document.
async fn connect(
    reference: &Reference,
    credentials: &[Credentials],
    trust: &Trust,
) -> Result<(Registry, Vec<u8>), ImageError> {
    let mut refused = None;
    for credentials in credentials.iter().map(Some).chain([None]) {
        let registry = Registry::new(reference, credentials, trust)?;
        match registry.document(None).await {
            Ok(bytes) => return Ok((registry, bytes)),
            Err(refusal @ Refusal::Unauthorized(_)) => {
                refused.get_or_insert(refusal);
            }
            Err(refusal) => return Err(refusal.into_error(reference)),
        }
    }
    let refused = refused.unwrap_or_else(|| Refusal::Final("no way to authenticate".to_owned()));
    Err(refused.into_error(reference))
}

/// Downloads side by side, unpacks in order; returns the bytes of all layers' files.
async fn layers(
    content: &Arc<Content>,
    reference: &Reference,
    registry: &Registry,
    manifest: &Manifest,
    config: &Config,
    progress: &OnProgress,
) -> Result<u64, ImageError> {
    let todo = manifest.layers.iter().zip(packed(&manifest.layers, &config.diff_ids));
    let fetches: Vec<BoxFuture<'_, Result<Packed, ImageError>>> = todo
        .map(|(blob, packed)| {
            let fetch = registry.fetch(content, blob, progress);
            let done = |result: Result<(), Refusal>| match result {
                Ok(()) => Ok(packed),
                Err(refusal) => Err(refusal.into_error(reference)),
            };
            fetch.map(done).boxed()
        })
        .collect();
    let mut fetched = stream::iter(fetches).buffered(DOWNLOADS_AT_ONCE);
    let mut size_bytes = 0;
    while let Some(packed) = fetched.next().await {
        let (content, packed) = (Arc::clone(content), packed?);
        let blob = packed.blob.clone();
        size_bytes += blocking(move || layers::ensure(&content, &packed)).await?.size_bytes;
        progress(Progress::Unpacked(blob));
    }
    Ok(size_bytes)
}

fn parse(reference: &Reference, bytes: &[u8]) -> Result<Document, ImageError> {
    parse_document(bytes).map_err(|reason| Refusal::Final(reason).into_error(reference))
}

/// Whether manifest and config are about the same layers.
pub(crate) fn check(manifest: &Manifest, config: &Config) -> Result<(), String> {
    let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
    if layers != diff_ids {
        return Err(format!("{layers} layers in the manifest, {diff_ids} in the config"));
    }
    let host = Platform::host();
    let Platform { os, architecture, .. } = &config.platform;
    // Images made by hand often do not say.
    if !os.is_empty() && *os != host.os {
        return Err(format!("the image is for {os}"));
    }
    if !architecture.is_empty() && *architecture != host.architecture {
        return Err(format!(
            "the image is for {architecture}, this machine is {}",
            host.architecture
        ));
    }
    Ok(())
}

/// The layers as they are to be unpacked, base first.
pub(crate) fn packed(blobs: &[Descriptor], diff_ids: &[Digest]) -> Vec<Packed> {
    let chain = chain_ids(diff_ids);
    let names: Vec<String> = chain.iter().map(layers::name).collect();
    let layers = blobs.iter().zip(diff_ids).zip(chain).enumerate();
    layers
        .map(|(index, ((blob, diff_id), chain_id))| Packed {
            blob: blob.digest.clone(),
            diff_id: diff_id.clone(),
            chain_id,
            below: names[..index].to_vec(),
        })
        .collect()
}

/// The record of an image without names.
pub(crate) fn record(
    stored: Digest,
    manifest: &Manifest,
    config: Config,
    size_bytes: u64,
) -> Record {
    Record {
        id: manifest.config.digest.clone(),
        tags: BTreeSet::new(),
        digests: BTreeSet::new(),
        manifest: stored,
        blobs: manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
        layers: chain_ids(&config.diff_ids).iter().map(layers::name).collect(),
        size_bytes,
        config: config.run,
    }
}
