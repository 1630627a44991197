//! What the demo measured, as a table.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Scenario;

/// Lines of the table in the order in which they were measured.
#[derive(Default)]
pub struct Figures(Vec<(String, String)>);

impl Figures {
    /// Adds a line.
    pub fn add(&mut self, what: &str, value: impl Into<String>) {
        self.0.push((what.to_string(), value.into()));
    }

    /// Adds a duration.
    pub fn add_millis(&mut self, what: &str, millis: u128) {
        self.add(what, format!("{millis} ms"));
    }

    /// The table.
    pub fn table(&self) -> String {
        let width = self.0.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        let lines = self.0.iter().map(|(what, value)| format!("{what:width$}  {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn status_kib(pid: i32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(field)?.trim_start_matches(':').split_whitespace().next()
        })
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {field} in {path}"))
}

/// Clock ticks (of 1/100 s) a process has used.
fn cpu_ticks(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let after = text.rsplit_once(") ").context("stat has a name")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    Ok(number(11).context("utime")? + number(12).context("stime")?)
}

/// Proportional set size of a process in KiB.
fn pss_kib(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}

/// Measures the server's memory and CPU, and the shims' memory, with nothing going on.
pub fn at_rest(scenario: &mut Scenario) -> Result<()> {
    const WINDOW: Duration = Duration::from_secs(10);
    let pid = scenario.cluster.nodes[0].pid;
    let before = cpu_ticks(pid)?;
    let start = Instant::now();
    idle(WINDOW);
    let used_ticks = cpu_ticks(pid)? - before;
    let percent = used_ticks as f64 / start.elapsed().as_secs_f64();
    scenario.figures.add(
        "idle resident memory of skeg server",
        format!("{:.1} MiB", status_kib(pid, "VmRSS")? as f64 / 1024.0),
    );
    scenario.figures.add("idle CPU of skeg server", format!("{percent:.2} % of a core"));
    let mut shims: Vec<u64> = crate::namespaces::members(scenario.cluster.nodes[0].holder_pid)
        .into_iter()
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim().starts_with("skeg-shim")
        })
        .filter_map(pss_kib)
        .collect();
    shims.sort_unstable();
    if let Some(median) = shims.get(shims.len() / 2) {
        scenario.figures.add(
            "memory of a shim (PSS, median)",
            format!("{median} KiB, of {} shims", shims.len()),
        );
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the measurement is of a span with nothing going on")]
fn idle(window: Duration) {
    std::thread::sleep(window);
}
