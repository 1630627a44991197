//! The server process at rest, with a Deployment of pods running; and its shims.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::Cluster;

use crate::report::{Limit, Report};
use crate::statistics::median;

/// Long enough for periodic work (heartbeats every 10 s) to be in it several times.
const WINDOW: Duration = Duration::from_secs(30);

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: idle}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: idle}}}}\n  template:\n    metadata: {{labels: {{app: idle}}}}\n    \
         spec:\n      containers:\n      - {{name: c, image: \"{image}\", command: [sleep, \"1000000\"]}}\n"
    )
}

/// Runs three pods and measures.
pub(crate) fn measure(cluster: &Cluster, image: &str, report: &mut Report) -> Result<()> {
    let kubectl = cluster.kubectl();
    kubectl.apply(&manifest(image))?;
    kubectl.run(&["rollout", "status", "deployment/idle", "--timeout=60s"])?;
    let pid = cluster.nodes[0].pid;
    let before = cpu_seconds(pid)?;
    let start = Instant::now();
    idle(WINDOW);
    let percent = (cpu_seconds(pid)? - before) / start.elapsed().as_secs_f64() * 100.0;
    let resident = kib(pid, "status", "VmRSS:")? / 1024.0;
    report.add(
        "idle resident memory of skeg server",
        resident,
        "MiB",
        Limit::AtMost(100.0),
        "3 pods Ready",
    );
    report.add("idle CPU of skeg server", percent, "% of core", Limit::AtMost(1.0), "over 30 s");
    let shims: Vec<f64> = host::namespaces::members(cluster.nodes[0].holder_pid)
        .into_iter()
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.starts_with("skeg-shim")
        })
        .filter_map(|pid| kib(pid, "smaps_rollup", "Pss:").ok())
        .collect();
    anyhow::ensure!(!shims.is_empty(), "no shim was found");
    let note = format!("median of {}", shims.len());
    report.add("memory of a shim (PSS)", median(&shims) / 1024.0, "MiB", Limit::AtMost(2.0), note);
    Ok(())
}

fn kib(pid: i32, file: &str, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {field} in {path}"))
}

/// CPU time used so far, of threads that have ended too. The kernel counts in hundredths of a
/// second: fine enough for shares of a span of 30 s.
fn cpu_seconds(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let after_name = text.rsplit_once(") ").context("stat has a name")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("stat has times")?;
    Ok((user + system) / 100.0)
}

#[allow(clippy::disallowed_methods, reason = "the measurement is of a span with nothing going on")]
fn idle(window: Duration) {
    std::thread::sleep(window);
}
