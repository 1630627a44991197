//! Bad input gets a clear error and changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::command::output;
use host::{Cluster, Kubectl};

const READY: &[&str] = &["status", "--wait", "60"];

fn ready(name: &str) -> Result<(Cluster, host::cluster::DownOnDrop)> {
    let (cluster, guard) = it::cluster(name, 1, Vec::new())?;
    host::command::run(&mut cluster.skeg_on(0, READY)?).with_context(|| cluster.log_tails(40))?;
    Ok((cluster, guard))
}

/// What a `skeg` subcommand says when it fails.
fn failure(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let mut command = cluster.skeg_on(0, args)?;
    let output = output(&mut command)?;
    ensure!(!output.status.success(), "skeg {args:?} succeeded, it should not");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn refused(kubectl: &Kubectl, manifest: &str, expected: &[&str]) -> Result<()> {
    let output = kubectl.apply_output(manifest)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "applied, it should not be:\n{manifest}");
    for text in expected {
        ensure!(said.contains(text), "no {text:?} in:\n{said}");
    }
    Ok(())
}

#[test]
fn manifests_images_and_second_servers() -> Result<()> {
    let (cluster, _guard) = ready("it-bad")?;
    let kubectl = cluster.kubectl();
    manifests(&kubectl).with_context(|| cluster.log_tails(40))?;
    images(&cluster)?;
    second_server(&cluster)?;
    let pods = kubectl.json(&["get", "pods,deployments,services", "-n", "default"])?;
    let names: Vec<&str> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    ensure!(names == ["kubernetes"], "something was made: {names:?}");
    Ok(())
}

fn manifests(kubectl: &Kubectl) -> Result<()> {
    refused(
        kubectl,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: UPPER, image: x}]}\n",
        &["Pod \"bad\" is invalid", "spec.containers[0].name", "UPPER"],
    )?;
    refused(
        kubectl,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containrs: [], containers: [{name: a, image: x}]}\n",
        &["unknown field", "spec.containrs"],
    )?;
    refused(
        kubectl,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: many}\n",
        &["BadRequest"],
    )?;
    refused(
        kubectl,
        "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{name: a, port: 80}, {name: b, port: 80}]}\n",
        &["spec.ports[1]", "Duplicate value"],
    )?;
    let big = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad}}\ndata: {{value: \"{}\"}}\n",
        "x".repeat(1_100_000)
    );
    let output = {
        let mut create = kubectl.command(&["create", "-f", "-"]);
        give(&mut create, &big)?
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("Too long"), "a large object: {said}");
    immutable(kubectl)
}

fn immutable(kubectl: &Kubectl) -> Result<()> {
    let with = |label: &str| {
        format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: fixed}}\nspec:\n  replicas: 0\n  \
             selector: {{matchLabels: {{app: {label}}}}}\n  template:\n    metadata: {{labels: {{app: {label}}}}}\n    \
             spec: {{containers: [{{name: a, image: x}}]}}\n"
        )
    };
    kubectl.apply(&with("one"))?;
    refused(kubectl, &with("two"), &["spec.selector", "field is immutable"])?;
    let kept = kubectl.json(&["get", "replicaset", "fixed"])?;
    ensure!(kept["spec"]["selector"]["matchLabels"]["app"] == "one", "it was changed: {kept}");
    kubectl.run(&["delete", "replicaset", "fixed"])?;
    Ok(())
}

fn give(command: &mut std::process::Command, text: &str) -> Result<std::process::Output> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start kubectl")?;
    child.stdin.take().context("stdin is piped")?.write_all(text.as_bytes())?;
    child.wait_with_output().context("wait for kubectl")
}

fn images(cluster: &Cluster) -> Result<()> {
    let broken = cluster.nodes[0].data_dir.join("broken.tar");
    std::fs::write(&broken, b"this is no archive").context("write the broken archive")?;
    let broken = broken.display().to_string();
    let said = failure(cluster, &["image", "import", &broken])?;
    ensure!(said.contains("broken.tar"), "the file should be named: {said}");
    let said = failure(cluster, &["image", "pull", "127.0.0.1:9/none:v1"])?;
    ensure!(said.contains("127.0.0.1:9/none:v1"), "the image should be named: {said}");
    let said = failure(cluster, &["image", "pull", "UPPER CASE"])?;
    ensure!(said.contains("UPPER CASE"), "the reference should be named: {said}");
    let list = host::command::run(&mut cluster.skeg_on(0, &["image", "ls"])?)?;
    ensure!(!list.contains("none"), "nothing should have been added: {list}");
    Ok(())
}

fn second_server(cluster: &Cluster) -> Result<()> {
    let said = failure(cluster, &["server", "--node-ip", "10.89.0.11", "--api-port", "7443"])?;
    let folder = cluster.nodes[0].data_dir.display().to_string();
    ensure!(said.contains(&folder), "the folder should be named: {said}");
    Ok(())
}

#[test]
fn a_truncated_store_is_named_and_left_alone() -> Result<()> {
    let (mut cluster, _guard) = ready("it-torn")?;
    cluster.kubectl().run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    cluster.kill(0)?;
    let folder = cluster.nodes[0].data_dir.join("server/store");
    let file = std::fs::read_dir(&folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()))
        .context("the store has a file")?;
    let whole = std::fs::read(&file).context("read the store file")?;
    let torn = &whole[..whole.len() / 2];
    std::fs::write(&file, torn).context("truncate the store file")?;

    cluster.start_server()?;
    let log = cluster.nodes[0].log.clone();
    let name = file.display().to_string();
    host::wait_for("the server to refuse the store", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let said = text.lines().any(|line| line.starts_with("skeg: ") && line.contains(&name));
        if said { Ok(()) } else { Err(text) }
    })?;
    ensure!(std::fs::read(&file)? == torn, "the damaged file was changed");

    std::fs::write(&file, &whole).context("put the store file back")?;
    cluster.start_server()?;
    host::command::run(&mut cluster.skeg_on(0, READY)?).with_context(|| cluster.log_tails(40))?;
    cluster.kubectl().run(&["get", "configmap", "kept"])?;
    Ok(())
}
