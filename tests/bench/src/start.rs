//! From the start of the process, with an empty data folder, to the API answering and the Node Ready.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Tools;
use crate::report::{Limit, Report};
use crate::statistics::median;

const ROUNDS: usize = 7;

/// Starts and removes a cluster several times.
pub(crate) fn measure(tools: &Tools, report: &mut Report) -> Result<()> {
    let (mut api, mut node) = (Vec::new(), Vec::new());
    for _round in 0..ROUNDS {
        let (cluster, _guard) = tools.cluster("bench")?;
        let text =
            host::command::run(&mut cluster.skeg_on(0, &["status", "--wait", "60", "--json"])?)
                .with_context(|| cluster.log_tails(30))?;
        let times: Value = serde_json::from_str(&text).context("parse skeg status")?;
        let started = cluster.started_at_millis;
        let after = |field: &str| {
            let at = times[field].as_u64().with_context(|| format!("no {field}"))?;
            Ok::<f64, anyhow::Error>(u128::from(at).saturating_sub(started) as f64)
        };
        api.push(after("apiReadyAtMillis")?);
        node.push(after("nodeReadyAtMillis")?);
    }
    let note = format!("median of {ROUNDS} starts with an empty data folder");
    report.add("API ready after start", median(&api), "ms", Limit::AtMost(500.0), &note);
    report.add("Node Ready after start", median(&node), "ms", Limit::AtMost(1000.0), &note);
    Ok(())
}
