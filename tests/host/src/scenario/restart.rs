//! The server dies and comes back: containers and traffic go on, nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scenario;
use super::load::DetachedLoad;

/// Container ids and restart counts of all pods.
fn containers(scenario: &Scenario) -> Result<BTreeMap<String, (String, u64)>> {
    let pods = scenario.cluster.kubectl().json(&["get", "pods", "-n", "demo"])?;
    let mut found = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let name = format!("{}/{}", pod["metadata"]["name"], status["name"]);
            let id = status["containerID"].as_str().unwrap_or_default().to_string();
            found.insert(name, (id, status["restartCount"].as_u64().unwrap_or(0)));
        }
    }
    Ok(found)
}

fn not_ready(pods: &Value) -> Vec<String> {
    let is_ready = |pod: &&Value| {
        pod["status"]["conditions"].as_array().is_some_and(|all| {
            all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
    };
    let items = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter(|pod| !is_ready(pod))
        .map(|pod| pod["metadata"]["name"].to_string())
        .collect()
}

/// Kills and restarts the server under load.
pub(super) fn check(scenario: &mut Scenario) -> Result<()> {
    let before = containers(scenario)?;
    let load = DetachedLoad::start(scenario)?;
    let kubectl = scenario.cluster.kubectl();
    for number in 0..20 {
        let name = format!("written-{number}");
        kubectl.run(&["create", "configmap", "-n", "demo", &name, "--from-literal=key=value"])?;
    }
    scenario.cluster.kill(0)?;
    let start = Instant::now();
    scenario.cluster.start_server()?;
    let pods = kubectl.wait_json(
        "the API to answer again",
        Duration::from_secs(30),
        &["get", "pods", "-n", "demo"],
        |pods| Some(pods.clone()),
    )?;
    scenario.figures.add_millis("SIGKILL to API answering again", start.elapsed().as_millis());
    ensure!(not_ready(&pods).is_empty(), "pods lost readiness: {:?}", not_ready(&pods));
    for number in 0..20 {
        let name = format!("written-{number}");
        kubectl
            .run(&["get", "configmap", "-n", "demo", &name])
            .context("an acknowledged write was lost")?;
    }
    let outcome = load.stop()?;
    ensure!(outcome.failed == 0, "{} requests failed while the server was down", outcome.failed);
    let after = containers(scenario)?;
    ensure!(before == after, "containers changed: {before:?} became {after:?}");
    scenario.figures.add(
        "requests while the server died and came back",
        format!("{}, 0 failed; no container restarted", outcome.answered()),
    );
    Ok(())
}
