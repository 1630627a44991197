//! Both ways of getting an image onto the node: an archive, and a real registry on loopback.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::run;
use crate::image::{Blob, ImageSpec, WEB_CMD, parts, write_archive};
use crate::{Cluster, wait_for};
use anyhow::{Context, Result, ensure};

use super::Scenario;
use super::manifest::{WEB_V1, WEB_V2};

/// The registry inside the node's network namespace.
pub(super) const REGISTRY: &str = "127.0.0.1:5000";

/// Imports v1 from an archive, pulls v2 from the registry.
pub(super) fn load(scenario: &mut Scenario) -> Result<()> {
    let folder = scenario.cluster.nodes[0].data_dir.join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let archive = folder.join("web-v1.tar");
    let v1 = ImageSpec { reference: WEB_V1, version: "v1", cmd: WEB_CMD };
    write_archive(&archive, &[v1])?;
    let archive = archive.display().to_string();
    run(&mut scenario.cluster.skeg_on(0, &["image", "import", &archive])?)?;

    let mut registry = start_registry(&scenario.cluster, &folder)?;
    let pulled = (|| {
        push(&scenario.cluster, &folder, "web", "v2")?;
        run(&mut scenario.cluster.skeg_on(0, &["image", "pull", "--plain-http", WEB_V2])?)
    })();
    registry.kill().context("end the registry")?;
    registry.wait().context("reap the registry")?;
    pulled?;

    let list = run(&mut scenario.cluster.skeg_on(0, &["image", "ls"])?)?;
    ensure!(list.contains("registry.example/web"), "the imported image is not listed:\n{list}");
    ensure!(list.contains("127.0.0.1:5000/web"), "the pulled image is not listed:\n{list}");
    Ok(())
}

/// Starts Debian's docker-registry inside the node's namespaces.
fn start_registry(cluster: &Cluster, folder: &Path) -> Result<Child> {
    let config = folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"{REGISTRY}\"}}\n",
        folder.join("registry").display()
    );
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let child = cluster
        .command_on(0, "docker-registry")?
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start docker-registry (Debian package docker-registry)")?;
    wait_for("the registry to answer", Duration::from_secs(20), || {
        curl(cluster, &["--fail", &format!("http://{REGISTRY}/v2/")])
            .map_err(|error| format!("{error:#}"))
    })?;
    Ok(child)
}

fn curl(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let mut command: Command = cluster.command_on(0, "curl")?;
    run(command.args(["--silent", "--show-error"]).args(args))
}

/// Pushes an image: its blobs, then its manifest.
fn push(cluster: &Cluster, folder: &Path, name: &str, tag: &str) -> Result<()> {
    let spec = ImageSpec { reference: name, version: tag, cmd: WEB_CMD };
    let parts = parts(&spec)?;
    for blob in [&parts.layer, &parts.config] {
        push_blob(cluster, folder, name, blob)?;
    }
    let file = folder.join("manifest.json");
    fs::write(&file, &parts.manifest.bytes).with_context(|| format!("write {}", file.display()))?;
    let media = format!("Content-Type: {}", parts.manifest.media_type);
    let body = format!("@{}", file.display());
    let url = format!("http://{REGISTRY}/v2/{name}/manifests/{tag}");
    curl(cluster, &["--fail", "-X", "PUT", "-H", &media, "--data-binary", &body, &url])?;
    Ok(())
}

fn push_blob(cluster: &Cluster, folder: &Path, name: &str, blob: &Blob) -> Result<()> {
    let file = folder.join("blob");
    fs::write(&file, &blob.bytes).with_context(|| format!("write {}", file.display()))?;
    let url = format!("http://{REGISTRY}/v2/{name}/blobs/uploads/");
    let answer = curl(cluster, &["--fail", "-X", "POST", "-D", "-", "-o", "/dev/null", &url])?;
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("Location: ").or(line.strip_prefix("location: ")))
        .with_context(|| format!("no Location in the registry's answer:\n{answer}"))?
        .trim();
    let join = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{join}digest={}", blob.digest);
    let body = format!("@{}", file.display());
    let media = "Content-Type: application/octet-stream";
    curl(cluster, &["--fail", "-X", "PUT", "-H", media, "--data-binary", &body, &url])?;
    Ok(())
}
