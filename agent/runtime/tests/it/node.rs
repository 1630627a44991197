//! A node for one test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runtime::{
    Config, ContainerSeen, ContainerSpec, ContainerState, Exit, LinuxRuntime, Resources, Runtime,
    SandboxSpec, Seccomp,
};

/// Nothing in these tests takes so long on a working system.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Folders and a runtime.
pub(crate) struct Node {
    pub(crate) runtime: LinuxRuntime,
    pub(crate) folder: PathBuf,
    pub(crate) cgroup: String,
}

/// The binary that can be a zygote.
pub(crate) fn executable() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_runtime-test-agent"))
}

fn busybox_root(root: &Path) {
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static");
    for name in [
        "sh", "cat", "echo", "sleep", "id", "grep", "ls", "touch", "true", "false", "kill",
        "hostname", "stty", "tty", "usleep", "test", "head", "ip", "nc", "mount", "unshare",
        "stat", "wc",
    ] {
        let link = root.join("bin").join(name);
        fs::hard_link(root.join("bin/busybox"), link).expect("linked");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
}

impl Node {
    /// A fresh node.
    pub(crate) async fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("skeg-rt-{}-{number}", std::process::id());
        let folder = PathBuf::from("/run").join(&name);
        fs::create_dir_all(folder.join("logs")).expect("made");
        busybox_root(&folder.join("root"));
        let cgroup = format!("/{name}");
        let runtime = open(&folder, &cgroup).await;
        Self { runtime, folder, cgroup }
    }

    /// A sandbox of its own namespaces.
    pub(crate) fn sandbox(&self, uid: &str) -> SandboxSpec {
        SandboxSpec {
            pod_uid: uid.into(),
            pod_namespace: "default".into(),
            pod_name: uid.into(),
            hostname: format!("host-{uid}"),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            sysctls: BTreeMap::new(),
            cgroup: format!("besteffort/pod{uid}"),
            resources: Resources::default(),
        }
    }

    /// A container that runs a shell script.
    pub(crate) fn container(&self, uid: &str, name: &str, script: &str) -> ContainerSpec {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number:064x}");
        ContainerSpec {
            cgroup: format!("besteffort/pod{uid}/{id}"),
            log_path: self.folder.join("logs").join(format!("{uid}-{name}.log")),
            id,
            pod_uid: uid.into(),
            name: name.into(),
            attempt: 0,
            rootfs: self.folder.join("root"),
            args: ["/bin/sh", "-c", script].map(str::to_string).to_vec(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            additional_gids: vec![],
            tty: false,
            stdin: false,
            stdin_once: false,
            privileged: false,
            capabilities: vec![
                "CAP_CHOWN".into(),
                "CAP_SETUID".into(),
                "CAP_SETGID".into(),
                "CAP_KILL".into(),
            ],
            read_only_rootfs: false,
            no_new_privileges: false,
            unmasked_proc: false,
            seccomp: Seccomp::RuntimeDefault,
            mounts: vec![],
            devices: vec![],
            oom_score_adj: 0,
            resources: Resources::default(),
            log_max_bytes: 10 << 20,
            log_max_files: 3,
            annotations: BTreeMap::new(),
        }
    }

    /// What is known of a container.
    pub(crate) async fn seen(&self, id: &str) -> Option<ContainerSeen> {
        let all = self.runtime.observe().await.expect("observed");
        all.into_iter().flat_map(|sandbox| sandbox.containers).find(|one| one.spec.id == id)
    }

    /// Waits until a condition holds of a container, woken by the runtime's changes.
    pub(crate) async fn wait<T>(
        &self,
        id: &str,
        mut condition: impl FnMut(&ContainerSeen) -> Option<T>,
    ) -> T {
        let mut changes = self.runtime.changes();
        let wait = async {
            loop {
                if let Some(seen) = self.seen(id).await
                    && let Some(found) = condition(&seen)
                {
                    return found;
                }
                // A lagging receiver looks again too.
                let _woken = changes.recv().await;
            }
        };
        match tokio::time::timeout(BOUND, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{id} did not get there: {:?}", self.seen(id).await),
        }
    }

    /// Waits for the end of a container.
    pub(crate) async fn exit(&self, id: &str) -> Exit {
        self.wait(id, |seen| match &seen.state {
            ContainerState::Exited(exit) => Some(exit.clone()),
            _ => None,
        })
        .await
    }

    /// The text of a container's log, without times.
    pub(crate) fn log(&self, spec: &ContainerSpec) -> String {
        let text = fs::read_to_string(&spec.log_path).unwrap_or_default();
        text.lines()
            .filter_map(|line| Some(line.splitn(4, ' ').nth(3)?.to_owned() + "\n"))
            .collect()
    }

    /// Runs a script to its end in a sandbox of its own: exit and log.
    pub(crate) async fn run(&self, uid: &str, spec: &ContainerSpec) -> (Exit, String) {
        self.runtime.create_sandbox(&self.sandbox(uid)).await.expect("a sandbox");
        self.runtime.start_container(spec).await.expect("started");
        let exit = self.exit(&spec.id).await;
        (exit, self.log(spec))
    }
}

/// Opens a runtime over folders that may have been used before.
pub(crate) async fn open(folder: &Path, cgroup: &str) -> LinuxRuntime {
    LinuxRuntime::open(Config {
        run_dir: folder.join("run"),
        cgroup_root: cgroup.into(),
        cgroup2_root: None,
        executable: executable(),
        parallel_starts_max: 4,
    })
    .await
    .expect("a runtime")
}

/// Folders of a cgroup subtree in every hierarchy, deepest first.
pub(crate) fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
            }
        }
        found.push(folder.to_owned());
    }
    let mut found = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    for hierarchy in hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")])
    {
        let folder = hierarchy.join(cgroup.trim_start_matches('/'));
        if folder.is_dir() {
            below(&folder, &mut found);
        }
    }
    found
}

impl Drop for Node {
    fn drop(&mut self) {
        // What a failed test left running, then its mounts, folders and cgroups.
        for folder in cgroup_folders(&self.cgroup) {
            for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse() {
                    let _gone = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.folder.display().to_string();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if point.starts_with(&own) {
                let _gone = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let _gone = fs::remove_dir_all(&self.folder);
        for _attempt in 0..200 {
            let left = cgroup_folders(&self.cgroup);
            if left.is_empty() {
                break;
            }
            for folder in left {
                let _busy = fs::remove_dir(folder);
            }
            std::thread::yield_now();
        }
    }
}
