//! `cargo xtask bench`: what the project promises, measured beside its peers in the same run.

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile, cargo};
use crate::progress::shown;
use crate::setup;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// One of `start`, `pods`, `containers`, `connect`, `writes`; all when absent.
    pub(crate) which: Option<String>,
}

/// Builds in release and hands over to the bench crate.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(false)?;
    let skeg = build::skeg(Profile::Release)?;
    let mut bench = cargo(&["run", "--release", "--package", "bench", "--"]);
    bench.arg("--skeg").arg(&skeg).arg("--kubectl").arg(setup::kubectl_program()?);
    bench.args(&options.which);
    shown(&mut bench)
}
