//! Tests against facts recorded from a real API server, where those are laid beside the checkout.

mod corpus;
mod discovery;

use std::path::PathBuf;

/// The folder of recorded facts, or `None` (with a note) where there is none.
fn golden(file: &str) -> Option<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(3).expect("api/kinds is two folders below the root");
    let path = root.join("shared/k8s/golden").join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no recorded facts at {}", path.display());
    None
}
