//! A container's life: start, output, limits, end.

use runtime::{Resources, Runtime, RuntimeError, Seccomp};

use crate::node::{Node, cgroup_folders, open};

#[tokio::test]
async fn exit_code_and_output() {
    let node = Node::new().await;
    let spec = node.container("a", "c", "echo hello; echo oops >&2; exit 7");
    let (exit, log) = node.run("a", &spec).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    assert!(log.contains("hello\n") && log.contains("oops\n"), "{log}");
    assert!(exit.finished_at_nanos >= exit.started_at_nanos && exit.started_at_nanos > 0);
    let text = std::fs::read_to_string(&spec.log_path).expect("a log");
    assert!(text.contains(" stdout F hello") && text.contains(" stderr F oops"), "{text}");
}

#[tokio::test]
async fn signals_end_it() {
    let node = Node::new().await;
    let spec = node.container(
        "a",
        "c",
        "trap 'echo term; exit 5' TERM; echo up; while true; do usleep 10000; done",
    );
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    node.runtime.start_container(&spec).await.expect("started");
    wait_log(&node, &spec, "up").await;
    node.runtime.signal(&spec.id, libc::SIGTERM).await.expect("sent");
    assert_eq!(node.exit(&spec.id).await.code, 5);
    let spec = node.container("a", "d", "while true; do usleep 10000; done");
    node.runtime.start_container(&spec).await.expect("started");
    node.runtime.signal(&spec.id, libc::SIGKILL).await.expect("sent");
    let exit = node.exit(&spec.id).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

/// Waits until the log has a text; the shim writes it a moment after the container does.
pub(crate) async fn wait_log(node: &Node, spec: &runtime::ContainerSpec, text: &str) {
    let wait = async {
        while !node.log(spec).contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(crate::node::BOUND, wait).await;
    assert!(found.is_ok(), "no {text:?} in the log: {}", node.log(spec));
}

#[tokio::test]
async fn memory_limit_kills_and_says_so() {
    let node = Node::new().await;
    let mut spec = node.container("a", "c", "a=x; while true; do a=$a$a$a$a; done");
    spec.resources = Resources { memory_bytes: Some(16 << 20), ..Resources::default() };
    let (exit, _log) = node.run("a", &spec).await;
    assert!(exit.oom_killed && exit.code == 137, "{exit:?}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let node = Node::new().await;
    let mut spec = node.container("a", "c", "");
    spec.args = vec!["/absent".into()];
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let error = node.runtime.start_container(&spec).await.expect_err("there is no such program");
    let RuntimeError::Start { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("/absent"), "{reason}");
    let exit = node.exit(&spec.id).await;
    assert!(exit.start_error.is_some(), "{exit:?}");
}

#[tokio::test]
async fn security_settings_hold() {
    let node = Node::new().await;
    let mut spec = node.container(
        "a",
        "c",
        "id -u; grep -E 'NoNewPrivs|^Seccomp:|CapEff' /proc/self/status; touch /x 2>/dev/null || echo read-only; unshare -m true 2>/dev/null || echo denied",
    );
    spec.uid = 65534;
    spec.gid = 65534;
    spec.read_only_rootfs = true;
    spec.no_new_privileges = true;
    spec.capabilities = vec![];
    spec.seccomp = Seccomp::RuntimeDefault;
    let (exit, log) = node.run("a", &spec).await;
    assert_eq!(exit.code, 0, "{log}");
    for expected in [
        "65534\n",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "read-only",
        "denied",
    ] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
}

#[tokio::test]
async fn many_at_once_all_start() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let specs: Vec<_> =
        (0..200).map(|number| node.container("a", &format!("c{number}"), "exit 3")).collect();
    let starts = specs.iter().map(|spec| node.runtime.start_container(spec));
    for started in futures::future::join_all(starts).await {
        started.expect("started");
    }
    for spec in &specs {
        assert_eq!(node.exit(&spec.id).await.code, 3);
    }
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let node = Node::new().await;
    let spec = node.container("a", "c", "sleep 1000 & sleep 1000");
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    node.runtime.start_container(&spec).await.expect("started");
    node.runtime.remove_sandbox("a").await.expect("removed");
    node.runtime.remove_sandbox("a").await.expect("removing again is no error");
    assert!(node.runtime.observe().await.expect("observed").is_empty());
    let left: Vec<_> = cgroup_folders(&node.cgroup)
        .into_iter()
        .filter(|folder| folder.display().to_string().contains("poda"))
        .collect();
    assert!(left.is_empty(), "cgroups left: {left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let own = node.folder.join("run").display().to_string();
    assert!(!mounts.contains(&format!("{own}/sandboxes/a")), "mounts left");
}

#[tokio::test]
async fn a_new_agent_takes_over() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let running =
        node.container("a", "runs", "while [ ! -e /tmp/go ]; do usleep 10000; done; exit 4");
    let ended = node.container("a", "ended", "exit 6");
    node.runtime.start_container(&running).await.expect("started");
    node.runtime.start_container(&ended).await.expect("started");
    node.exit(&ended.id).await;
    let mut node = node;
    node.runtime = open(&node.folder, &node.cgroup).await;
    assert_eq!(node.exit(&ended.id).await.code, 6);
    let seen = node.seen(&running.id).await.expect("it is known");
    assert!(matches!(seen.state, runtime::ContainerState::Running { .. }), "{seen:?}");
    std::fs::write(node.folder.join("root/tmp/go"), "").expect("written");
    assert_eq!(node.exit(&running.id).await.code, 4);
}
