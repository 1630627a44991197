//! From the request that creates a pod to its process running, image present; then the server at
//! rest.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use host::image::{ImageSpec, write_archive};
use serde_json::{Value, json};

use crate::api::Server;
use crate::report::{Limit, Report};
use crate::statistics::percentile;
use crate::{Tools, memory};

const IMAGE: &str = "registry.example/bench:v1";
const PODS: usize = 60;

/// What the client inside the node does.
#[derive(Args)]
pub(crate) struct Load {
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Folder that every pod mounts, and makes its file in.
    #[arg(long)]
    marks: PathBuf,
}

fn pod(name: &str, marks: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": IMAGE,
                // The first thing that the process does is to leave the time.
                "command": ["/bin/sh", "-c", format!("> /marks/{name}; exec sleep 1000000")],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
                "volumeMounts": [{"name": "marks", "mountPath": "/marks"}],
            }],
            "volumes": [{"name": "marks", "hostPath": {"path": marks}}],
        },
    })
}

/// Creates pods one by one and prints the milliseconds each took.
pub(crate) async fn start_pods(load: &Load) -> Result<()> {
    let server = Server::from_kubeconfig(&load.kubeconfig)?;
    let mut connection = server.connect().await?;
    let marks = load.marks.display().to_string();
    for number in 0..PODS {
        let name = format!("p{number}");
        let body = serde_json::to_vec(&pod(&name, &marks))?;
        let asked = std::time::SystemTime::now();
        connection.send(http::Method::POST, "/api/v1/namespaces/default/pods", body).await?;
        let mark = load.marks.join(&name);
        let started = wait_mark(&mark).await?;
        let millis = started.duration_since(asked).map_or(0.0, |span| span.as_secs_f64() * 1000.0);
        println!("{millis}");
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        connection.send(http::Method::DELETE, &path, Vec::new()).await?;
    }
    Ok(())
}

async fn wait_mark(mark: &std::path::Path) -> Result<std::time::SystemTime> {
    let wait = async {
        loop {
            if let Ok(meta) = std::fs::metadata(mark) {
                return meta.modified().unwrap_or(UNIX_EPOCH);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), wait).await;
    found.with_context(|| format!("{} did not come", mark.display()))
}

/// Measures on a cluster of one node.
pub(crate) fn measure(tools: &Tools, report: &mut Report) -> Result<()> {
    let (cluster, _guard) = tools.cluster("bench")?;
    host::command::run(&mut cluster.skeg_on(0, &["status", "--wait", "60"])?)
        .with_context(|| cluster.log_tails(30))?;
    let folder = cluster.nodes[0].data_dir.join("bench");
    let marks = folder.join("marks");
    std::fs::create_dir_all(&marks)?;
    let archive = folder.join("image.tar");
    write_archive(&archive, &[ImageSpec { reference: IMAGE, version: "v1", cmd: &["sh"] }])?;
    let archive = archive.display().to_string();
    host::command::run(&mut cluster.skeg_on(0, &["image", "import", &archive])?)?;

    let program = std::env::current_exe()?.display().to_string();
    let mut client = cluster.command_on(0, &program)?;
    client.arg("start-pods").arg("--kubeconfig").arg(&cluster.kubeconfig);
    client.arg("--marks").arg(&marks);
    let text = host::command::run(&mut client).with_context(|| cluster.log_tails(30))?;
    let millis: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    anyhow::ensure!(millis.len() == PODS, "{} of {PODS} pods were measured", millis.len());
    let note = format!("{PODS} pods, one after the other");
    let p50 = percentile(&millis, 0.5);
    report.add("create to process started, p50", p50, "ms", Limit::AtMost(100.0), &note);
    let p99 = percentile(&millis, 0.99);
    report.add("create to process started, p99", p99, "ms", Limit::AtMost(250.0), &note);
    memory::measure(&cluster, IMAGE, report)
}
