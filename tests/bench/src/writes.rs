//! Acknowledged creates through the whole API (TLS, JSON, pipeline, fsync), beside bare puts to
//! Debian's etcd on the same disk.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::try_join_all;
use host::{Cluster, wait_for};
use serde_json::json;

use crate::Tools;
use crate::api::Server;
use crate::report::{Limit, Report};
use crate::statistics::median;

const CLIENTS: usize = 64;
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(4);
const PAYLOAD_BYTES: usize = 1024;

/// Creates on an API server.
#[derive(Args)]
pub(crate) struct ApiLoad {
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Part of the names, so that rounds do not meet.
    #[arg(long)]
    round: usize,
}

/// Puts to an etcd.
#[derive(Args)]
pub(crate) struct EtcdLoad {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    round: usize,
}

fn rate(done: &[u64], start: Instant) -> f64 {
    done.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64()
}

/// Prints creates per second.
pub(crate) async fn create_config_maps(load: &ApiLoad) -> Result<()> {
    let server = Server::from_kubeconfig(&load.kubeconfig)?;
    let connections = try_join_all((0..CLIENTS).map(|_| server.connect())).await?;
    let data = "x".repeat(PAYLOAD_BYTES);
    let start = Instant::now();
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        let data = &data;
        async move {
            let mut done = 0_u64;
            while start.elapsed() < SPAN {
                let name = format!("b{}-{client}-{done}", load.round);
                let body = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": name}, "data": {"value": data},
                });
                let body = serde_json::to_vec(&body)?;
                let path = "/api/v1/namespaces/default/configmaps";
                connection.send(http::Method::POST, path, body).await?;
                done += 1;
            }
            Ok::<u64, anyhow::Error>(done)
        }
    });
    println!("{}", rate(&try_join_all(clients).await?, start));
    Ok(())
}

/// Prints puts per second.
pub(crate) async fn put_etcd(load: &EtcdLoad) -> Result<()> {
    let connect = || etcd_client::Client::connect([load.endpoint.clone()], None);
    let connections = try_join_all((0..CLIENTS).map(|_| connect())).await?;
    let data = "x".repeat(PAYLOAD_BYTES);
    let start = Instant::now();
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        let data = &data;
        async move {
            let mut done = 0_u64;
            while start.elapsed() < SPAN {
                let key = format!("/bench/{}-{client}-{done}", load.round);
                connection.put(key, data.as_str(), None).await?;
                done += 1;
            }
            Ok::<u64, anyhow::Error>(done)
        }
    });
    println!("{}", rate(&try_join_all(clients).await?, start));
    Ok(())
}

/// Alternates rounds of both.
pub(crate) fn measure(tools: &Tools, report: &mut Report) -> Result<()> {
    let (cluster, _guard) = tools.cluster("bench")?;
    host::command::run(&mut cluster.skeg_on(0, &["status", "--wait", "60"])?)
        .with_context(|| cluster.log_tails(30))?;
    let mut etcd = start_etcd(&cluster)?;
    let measured = alternate(&cluster);
    etcd.kill().context("end etcd")?;
    etcd.wait().context("reap etcd")?;
    let (ours, theirs) = measured?;
    let (ours, theirs) = (median(&ours), median(&theirs));
    report.add(
        "creates of 1 KiB ConfigMaps, 64 clients",
        ours,
        "/s",
        Limit::None,
        "whole API, fsync",
    );
    report.add(
        "puts of 1 KiB to etcd, 64 clients",
        theirs,
        "/s",
        Limit::None,
        "the peer, same disk",
    );
    let note = format!("medians of {ROUNDS} alternating rounds");
    report.add("creates / etcd puts", ours / theirs, "", Limit::AtLeast(0.5), note);
    Ok(())
}

fn alternate(cluster: &Cluster) -> Result<(Vec<f64>, Vec<f64>)> {
    let program = std::env::current_exe()?.display().to_string();
    let client = |args: &[&str]| {
        let mut command = cluster.command_on(0, &program)?;
        let text = host::command::run(command.args(args))?;
        text.trim().parse::<f64>().with_context(|| format!("a rate in {text:?}"))
    };
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let round = round.to_string();
        ours.push(client(&["create-config-maps", "--kubeconfig", &kubeconfig, "--round", &round])?);
        theirs.push(client(&["put-etcd", "--endpoint", ETCD, "--round", &round])?);
    }
    Ok((ours, theirs))
}

const ETCD: &str = "http://127.0.0.1:2379";

fn start_etcd(cluster: &Cluster) -> Result<Child> {
    let child = cluster
        .command_on(0, "etcd")?
        .arg("--data-dir")
        .arg(cluster.nodes[0].data_dir.join("etcd-peer"))
        .args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start etcd (Debian package etcd-server)")?;
    wait_for("etcd to answer", Duration::from_secs(20), || {
        let health = format!("{ETCD}/health");
        let mut curl = cluster.command_on(0, "curl").map_err(|error| format!("{error:#}"))?;
        host::command::run(curl.args(["--silent", "--fail", &health]))
            .map_err(|error| format!("{error:#}"))
    })?;
    Ok(child)
}
