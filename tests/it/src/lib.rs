//! What the tests on a real kernel share: a cluster of the binary under test.

use std::path::PathBuf;

use anyhow::{Context, Result};
use host::cluster::DownOnDrop;
use host::{Cluster, ClusterSpec};

/// The binary under test: named by `cargo xtask test`, else the one in cargo's target folder.
pub fn skeg() -> Result<PathBuf> {
    let path = match std::env::var_os("SKEG_BINARY") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().context("find this test's program")?;
            let folder = test.ancestors().nth(2).context("target/PROFILE/deps/PROGRAM")?;
            folder.join("skeg")
        }
    };
    path.canonicalize().with_context(|| format!("{}: run `cargo xtask test`", path.display()))
}

/// The kubectl to test with.
pub fn kubectl() -> String {
    std::env::var("SKEG_KUBECTL").unwrap_or_else(|_| "kubectl".into())
}

/// Starts a cluster that goes away with the guard, also when the test fails.
pub fn cluster(
    name: &str,
    nodes: usize,
    server_args: Vec<String>,
) -> Result<(Cluster, DownOnDrop)> {
    host::cluster::down(name)?;
    let guard = DownOnDrop(name.to_string());
    let spec = ClusterSpec {
        name: name.to_string(),
        nodes,
        skeg: skeg()?,
        kubectl: kubectl(),
        server_args,
    };
    Ok((Cluster::up(&spec)?, guard))
}
