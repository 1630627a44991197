//! Steps that say what they do and how long they took.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs `work` under a line that moves while it lasts and keeps its time.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is valid"),
    );
    bar.set_message(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = work();
    bar.finish_and_clear();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    println!("{mark} {name} ({:.1} s)", start.elapsed().as_secs_f32());
    result.with_context(|| name.to_string())
}

/// Runs a command with its output on this terminal.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let line = host::command::line(command);
    let status = command.status().with_context(|| format!("start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}
