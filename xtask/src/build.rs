//! Building the binary and the eBPF programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::{shown, step};

/// Which profile to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests: quick to build.
    Dev,
    /// For demos and measurements.
    Release,
}

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// cargo, in the root of the checkout.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Builds `skeg` and returns the binary's path.
pub(crate) fn skeg(profile: Profile) -> Result<PathBuf> {
    let mut args = vec!["build", "--quiet", "--package", "skeg"];
    if profile == Profile::Release {
        args.push("--release");
    }
    println!("building skeg ({profile:?})");
    shown(&mut cargo(&args))?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    let binary = target_dir().join(folder).join("skeg");
    binary.canonicalize().with_context(|| format!("find {}", binary.display()))
}

/// Builds the eBPF programs alone.
pub(crate) fn ebpf() -> Result<()> {
    crate::setup::everything()?;
    step("build the eBPF programs", || {
        host::command::run(&mut cargo(&["build", "--package", "services"]))
    })?;
    let build = target_dir().join("debug/build");
    let mut objects: Vec<PathBuf> = std::fs::read_dir(&build)
        .with_context(|| format!("list {}", build.display()))?
        .flatten()
        .map(|entry| entry.path().join("out/skeg.bpf.o"))
        .filter(|path| path.exists())
        .collect();
    objects.sort_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    match objects.last() {
        Some(object) => println!("{}", object.display()),
        None => println!("the object is embedded in the `services` crate"),
    }
    Ok(())
}
