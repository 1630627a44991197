//! What goes on when a part of the runtime is killed.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use runtime::{ContainerState, Runtime};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::containers::wait_log;
use crate::node::{BOUND, Node, executable, open};

/// PIDs of processes with this name whose parent is `parent`.
fn children(parent: u32, name: &str) -> Vec<i32> {
    processes()
        .into_iter()
        .filter(|process| process.parent == parent && process.name == name)
        .map(|process| process.pid)
        .collect()
}

struct Process {
    pid: i32,
    parent: u32,
    name: String,
    state: String,
}

fn processes() -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((front, back)) = text.rsplit_once(") ") else { continue };
        let Some((pid, name)) = front.split_once(" (") else { continue };
        let mut back = back.split(' ');
        let state = back.next().unwrap_or_default().to_owned();
        let parent = back.next().and_then(|parent| parent.parse().ok()).unwrap_or(0);
        found.push(Process {
            pid: pid.parse().expect("a number"),
            parent,
            name: name.to_owned(),
            state,
        });
    }
    found
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("killed");
}

/// The parent of a process: of a container's first process, its shim.
fn parent(pid: i32) -> i32 {
    let found = processes().into_iter().find(|process| process.pid == pid).expect("it lives");
    i32::try_from(found.parent).expect("a PID")
}

fn write_json(path: &Path, value: &impl serde::Serialize) {
    fs::write(path, serde_json::to_vec(value).expect("JSON")).expect("written");
}

#[tokio::test]
async fn a_killed_agent_leaves_containers_running() {
    let mut node = Node::new().await;
    let spec =
        node.container("a", "c", "echo up; while [ ! -e /tmp/go ]; do usleep 10000; done; exit 4");
    let (sandbox_file, container_file) = (node.folder.join("s.json"), node.folder.join("c.json"));
    write_json(&sandbox_file, &node.sandbox("a"));
    write_json(&container_file, &spec);
    let mut agent = Command::new(executable())
        .arg("agent")
        .arg(node.folder.join("run"))
        .arg(&node.cgroup)
        .args([&sandbox_file, &container_file])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("an agent");
    let mut lines = BufReader::new(agent.stdout.take().expect("piped")).lines();
    let said = tokio::time::timeout(BOUND, lines.next_line()).await.expect("in time");
    assert_eq!(said.expect("read").as_deref(), Some("ready"));
    agent.kill().await.expect("killed");

    node.runtime = open(&node.folder, &node.cgroup).await;
    let seen = node.seen(&spec.id).await.expect("it is known");
    let ContainerState::Running { pid, .. } = seen.state else { panic!("{seen:?}") };
    assert_eq!(seen.spec, spec);
    wait_log(&node, &spec, "up").await;
    fs::write(node.folder.join("root/tmp/go"), "").expect("written");
    assert_eq!(node.exit(&spec.id).await.code, 4);
    node.runtime.remove_sandbox("a").await.expect("removed");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn an_end_that_no_agent_saw_is_found() {
    let mut node = Node::new().await;
    let sandbox = node.sandbox("a");
    node.runtime.create_sandbox(&sandbox).await.expect("a sandbox");
    let spec = node.container("a", "c", "exit 9");
    node.runtime.start_container(&spec).await.expect("started");
    node.exit(&spec.id).await;
    node.runtime = open(&node.folder, &node.cgroup).await;
    assert_eq!(node.exit(&spec.id).await.code, 9);
    let again = node.runtime.create_sandbox(&sandbox).await.expect("making what exists succeeds");
    assert!(again.expect("a network namespace").exists());
    node.runtime.start_container(&spec).await.expect("starting what exists succeeds");
    assert_eq!(node.exit(&spec.id).await.code, 9, "it was not started again");
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let spec = node.container("a", "c", "sleep 1000 & sleep 1000");
    node.runtime.start_container(&spec).await.expect("started");
    let pid = node
        .wait(&spec.id, |seen| match seen.state {
            ContainerState::Running { pid, .. } => Some(pid),
            _ => None,
        })
        .await;
    kill(parent(pid));
    let exit = node.exit(&spec.id).await;
    assert_eq!(exit.code, 137);
    assert!(exit.start_error.as_deref().is_some_and(|why| why.contains("shim")), "{exit:?}");
    assert!(exit.started_at_nanos > 0, "it had started: {exit:?}");
    // The kernel takes a moment to carry a kill out.
    let alive =
        || processes().into_iter().any(|process| process.pid == pid && process.state != "Z");
    let gone = async {
        while alive() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(BOUND, gone).await;
    assert!(gone.is_ok(), "the container outlived its shim");
}

#[tokio::test]
async fn a_killed_zygote_is_started_again() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let first = node.container("a", "one", "echo up; while true; do usleep 10000; done");
    node.runtime.start_container(&first).await.expect("started");
    for zygote in children(std::process::id(), "skeg-zygote") {
        kill(zygote);
    }
    let second = node.container("a", "two", "exit 3");
    node.runtime.start_container(&second).await.expect("by another zygote");
    assert_eq!(node.exit(&second.id).await.code, 3);
    let seen = node.seen(&first.id).await.expect("it is known");
    assert!(matches!(seen.state, ContainerState::Running { .. }), "{seen:?}");
}

#[tokio::test]
async fn shims_are_small_and_leave_no_zombie() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let spec = node.container("a", "c", "(usleep 1000 &); sleep 1000");
    node.runtime.start_container(&spec).await.expect("started");
    let pid = node
        .wait(&spec.id, |seen| match seen.state {
            ContainerState::Running { pid, .. } => Some(pid),
            _ => None,
        })
        .await;
    let shim = parent(pid);
    let rollup = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).expect("a map");
    let kib: u64 = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("a number");
    // The goal is for an optimised build; this one has larger code.
    assert!(kib <= 4 * 1024, "the shim has {kib} KiB");
    node.runtime.remove_container(&spec.id).await.expect("removed");
    let wait = async {
        while processes().iter().any(|process| process.pid == shim) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.expect("the shim is gone, and waited for");
}
