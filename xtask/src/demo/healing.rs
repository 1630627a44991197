//! Self-healing: what dies comes back, and requests keep being answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use host::cgroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Demo;
use super::load::Load;
use super::workload::wait_replicas;

const BOUND: Duration = Duration::from_secs(60);

fn first_pod(demo: &Demo) -> Result<(String, String)> {
    let pods = demo.cluster.kubectl().json(&["get", "pods", "-n", "demo", "-l", "app=web"])?;
    let metadata = &pods["items"][0]["metadata"];
    let text = |field: &str| metadata[field].as_str().map(str::to_string);
    text("name").zip(text("uid")).context("no pod of the Deployment")
}

/// Processes of a pod, found by its uid in the node's cgroup.
fn processes_of(demo: &Demo, uid: &str) -> Result<Vec<i32>> {
    let all = cgroup::processes(&demo.cluster.nodes[0].cgroup)?;
    let in_pod = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        text.contains(uid) && !comm.starts_with("skeg")
    };
    Ok(all.into_iter().filter(in_pod).collect())
}

/// Kills the web server of one pod.
pub(crate) fn kill_process(demo: &mut Demo) -> Result<()> {
    let (name, uid) = first_pod(demo)?;
    let processes = processes_of(demo, &uid)?;
    ensure!(!processes.is_empty(), "pod {name} has no process");
    let load = Load::start(demo)?;
    let start = Instant::now();
    for pid in processes {
        kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill {pid}"))?;
    }
    let get = ["get", "pod", "-n", "demo", &name];
    let count =
        demo.cluster.kubectl().wait_json("the container to be restarted", BOUND, &get, |pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let count = status["restartCount"].as_u64()?;
            (count >= 1 && status["ready"] == true).then_some(count)
        })?;
    demo.figures.add_millis("killed process to Ready again", start.elapsed().as_millis());
    demo.figures.add("restart count after the kill", count.to_string());
    let outcome = load.stop()?;
    ensure!(outcome.answered() > 0, "no request was answered meanwhile");
    demo.figures.add(
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
pub(crate) fn delete_pod(demo: &mut Demo) -> Result<()> {
    let (name, _uid) = first_pod(demo)?;
    let load = Load::start(demo)?;
    let start = Instant::now();
    demo.cluster.kubectl().run(&["delete", "pod", "-n", "demo", &name])?;
    wait_replicas(demo, 3)?;
    demo.figures.add_millis("deleted pod to 3 Ready again", start.elapsed().as_millis());
    let outcome = load.stop()?;
    ensure!(outcome.failed == 0, "{} requests failed", outcome.failed);
    Ok(())
}
