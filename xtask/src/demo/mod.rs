//! `cargo xtask demo`: one real cluster, from an empty machine to a rolled-back Deployment.

mod clients;
mod figures;
mod healing;
mod images;
mod load;
mod manifest;
mod restart;
mod workload;

use anyhow::Result;
use clap::Args;
use host::{Cluster, ClusterSpec};

use crate::build::{self, Profile};
use crate::progress::step;
use crate::setup;
use figures::Figures;

/// Name of the demo's cluster.
const CLUSTER: &str = "demo";

/// How to run the demo.
#[derive(Args)]
pub(crate) struct Options {
    /// Leaves the cluster up and says how to use it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Builds without optimisation: quicker to build, slower figures.
    #[arg(long)]
    pub(crate) dev: bool,
}

/// What the steps share.
pub(crate) struct Demo {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// What was measured so far.
    pub(crate) figures: Figures,
}

/// Sets up, builds, shows, measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(false)?;
    let skeg = build::skeg(if options.dev { Profile::Dev } else { Profile::Release })?;
    host::cluster::down(CLUSTER)?;
    let spec = ClusterSpec {
        name: CLUSTER.into(),
        nodes: 1,
        skeg,
        kubectl: setup::kubectl_program()?,
        server_args: vec!["--plain-http-registry".into(), images::REGISTRY.into()],
    };
    let cluster = Cluster::up(&spec)?;
    let mut demo = Demo { cluster, figures: Figures::default() };
    let shown = show(&mut demo);
    if shown.is_err() {
        eprintln!("{}", demo.cluster.log_tails(60));
    }
    if options.keep {
        println!("\nthe cluster is up; for example:");
        println!("  cargo xtask dev exec --name {CLUSTER} n1 -- kubectl get pods -A -o wide");
        println!("  cargo xtask dev down --name {CLUSTER}");
    } else {
        demo.cluster.down()?;
    }
    shown?;
    println!("\n{}", demo.figures.table());
    Ok(())
}

fn show(demo: &mut Demo) -> Result<()> {
    step("start skeg server: API and Node ready", || workload::ready(demo))?;
    step("load images: import an archive, pull from a registry", || images::load(demo))?;
    step("apply Namespace, ConfigMap, Secret, Deployment, Service", || workload::apply(demo))?;
    step("1,000 requests by DNS name from another pod", || load::thousand(demo))?;
    step("kill a container's process", || healing::kill_process(demo))?;
    step("delete a pod under load", || healing::delete_pod(demo))?;
    step("scale to 10 and back", || workload::scale(demo))?;
    step("roll out a new image under load, roll it back", || workload::roll_out(demo))?;
    step("kubectl logs, exec, describe, get, explain, diff, delete", || clients::check(demo))?;
    step("SIGKILL the server under load, start it again", || restart::check(demo))?;
    step("memory and CPU at rest", || figures::at_rest(demo))
}
