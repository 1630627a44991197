//! `cargo xtask demo`: one real cluster, from an empty machine to a rolled-back Deployment.

use anyhow::Result;
use clap::Args;
use host::{Cluster, ClusterSpec};

use crate::build::{self, Profile};
use crate::progress::step;
use crate::setup;
use host::scenario::{self, Scenario, figures};

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
        server_args: scenario::server_args(),
    };
    let cluster = Cluster::up(&spec)?;
    let mut demo = Scenario { cluster, figures: figures::Figures::default() };
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

fn show(demo: &mut Scenario) -> Result<()> {
    for (name, carry_out) in scenario::STEPS {
        step(name, || carry_out(demo))?;
    }
    step("memory and CPU at rest", || figures::at_rest(demo))
}
