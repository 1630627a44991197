//! Measures what the project promises, beside its peers in the same run, and prints ratios.
//!
//! Called by `cargo xtask bench`. Figures are medians of several rounds; ours and the peer's rounds
//! alternate, since the machine is noisy.

mod api;
mod connect;
mod containers;
mod memory;
mod pods;
mod report;
mod start;
mod statistics;
mod writes;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use report::Report;

/// What to measure and with what.
#[derive(Parser)]
struct Arguments {
    /// The `skeg` binary, built in release.
    #[arg(long, global = true, default_value = "skeg")]
    skeg: PathBuf,
    /// The `kubectl` program.
    #[arg(long, global = true, default_value = "kubectl")]
    kubectl: String,
    /// Measures one thing only.
    which: Option<Which>,
    #[command(subcommand)]
    client: Option<Client>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Process start to API answering and Node Ready.
    Start,
    /// Apply to container process started; memory and CPU at rest.
    Pods,
    /// Create and start of a container, beside crun.
    Containers,
    /// TCP connect to a ClusterIP among 1,000 Services, beside the pod's address.
    Connect,
    /// Acknowledged creates, beside etcd's puts.
    Writes,
}

/// Parts that run inside a node's network namespace.
#[derive(Subcommand)]
enum Client {
    /// Sends creates to an API server.
    #[command(hide = true)]
    CreateConfigMaps(writes::ApiLoad),
    /// Sends puts to an etcd.
    #[command(hide = true)]
    PutEtcd(writes::EtcdLoad),
    /// Creates pods one by one.
    #[command(hide = true)]
    StartPods(pods::Load),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    if let Some(client) = arguments.client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(async {
            match client {
                Client::CreateConfigMaps(load) => writes::create_config_maps(&load).await,
                Client::PutEtcd(load) => writes::put_etcd(&load).await,
                Client::StartPods(load) => pods::start_pods(&load).await,
            }
        });
    }
    let tools = Tools { skeg: arguments.skeg.canonicalize()?, kubectl: arguments.kubectl };
    let mut report = Report::default();
    let wanted = |which| arguments.which.is_none_or(|only| only == which);
    let measured = (|| {
        if wanted(Which::Start) {
            start::measure(&tools, &mut report)?;
        }
        if wanted(Which::Pods) {
            pods::measure(&tools, &mut report)?;
        }
        if wanted(Which::Containers) {
            containers::measure(&mut report)?;
        }
        if wanted(Which::Connect) {
            connect::measure(&mut report)?;
        }
        if wanted(Which::Writes) {
            writes::measure(&tools, &mut report)?;
        }
        Ok(())
    })();
    println!("{report}");
    measured
}

/// The programs that are measured.
struct Tools {
    skeg: PathBuf,
    kubectl: String,
}

impl Tools {
    /// Starts a cluster of one node for a measurement.
    fn cluster(&self, name: &str) -> Result<(host::Cluster, host::cluster::DownOnDrop)> {
        host::cluster::down(name)?;
        let guard = host::cluster::DownOnDrop(name.to_string());
        let cluster = host::Cluster::up(&host::ClusterSpec {
            name: name.to_string(),
            nodes: 1,
            skeg: self.skeg.clone(),
            kubectl: self.kubectl.clone(),
            server_args: Vec::new(),
        })?;
        Ok((cluster, guard))
    }
}
