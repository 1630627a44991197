//! `cargo xtask test` and `cargo xtask ci`.

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile, cargo};
use crate::progress::{shown, step};
use crate::{setup, tidy};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Also checks formatting and lints, and treats warnings as errors.
    #[arg(long)]
    pub(crate) ci: bool,
    /// Only tests whose name contains this.
    pub(crate) filter: Option<String>,
}

impl Options {
    /// What `ci` runs.
    pub(crate) fn for_ci() -> Self {
        Self { ci: true, filter: None }
    }
}

/// Sets up, then runs every test.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::everything()?;
    tidy::run(&tidy::Options::default())?;
    if options.ci {
        step("check formatting", || shown(&mut cargo(&["fmt", "--all", "--", "--check"])))?;
        println!("checking lints");
        let mut clippy = cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet"]);
        shown(clippy.args(["--", "-D", "warnings"]))?;
    }
    let skeg = build::skeg(Profile::Dev)?;
    let profile = if options.ci { "ci" } else { "default" };
    println!("running tests");
    let mut nextest = cargo(&["nextest", "run", "--workspace", "--profile", profile]);
    // Property tests try the same cases in every run: a failure is of the change, not of chance.
    nextest.env("PROPTEST_RNG_SEED", "36");
    nextest.env("SKEG_BINARY", &skeg).env("SKEG_KUBECTL", setup::kubectl_program()?);
    if let Some(filter) = &options.filter {
        nextest.arg(filter);
    }
    shown(&mut nextest)?;
    tidy::leftovers()
}
