//! Create and start of a container, to its first instruction: ours beside crun on the same bundle
//! (same root, namespaces, mounts, capabilities), without a system call filter and again with the
//! default one.
//!
//! Rounds alternate. The last line is JSON, for `cargo xtask bench`. Needs root, crun and
//! busybox-static; everything is made in a folder and cgroups of its own, and removed.
#![allow(
    unsafe_code,
    reason = "setns between fork and exec, for a peer that refuses hybrid cgroups"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use runtime::{
    Config, ContainerSpec, LinuxRuntime, Mount, Resources, Runtime, SandboxSpec, Seccomp,
    default_seccomp_profile,
};
use serde_json::{Value, json};

const ROUNDS: usize = 40;
const CAPABILITIES: &[&str] =
    &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Some(code) = runtime::maybe_run_shim(std::env::args_os()) {
        return code;
    }
    let folder = PathBuf::from(format!("/run/skeg-container-bench-{}", std::process::id()));
    let outcome = bench(&folder);
    clean(&folder);
    match outcome {
        Ok(figures) => {
            let _unheard = writeln!(io::stdout(), "{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _unheard = writeln!(io::stderr(), "container_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    folder: PathBuf,
    cgroup: String,
    runtime: LinuxRuntime,
    netns: PathBuf,
    mark: OwnedFd,
    peer_mounts: OwnedFd,
    number: u32,
}

#[tokio::main]
async fn bench(folder: &Path) -> Outcome<Value> {
    let root = folder.join("root");
    for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))?;
    fs::hard_link(root.join("bin/busybox"), root.join("bin/sh"))?;
    let fifo = folder.join("mark");
    mkfifo(&fifo, Mode::from_bits_truncate(0o666))?;
    let descriptor =
        open(&fifo, OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: open has just made this descriptor for us.
    let mark = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(descriptor) };
    let cgroup = format!("/{}", folder.file_name().unwrap_or_default().to_string_lossy());
    let runtime = LinuxRuntime::open(Config {
        run_dir: folder.join("run"),
        cgroup_root: PathBuf::from(&cgroup),
        cgroup2_root: None,
        executable: "/proc/self/exe".into(),
        parallel_starts_max: 4,
    })
    .await?;
    let netns = runtime.create_sandbox(&sandbox()).await?.ok_or("no network namespace")?;
    let peer_mounts = mounts_without_unified()?;
    let folder = folder.to_owned();
    let mut bench = Bench { folder, cgroup, runtime, netns, mark, peer_mounts, number: 0 };
    let (mut ours, mut crun) = (Vec::new(), Vec::new());
    let (mut ours_filtered, mut crun_filtered) = (Vec::new(), Vec::new());
    for _round in 0..ROUNDS {
        settle().await;
        ours.push(bench.ours(Seccomp::Unconfined).await?);
        settle().await;
        crun.push(bench.crun(false)?);
        settle().await;
        ours_filtered.push(bench.ours(Seccomp::RuntimeDefault).await?);
        settle().await;
        crun_filtered.push(bench.crun(true)?);
    }
    bench.runtime.remove_sandbox("bench").await?;
    let (ours, crun) = (median(ours), median(crun));
    let (ours_filtered, crun_filtered) = (median(ours_filtered), median(crun_filtered));
    Ok(json!({
        "create_start_ratio": ours / crun,
        "ours_ms": ours,
        "crun_ms": crun,
        "create_start_with_seccomp_ratio": ours_filtered / crun_filtered,
        "ours_with_seccomp_ms": ours_filtered,
        "crun_with_seccomp_ms": crun_filtered,
        "rounds": ROUNDS,
    }))
}

/// Lets the kernel come to rest: the first move of a process between cgroups waits for a grace period
/// of some 12 ms, and the next one does not if it follows soon. Without the pause whoever comes
/// second is measured with the first one's wait already paid.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn sandbox() -> SandboxSpec {
    SandboxSpec {
        pod_uid: "bench".into(),
        pod_namespace: "bench".into(),
        pod_name: "bench".into(),
        hostname: "bench".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        sysctls: BTreeMap::new(),
        cgroup: "podbench".into(),
        resources: Resources::default(),
    }
}

impl Bench {
    fn payload() -> Vec<String> {
        ["/bin/sh", "-c", "echo > /mark"].map(str::to_owned).to_vec()
    }

    /// Waits for the payload's mark and takes it.
    fn wait_mark(&self) -> Outcome<()> {
        let mut ready = [PollFd::new(self.mark.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(20_000u16))? == 0 {
            return Err("the payload did not start within 20 s".into());
        }
        let mut buffer = [0; 64];
        nix::unistd::read(self.mark.as_raw_fd(), &mut buffer)?;
        Ok(())
    }

    async fn ours(&mut self, seccomp: Seccomp) -> Outcome<f64> {
        self.number += 1;
        let id = format!("{:064x}", self.number);
        let spec = ContainerSpec {
            cgroup: format!("podbench/{id}"),
            log_path: self.folder.join("log"),
            id: id.clone(),
            pod_uid: "bench".into(),
            name: "c".into(),
            attempt: 0,
            rootfs: self.folder.join("root"),
            args: Self::payload(),
            env: vec!["PATH=/bin".into(), "HOME=/".into()],
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            additional_gids: vec![],
            tty: false,
            stdin: false,
            stdin_once: false,
            privileged: false,
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            read_only_rootfs: false,
            no_new_privileges: false,
            unmasked_proc: false,
            seccomp,
            mounts: vec![Mount {
                source: self.folder.join("mark"),
                destination: "/mark".into(),
                read_only: false,
                recursive_read_only: false,
                propagation: "private".into(),
            }],
            devices: vec![],
            oom_score_adj: 0,
            resources: Resources::default(),
            log_max_bytes: 1 << 20,
            log_max_files: 2,
            annotations: BTreeMap::new(),
        };
        let start = Instant::now();
        self.runtime.start_container(&spec).await?;
        self.wait_mark()?;
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        self.runtime.remove_container(&id).await?;
        Ok(millis)
    }

    fn crun(&mut self, filtered: bool) -> Outcome<f64> {
        self.number += 1;
        let bundle = self.folder.join("bundle");
        fs::create_dir_all(&bundle)?;
        let mut config = self.peer_config();
        if filtered {
            let capabilities = CAPABILITIES.iter().map(ToString::to_string).collect();
            config["linux"]["seccomp"] = default_seccomp_profile(&capabilities);
        }
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        let id = format!("bench-{}-{}", std::process::id(), self.number);
        let peer_root = self.folder.join("crun");
        let command = |args: &[&str]| {
            let mut command = Command::new("crun");
            command.arg("--root").arg(&peer_root).args(args).arg(&id);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mounts = self.peer_mounts.as_raw_fd();
            // SAFETY: setns is async-signal-safe and touches only the child.
            unsafe {
                command.pre_exec(move || {
                    let mounts = std::os::fd::BorrowedFd::borrow_raw(mounts);
                    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(io::Error::from)
                });
            }
            command
        };
        let bundle = bundle.display().to_string();
        let start = Instant::now();
        let status = command(&["run", "--detach", "--bundle", &bundle]).status()?;
        if !status.success() {
            return Err(format!("crun run: {status}").into());
        }
        self.wait_mark()?;
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        command(&["delete", "--force"]).status()?;
        Ok(millis)
    }

    fn peer_config(&self) -> Value {
        let pinned = |kind: &str| {
            let path = self.netns.with_file_name(kind);
            path.exists().then(|| path.display().to_string())
        };
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "pid"})];
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            namespaces.push(match pinned(file) {
                Some(path) => json!({"type": kind, "path": path}),
                None => json!({"type": kind}),
            });
        }
        let caps = json!(CAPABILITIES);
        let tmpfs = |destination: &str, options: &[&str]| json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options});
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": self.folder.join("root"), "readonly": false},
            "process": {
                "args": Self::payload(), "cwd": "/", "env": ["PATH=/bin", "HOME=/"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                tmpfs("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                tmpfs("/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
                {"destination": "/mark", "type": "bind", "source": self.folder.join("mark"), "options": ["rbind", "rprivate"]},
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("{}/crun-{}", self.cgroup, self.number),
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            },
        })
    }
}

/// A private mount namespace in which cgroup v2 beside v1 is hidden: crun refuses that mixture.
fn mounts_without_unified() -> Outcome<OwnedFd> {
    let made = std::thread::spawn(|| -> nix::Result<OwnedFd> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        if Path::new("/sys/fs/cgroup/unified").exists() {
            umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH)?;
        }
        let fd =
            open("/proc/thread-self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        // SAFETY: open has just made this descriptor for us.
        Ok(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) })
    });
    Ok(made.join().map_err(|_| "the mount namespace's thread panicked")??)
}

/// Removes mounts, cgroups and the folder, also after a failure.
fn clean(folder: &Path) {
    let own = folder.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if point.starts_with(&own) {
            let _gone = umount2(point, MntFlags::MNT_DETACH);
        }
    }
    let _gone = fs::remove_dir_all(folder);
    let name = folder.file_name().unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let left: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|hierarchy| hierarchy.path().join(name))
            .filter(|path| path.is_dir())
            .collect();
        if left.is_empty() {
            return;
        }
        for root in left {
            remove_below(&root);
        }
    }
}

fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _busy = fs::remove_dir(folder);
}
