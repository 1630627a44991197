//! What containers of a pod share.

use runtime::{Resources, Runtime};

use crate::node::Node;

#[tokio::test]
async fn host_name_and_network_are_shared() {
    let node = Node::new().await;
    let netns = node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    assert!(netns.expect("a network namespace").exists());
    let mut logs = Vec::new();
    for name in ["one", "two"] {
        let spec = node.container(
            "a",
            name,
            "hostname; ls -l /proc/self/ns/net | grep -o 'net:.*'; ip link show lo | grep -c UP",
        );
        node.runtime.start_container(&spec).await.expect("started");
        assert_eq!(node.exit(&spec.id).await.code, 0);
        logs.push(node.log(&spec));
    }
    assert_eq!(logs[0], logs[1], "both see the same namespaces");
    assert!(logs[0].starts_with("host-a\nnet:["), "{}", logs[0]);
}

#[tokio::test]
async fn a_shared_pid_namespace() {
    let node = Node::new().await;
    let mut sandbox = node.sandbox("a");
    sandbox.share_process_namespace = true;
    node.runtime.create_sandbox(&sandbox).await.expect("a sandbox");
    let first = node.container("a", "one", "exec sleep 4321");
    node.runtime.start_container(&first).await.expect("started");
    let second = node.container(
        "a",
        "two",
        "while ! grep -q 4321 /proc/[0-9]*/cmdline; do usleep 10000; done; echo seen",
    );
    node.runtime.start_container(&second).await.expect("started");
    assert_eq!(node.exit(&second.id).await.code, 0);
    assert!(node.log(&second).contains("seen"));
}

#[tokio::test]
async fn limits_reach_the_cgroups_and_usage_comes_back() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let mut spec = node.container("a", "c", "while true; do usleep 10000; done");
    spec.resources = Resources {
        memory_bytes: Some(64 << 20),
        cpu_shares: Some(256),
        cpu_quota_micros: Some(50_000),
        cpu_period_micros: Some(100_000),
        pids: Some(40),
        ..Resources::default()
    };
    node.runtime.start_container(&spec).await.expect("started");
    let limits = || {
        let folder = node.cgroup.trim_start_matches('/').to_string() + "/" + &spec.cgroup;
        let read =
            |path: String| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let v2 = read(format!("/sys/fs/cgroup/{folder}/memory.max"));
        if v2.is_empty() {
            read(format!("/sys/fs/cgroup/memory/{folder}/memory.limit_in_bytes"))
        } else {
            v2
        }
    };
    assert_eq!(limits(), (64 << 20).to_string());
    let usage = node.runtime.usage(&spec.id).await.expect("usage");
    assert!(usage.working_set_bytes > 0 && usage.pids >= 1, "{usage:?}");
    let raised = Resources { memory_bytes: Some(96 << 20), ..spec.resources.clone() };
    node.runtime.update_resources(&spec.id, &raised).await.expect("raised");
    assert_eq!(limits(), (96 << 20).to_string());
}

#[tokio::test]
async fn processes_are_in_the_v2_hierarchy_of_the_node() {
    let node = Node::new().await;
    let spec = node.container("a", "c", "grep ^0:: /proc/self/cgroup");
    let (_exit, log) = node.run("a", &spec).await;
    assert!(log.contains(&node.cgroup), "socket programs would not see it: {log:?}");
}
