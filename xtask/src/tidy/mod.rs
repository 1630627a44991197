//! Rules of the project that no compiler checks.

mod arrows;
mod files;

use anyhow::{Result, bail};
use clap::Args;

use crate::progress::step;

/// What to check.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Lists what runs left on the machine, instead.
    #[arg(long)]
    pub(crate) leftovers: bool,
}

/// Checks; the error lists every breach.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.leftovers {
        return leftovers();
    }
    step("check the project's own rules", || {
        let mut breaches = arrows::check()?;
        breaches.extend(files::check()?);
        if breaches.is_empty() {
            return Ok(());
        }
        bail!("{} breaches:\n  {}", breaches.len(), breaches.join("\n  "))
    })
}

/// Fails if anything of skeg's is left on the machine.
pub(crate) fn leftovers() -> Result<()> {
    let found = host::leftovers::find();
    if found.is_empty() {
        println!("nothing of skeg's is left on this machine");
        return Ok(());
    }
    bail!("left on this machine:\n  {}", found.join("\n  "))
}
