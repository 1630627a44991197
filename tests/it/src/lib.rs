//! What the tests on a real kernel share: a cluster of the binary under test.

use std::path::PathBuf;

use anyhow::{Context, Result};
use host::cluster::DownOnDrop;
use host::image::{ImageSpec, WEB_CMD, write_archive};
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

/// Every kubectl at hand: those that `SKEG_KUBECTLS` lists (separated by `:`), else the one of
/// [`kubectl`] and what is beside it under names such as `kubectl.1.30`.
pub fn kubectls() -> Result<Vec<String>> {
    if let Some(listed) = std::env::var_os("SKEG_KUBECTLS") {
        return Ok(std::env::split_paths(&listed).map(|path| path.display().to_string()).collect());
    }
    let mut all = vec![kubectl()];
    let mut folders = vec![PathBuf::from("/usr/lib/google-cloud-sdk/bin")];
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let paths = entries.flatten().map(|entry| entry.path());
        all.extend(paths.map(|path| path.display().to_string()).filter(|path| {
            path.rsplit('/').next().is_some_and(|name| {
                name.starts_with("kubectl.1.3") || name.starts_with("kubectl.1.2")
            })
        }));
    }
    all.sort();
    all.dedup();
    Ok(all)
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

/// The image that tests run, and the reference it has on every node of a cluster made by
/// [`ready_cluster`].
pub const IMAGE: &str = "registry.example/web:v1";

/// A cluster whose nodes are all Ready and have [`IMAGE`].
pub fn ready_cluster(name: &str, nodes: usize) -> Result<(Cluster, DownOnDrop)> {
    let (cluster, guard) = cluster(name, nodes, Vec::new())?;
    host::cluster::wait_ready(&cluster).with_context(|| cluster.log_tails(60))?;
    let archive = cluster.nodes[0].data_dir.join("web.tar");
    let spec = ImageSpec { reference: IMAGE, version: "v1", cmd: WEB_CMD };
    write_archive(&archive, &[spec])?;
    let archive = archive.display().to_string();
    for index in 0..nodes {
        host::command::run(&mut cluster.skeg_on(index, &["image", "import", &archive])?)?;
    }
    Ok((cluster, guard))
}
