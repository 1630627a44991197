//! Self-healing: what dies comes back, and requests keep being answered.

use std::time::{Duration, Instant};

use crate::cgroup;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Scenario;
use super::load::Load;
use super::workload::wait_replicas;

const BOUND: Duration = Duration::from_secs(60);

fn first_pod(scenario: &Scenario) -> Result<(String, String)> {
    let pods = scenario.cluster.kubectl().json(&["get", "pods", "-n", "demo", "-l", "app=web"])?;
    let metadata = &pods["items"][0]["metadata"];
    let text = |field: &str| metadata[field].as_str().map(str::to_string);
    text("name").zip(text("uid")).context("no pod of the Deployment")
}

/// Processes of a pod, found by its uid in the node's cgroup.
fn processes_of(scenario: &Scenario, uid: &str) -> Result<Vec<i32>> {
    let all = cgroup::processes(&scenario.cluster.nodes[0].cgroup)?;
    let in_pod = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        text.contains(uid) && !comm.starts_with("skeg")
    };
    Ok(all.into_iter().filter(in_pod).collect())
}

/// Kills the web server of one pod.
pub(super) fn kill_process(scenario: &mut Scenario) -> Result<()> {
    let (name, uid) = first_pod(scenario)?;
    let processes = processes_of(scenario, &uid)?;
    ensure!(!processes.is_empty(), "pod {name} has no process");
    let load = Load::start(scenario)?;
    let start = Instant::now();
    for pid in processes {
        kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill {pid}"))?;
    }
    let get = ["get", "pod", "-n", "demo", &name];
    let count = scenario.cluster.kubectl().wait_json(
        "the container to be restarted",
        BOUND,
        &get,
        |pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let count = status["restartCount"].as_u64()?;
            (count >= 1 && status["ready"] == true).then_some(count)
        },
    )?;
    scenario.figures.add_millis("killed process to Ready again", start.elapsed().as_millis());
    scenario.figures.add("restart count after the kill", count.to_string());
    let outcome = load.stop()?;
    ensure!(outcome.answered() > 0, "no request was answered meanwhile");
    scenario.figures.add(
        "requests meanwhile",
        format!(
            "{} answered, {} failed with the killed process",
            outcome.answered(),
            outcome.failed
        ),
    );
    Ok(())
}

/// Deletes a pod: another takes its place, no request fails.
pub(super) fn delete_pod(scenario: &mut Scenario) -> Result<()> {
    let (name, _uid) = first_pod(scenario)?;
    let load = Load::start(scenario)?;
    let start = Instant::now();
    scenario.cluster.kubectl().run(&["delete", "pod", "-n", "demo", &name])?;
    wait_replicas(scenario, 3)?;
    scenario.figures.add_millis("deleted pod to 3 Ready again", start.elapsed().as_millis());
    let outcome = load.stop()?;
    ensure!(outcome.failed == 0, "{} requests failed", outcome.failed);
    Ok(())
}
