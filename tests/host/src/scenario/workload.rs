//! The Deployment: made, scaled, rolled out and back.

use std::time::{Duration, Instant};

use crate::command::run;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scenario;
use super::load::Load;
use super::manifest::{CLIENT, WEB, WEB_V2};

const BOUND: Duration = Duration::from_secs(90);

/// Waits for the API and the Node, and keeps the times from the process's start.
pub(super) fn ready(scenario: &mut Scenario) -> Result<()> {
    let text = run(&mut scenario.cluster.skeg_on(0, &["status", "--wait", "60", "--json"])?)?;
    let times: Value = serde_json::from_str(&text).context("parse skeg status")?;
    let started = scenario.cluster.started_at_millis;
    for (what, field) in
        [("API ready after", "apiReadyAtMillis"), ("Node Ready after", "nodeReadyAtMillis")]
    {
        let at = times[field].as_u64().with_context(|| format!("{field} in {times}"))?;
        scenario.figures.add_millis(what, u128::from(at).saturating_sub(started));
    }
    Ok(())
}

/// Applies everything and waits until all pods are Ready.
pub(super) fn apply(scenario: &mut Scenario) -> Result<()> {
    let kubectl = scenario.cluster.kubectl();
    let start = Instant::now();
    kubectl.apply(WEB)?;
    wait_replicas(scenario, 3)?;
    scenario.figures.add_millis("apply to all 3 Ready", start.elapsed().as_millis());
    kubectl.apply(CLIENT)?;
    kubectl.run(&["wait", "-n", "demo", "--for=condition=Ready", "pod/client", "--timeout=60s"])?;
    Ok(())
}

/// Waits until exactly `count` pods of the Deployment exist, all Ready.
pub(super) fn wait_replicas(scenario: &Scenario, count: u64) -> Result<()> {
    let get = ["get", "deployment", "-n", "demo", "web"];
    scenario.cluster.kubectl().wait_json(&format!("{count} replicas Ready"), BOUND, &get, |web| {
        let status = &web["status"];
        let settled = status["replicas"] == count
            && status["readyReplicas"] == count
            && status["updatedReplicas"] == count
            && status["observedGeneration"] == web["metadata"]["generation"];
        settled.then_some(())
    })
}

/// To 10 and back.
pub(super) fn scale(scenario: &mut Scenario) -> Result<()> {
    let kubectl = scenario.cluster.kubectl();
    let start = Instant::now();
    kubectl.run(&["scale", "-n", "demo", "deployment/web", "--replicas=10"])?;
    wait_replicas(scenario, 10)?;
    scenario.figures.add_millis("scale from 3 to 10 Ready", start.elapsed().as_millis());
    kubectl.run(&["scale", "-n", "demo", "deployment/web", "--replicas=3"])?;
    wait_replicas(scenario, 3)
}

/// A new image under load without a failed request, then back.
pub(super) fn roll_out(scenario: &mut Scenario) -> Result<()> {
    let kubectl = scenario.cluster.kubectl();
    let load = Load::start(scenario)?;
    let start = Instant::now();
    kubectl.run(&["set", "image", "-n", "demo", "deployment/web", &format!("web={WEB_V2}")])?;
    kubectl.run(&["rollout", "status", "-n", "demo", "deployment/web", "--timeout=90s"])?;
    scenario.figures.add_millis("roll-out of a new image, 3 pods", start.elapsed().as_millis());
    wait_replicas(scenario, 3)?;
    let outcome = load.stop()?;
    ensure!(outcome.failed == 0, "{} requests failed: {:?}", outcome.failed, outcome.answers);
    let seen = |version: &str| outcome.answers.keys().any(|answer| answer.ends_with(version));
    ensure!(seen("v1") && seen("v2"), "both versions should answer: {:?}", outcome.answers);
    scenario
        .figures
        .add("requests during the roll-out", format!("{}, 0 failed", outcome.answered()));

    let load = Load::start(scenario)?;
    kubectl.run(&["rollout", "undo", "-n", "demo", "deployment/web"])?;
    kubectl.run(&["rollout", "status", "-n", "demo", "deployment/web", "--timeout=90s"])?;
    wait_replicas(scenario, 3)?;
    let outcome = load.stop()?;
    ensure!(outcome.failed == 0, "{} requests failed during the undo", outcome.failed);
    let history = kubectl.run(&["rollout", "history", "-n", "demo", "deployment/web"])?;
    ensure!(history.contains('3'), "revision 3 is not in the history:\n{history}");
    Ok(())
}
