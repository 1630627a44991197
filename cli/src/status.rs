//! `skeg status`: whether the API answers and the nodes are Ready.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::settings::Folders;

/// Time between two looks: a start is measured in tens of milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How to ask.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// Waits up to this many seconds for everything to be ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// kubeconfig to use [default: $KUBECONFIG, else the server's own].
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Prints one JSON line.
    #[arg(long)]
    json: bool,
}

/// What was seen, and when.
struct Seen {
    api_ready_at_millis: u128,
    node_ready_at_millis: u128,
    nodes: Vec<String>,
}

/// Asks, and waits if told to.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let seen = tokio::time::timeout(Duration::from_secs(options.wait.max(1)), look(options))
        .await
        .map_err(|_| anyhow::anyhow!("not ready within {} s", options.wait.max(1)))??;
    if options.json {
        let line = json!({
            "apiReadyAtMillis": seen.api_ready_at_millis,
            "nodeReadyAtMillis": seen.node_ready_at_millis,
            "nodes": seen.nodes,
        });
        crate::print_line(&line.to_string())
    } else {
        crate::print_line(&format!("the API answers; Ready: {}", seen.nodes.join(", ")))
    }
}

async fn look(options: &Options) -> Result<Seen> {
    let path = options
        .kubeconfig
        .clone()
        .unwrap_or_else(|| options.folders.data().join("server/admin.kubeconfig"));
    let client = loop {
        match client(&path).await {
            Ok(client) => break client,
            Err(error) if options.wait == 0 => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).context("make a request")?;
        match client.request_text(request).await {
            Ok(_) => break,
            Err(error) if options.wait == 0 => return Err(error).context("ask the API"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    let api_ready_at_millis = now_millis();
    let nodes: Api<Node> = Api::all(client);
    loop {
        let list = nodes.list(&ListParams::default()).await;
        let ready: Vec<String> = match list {
            Ok(list) if list.items.iter().all(is_ready) => {
                list.items.iter().filter_map(|node| node.metadata.name.clone()).collect()
            }
            Err(error) if options.wait == 0 => return Err(error).context("list nodes"),
            _ => Vec::new(),
        };
        if !ready.is_empty() {
            return Ok(Seen {
                api_ready_at_millis,
                node_ready_at_millis: now_millis(),
                nodes: ready,
            });
        }
        if options.wait == 0 {
            bail!("the API answers, but not every node is Ready");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A client from a kubeconfig.
pub(crate) async fn client(path: &std::path::Path) -> Result<kube::Client> {
    let kubeconfig =
        Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    kube::Client::try_from(config).context("make a client")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

fn now_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
