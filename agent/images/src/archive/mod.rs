//! Images in files: what `docker save` writes, OCI layouts in a tar file, and both at once.

mod export;
mod import;

pub(crate) use export::export;
pub(crate) use import::import;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifests::Descriptor;

/// Names an image in the index of an OCI layout: containerd's, with registry and tag.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// The same by the specification; often only a tag.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image in Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `index.json` of an OCI layout. Entries that are not about images are skipped.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    schema_version: u32,
    manifests: Vec<Descriptor>,
}

fn annotations(name: &str) -> BTreeMap<String, String> {
    [NAME_ANNOTATION, REF_ANNOTATION].map(|key| (key.to_owned(), name.to_owned())).into()
}
