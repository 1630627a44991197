//! `cargo xtask dev`: a cluster on this machine to work with.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use host::{Cluster, ClusterSpec};
use serde_json::json;

use crate::build::{self, Profile};
use crate::setup;

/// Subcommands of `dev`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Builds and starts a cluster in the background, each node in namespaces of its own.
    Up(Up),
    /// Runs a command inside a node's namespaces, with KUBECONFIG set.
    Exec {
        /// Cluster.
        #[arg(long, default_value = "dev")]
        name: String,
        /// Node: n1, n2, …
        node: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Removes every trace of a cluster.
    Down {
        /// Cluster.
        #[arg(long, default_value = "dev")]
        name: String,
    },
}

/// How to start.
#[derive(Args)]
pub(crate) struct Up {
    /// Cluster.
    #[arg(long, default_value = "dev")]
    pub(crate) name: String,
    /// Number of nodes; the first is the server.
    #[arg(long, default_value_t = 1)]
    pub(crate) nodes: usize,
    /// Builds with optimisation.
    #[arg(long)]
    pub(crate) release: bool,
    /// Uses this binary instead of building one.
    #[arg(long)]
    pub(crate) skeg: Option<PathBuf>,
    /// Prints one JSON line that names everything.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Carries out a subcommand.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up(up) => run_up(up),
        Command::Exec { name, node, command } => exec(name, node, command),
        Command::Down { name } => host::cluster::down(name),
    }
}

fn run_up(up: &Up) -> Result<()> {
    let skeg = match &up.skeg {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => {
            setup::install(false)?;
            build::skeg(if up.release { Profile::Release } else { Profile::Dev })?
        }
    };
    let spec = ClusterSpec {
        name: up.name.clone(),
        nodes: up.nodes,
        skeg,
        kubectl: setup::kubectl_program()?,
        server_args: Vec::new(),
    };
    let cluster = Cluster::up(&spec)?;
    if let Err(error) = host::cluster::wait_ready(&cluster) {
        eprintln!("{}", cluster.log_tails(40));
        return Err(error);
    }
    if up.json {
        println!("{}", describe(&cluster));
    } else {
        println!("cluster {:?} is up; kubeconfig {}", cluster.name, cluster.kubeconfig.display());
        println!("  cargo xtask dev exec n1 -- kubectl get nodes -o wide");
        println!("  cargo xtask dev down --name {}", cluster.name);
    }
    Ok(())
}

fn describe(cluster: &Cluster) -> serde_json::Value {
    json!({
        "name": cluster.name,
        "kubeconfig": cluster.kubeconfig,
        "api": cluster.api,
        "nodes": cluster.nodes,
    })
}

fn exec(name: &str, node: &str, command: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let cluster = Cluster::open(name)?;
    let Some(index) = cluster.nodes.iter().position(|host| host.name == node) else {
        let names: Vec<&str> = cluster.nodes.iter().map(|host| host.name.as_str()).collect();
        bail!("cluster {name:?} has no node {node:?}; it has {}", names.join(", "));
    };
    let (program, args) = command.split_first().expect("clap requires a command");
    let program =
        if program == "skeg" { cluster.skeg.display().to_string() } else { program.clone() };
    let error = cluster.command_on(index, &program)?.args(args).exec();
    Err(error).with_context(|| format!("run {program}"))
}
