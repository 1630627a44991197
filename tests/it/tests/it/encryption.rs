//! Secrets encrypted on the disk, and what happens when the keys change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::Cluster;

/// Longest wait for the disk.
const BOUND: Duration = Duration::from_secs(20);
/// 32 bytes each, base64.
const FIRST: &str = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";
const SECOND: &str = "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjI=";

fn config(keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}")).collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers: [{{aesgcm: {{keys: [{}]}}}}, {{identity: {{}}}}]\n",
        keys.join(", ")
    )
}

fn disk_holds(cluster: &Cluster, text: &str) -> Result<bool> {
    let folder = cluster.nodes[0].data_dir.join("server/store");
    let mut found = false;
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        found |= bytes.windows(text.len()).any(|part| part == text.as_bytes());
    }
    Ok(found)
}

/// Starts the server again after a change of the file.
fn restart(cluster: &mut Cluster) -> Result<()> {
    cluster.kill(0)?;
    cluster.start_server()?;
    let mut status = cluster.skeg_on(0, &["status", "--wait", "60"])?;
    host::command::run(&mut status).map(drop).with_context(|| cluster.log_tails(40))
}

fn secret(cluster: &Cluster) -> Result<String> {
    let secret = cluster.kubectl().json(&["get", "secret", "s"])?;
    Ok(secret["data"]["password"].as_str().unwrap_or_default().to_owned())
}

struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // Not there if the test failed before it was written.
        _ = std::fs::remove_file(self.0);
    }
}

#[test]
fn secrets_are_not_readable_on_the_disk() -> Result<()> {
    let file = std::env::temp_dir().join(format!("skeg-it-crypt-{}.yaml", std::process::id()));
    let _removed = Removed(&file);
    write(&file, &config(&[("first", FIRST)]))?;
    let argument = file.display().to_string();
    let arguments = vec!["--encryption-provider-config".to_owned(), argument];
    let (mut cluster, _guard) = it::cluster("it-crypt", 1, arguments)?;
    let mut status = cluster.skeg_on(0, &["status", "--wait", "60"])?;
    host::command::run(&mut status).with_context(|| cluster.log_tails(40))?;
    let create = ["create", "secret", "generic", "s", "--from-literal=password=hunter2-hunter2"];
    cluster.kubectl().run(&create)?;
    cluster.kubectl().run(&["create", "configmap", "c", "--from-literal=a=everybody-may-know"])?;
    let stored = secret(&cluster)?;
    ensure!(disk_holds(&cluster, "everybody-may-know")?, "the config map is on the disk");
    ensure!(!disk_holds(&cluster, &stored)?, "the secret is readable on the disk");
    ensure!(disk_holds(&cluster, "k8s:enc:aesgcm:v1:first:")?, "nothing is encrypted");

    write(&file, &config(&[("second", SECOND), ("first", FIRST)]))?;
    restart(&mut cluster)?;
    ensure!(secret(&cluster)? == stored, "it was read with the old key");
    // Encrypting anew is a task beside the start of the API.
    host::wait::wait_for("secrets encrypted with the new key", BOUND, || {
        match disk_holds(&cluster, "k8s:enc:aesgcm:v1:first:") {
            Ok(false) => Ok(()),
            Ok(true) => Err("the old key's mark is on the disk".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    })?;

    write(&file, &config(&[("second", SECOND)]))?;
    restart(&mut cluster)?;
    ensure!(secret(&cluster)? == stored, "it was read with the new key");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
