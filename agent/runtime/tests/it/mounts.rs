//! File systems, devices and privileges of a container.

use std::fs;

use nix::mount::{MsFlags, mount};
use runtime::{Device, Mount, Runtime, Seccomp};

use crate::containers::wait_log;
use crate::node::Node;

fn bind(node: &Node, source: &str, destination: &str, propagation: &str) -> Mount {
    Mount {
        source: node.folder.join(source),
        destination: destination.into(),
        read_only: false,
        recursive_read_only: false,
        propagation: propagation.into(),
    }
}

#[tokio::test]
async fn volumes_files_and_working_folders() {
    let node = Node::new().await;
    fs::create_dir_all(node.folder.join("volume")).expect("made");
    fs::write(node.folder.join("volume/file"), "from the volume\n").expect("written");
    let mut spec = node.container(
        "a",
        "c",
        "pwd; cat /data/file /etc/one; touch /data/x 2>/dev/null || echo data is read-only; \
         touch /rw/y && echo written; \
         for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/memory.limit_in_bytes; do \
         if test -e $file; then (echo 1 > $file) 2>/dev/null || echo cgroups are read-only; fi; \
         done; (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo sysctls are read-only; \
         stat -f -c %T /dev/shm; echo $HOME $HOSTNAME",
    );
    spec.cwd = "/made/for/it".into();
    let read_only = Mount { read_only: true, ..bind(&node, "volume", "/data", "private") };
    spec.mounts = vec![
        read_only,
        bind(&node, "volume", "/rw", "private"),
        bind(&node, "volume/file", "/etc/one", "private"),
    ];
    let (exit, log) = node.run("a", &spec).await;
    assert_eq!(exit.code, 0, "{log}");
    assert_eq!(
        log,
        "/made/for/it\nfrom the volume\nfrom the volume\ndata is read-only\nwritten\n\
         cgroups are read-only\nsysctls are read-only\ntmpfs\n/root host-a\n"
    );
    assert!(node.folder.join("volume/y").exists());
}

#[tokio::test]
async fn mounts_made_later_appear_only_where_asked_for() {
    let node = Node::new().await;
    let shared = node.folder.join("shared");
    fs::create_dir_all(&shared).expect("made");
    let none = None::<&str>;
    mount(Some("tmpfs"), &shared, Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
    mount(none, &shared, none, MsFlags::MS_SHARED, none).expect("shared");
    fs::create_dir_all(shared.join("late")).expect("made");
    let mut spec = node.container(
        "a",
        "c",
        "echo up; while [ ! -e /tmp/go ]; do usleep 10000; done; \
         cat /slave/late/file; test -e /private/late/file || echo unseen",
    );
    spec.mounts = vec![
        bind(&node, "shared", "/slave", "rslave"),
        bind(&node, "shared", "/private", "private"),
    ];
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    node.runtime.start_container(&spec).await.expect("started");
    wait_log(&node, &spec, "up").await;
    mount(Some("tmpfs"), &shared.join("late"), Some("tmpfs"), MsFlags::empty(), none)
        .expect("mounted");
    fs::write(shared.join("late/file"), "late\n").expect("written");
    fs::write(node.folder.join("root/tmp/go"), "").expect("written");
    assert_eq!(node.exit(&spec.id).await.code, 0, "{}", node.log(&spec));
    assert_eq!(node.log(&spec), "up\nlate\nunseen\n");
}

#[tokio::test]
async fn a_privileged_container_may_what_the_agent_may() {
    let node = Node::new().await;
    let mut spec = node.container(
        "a",
        "c",
        "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp && echo mounted; \
         test -w /proc/sys/kernel && echo writable; test -r /dev/null && echo devices",
    );
    spec.privileged = true;
    spec.seccomp = Seccomp::Unconfined;
    let (exit, log) = node.run("a", &spec).await;
    assert_eq!(exit.code, 0, "{log} {exit:?}");
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let own = status.lines().find(|line| line.starts_with("CapEff")).expect("capabilities");
    for expected in [own, "Seccomp:\t0", "mounted", "writable", "devices"] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
}

#[tokio::test]
async fn a_device_of_the_node_is_given_and_others_are_refused() {
    let node = Node::new().await;
    let mut spec = node.container(
        "a",
        "c",
        "head -c 3 /dev/mine | wc -c; id -G; grep -E 'CapEff|NoNewPrivs|^Seccomp:' /proc/self/status",
    );
    spec.devices = vec![Device {
        source: "/dev/zero".into(),
        destination: "/dev/mine".into(),
        permissions: "r".into(),
    }];
    spec.additional_gids = vec![7, 8];
    spec.capabilities = vec!["CAP_CHOWN".into(), "CAP_SYS_RESOURCE".into()];
    let (exit, log) = node.run("a", &spec).await;
    assert_eq!(exit.code, 0, "{log}");
    assert_eq!(
        log, "3\n0 7 8\nCapEff:\t0000000000000001\nNoNewPrivs:\t0\nSeccomp:\t2\n",
        "the agent has no CAP_SYS_RESOURCE to give"
    );
}
