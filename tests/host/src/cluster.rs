//! A cluster of hosts: made, described in one JSON file, found again, removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{Kubectl, cgroup, namespaces, wait_for};

/// Folder of the descriptions of clusters that are up.
pub const STATE_DIR: &str = "/run/skeg-dev";
/// Folder of the nodes' data: on a real disk, so that fsync and overlayfs are real.
pub const DATA_DIR: &str = "/var/tmp/skeg-dev";

/// What cluster to make.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Name, unique on this machine; part of every name that is made for it.
    pub name: String,
    /// Number of nodes; the first is the server.
    pub nodes: usize,
    /// The `skeg` binary.
    pub skeg: PathBuf,
    /// The `kubectl` program.
    pub kubectl: String,
    /// Further arguments of `skeg server`.
    pub server_args: Vec<String>,
}

/// A node of a cluster: names of everything that makes it up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Node name.
    pub name: String,
    /// Process that holds its namespaces: `nsenter --target PID --net --mount --uts`.
    pub holder_pid: i32,
    /// `/proc/PID/ns/net` and so on, for other tools.
    pub network_namespace: PathBuf,
    /// As above.
    pub mount_namespace: PathBuf,
    /// As above.
    pub uts_namespace: PathBuf,
    /// Address on the switch.
    pub address: String,
    /// Cgroup subtree, in each hierarchy.
    pub cgroup: String,
    /// Data folder.
    pub data_dir: PathBuf,
    /// Run folder.
    pub run_dir: PathBuf,
    /// Log of the node's skeg process.
    pub log: PathBuf,
    /// Pid of the node's skeg process.
    pub pid: i32,
}

/// A cluster that is up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// Name.
    pub name: String,
    /// kubeconfig of the administrator.
    pub kubeconfig: PathBuf,
    /// Address of the API: `https://10.89.0.11:6443`.
    pub api: String,
    /// Process that holds the switch's network namespace.
    pub switch_pid: i32,
    /// The nodes; the first is the server.
    pub nodes: Vec<Host>,
    /// The `skeg` binary.
    pub skeg: PathBuf,
    /// The `kubectl` program.
    pub kubectl: String,
    /// Further arguments of `skeg server`.
    pub server_args: Vec<String>,
    /// Unix time in milliseconds at which the server was started.
    pub started_at_millis: u128,
}

fn state_dir(name: &str) -> PathBuf {
    Path::new(STATE_DIR).join(name)
}

/// Unix time in milliseconds.
pub fn now_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis()
}

impl Cluster {
    /// Makes the namespaces and starts all nodes. Does not wait for anything to be ready.
    pub fn up(spec: &ClusterSpec) -> Result<Self> {
        let state = state_dir(&spec.name);
        if state.join("cluster.json").exists() {
            bail!("cluster {:?} is up already: `cargo xtask dev down` removes it", spec.name);
        }
        fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        let switch_pid = namespaces::hold(&format!("{}-switch", spec.name))?;
        namespaces::make_switch(switch_pid)?;
        let mut cluster = Self {
            name: spec.name.clone(),
            kubeconfig: state.join("kubeconfig"),
            api: "https://10.89.0.11:6443".into(),
            switch_pid,
            nodes: Vec::new(),
            skeg: spec.skeg.clone(),
            kubectl: spec.kubectl.clone(),
            server_args: spec.server_args.clone(),
            started_at_millis: 0,
        };
        cluster.save()?;
        for index in 0..spec.nodes {
            let host = cluster.make_host(index)?;
            cluster.nodes.push(host);
            cluster.save()?;
        }
        cluster.start_server()?;
        for index in 1..spec.nodes {
            cluster.start_agent(index)?;
        }
        Ok(cluster)
    }

    /// The description of a cluster that is up.
    pub fn open(name: &str) -> Result<Self> {
        let path = state_dir(name).join("cluster.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no cluster {name:?} is up ({})", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    fn save(&self) -> Result<()> {
        let path = state_dir(&self.name).join("cluster.json");
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", path.display()))
    }

    fn make_host(&self, index: usize) -> Result<Host> {
        let name = format!("n{}", index + 1);
        let label = format!("{}-{name}", self.name);
        let holder_pid = namespaces::hold(&name)?;
        let address = format!("10.89.0.{}", 11 + index);
        namespaces::plug(self.switch_pid, holder_pid, &name, &format!("{address}/24"))?;
        let data_dir = Path::new(DATA_DIR).join(&self.name).join(&name);
        let run_dir = state_dir(&self.name).join(&name);
        for folder in [&data_dir, &run_dir] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let namespace = |kind: &str| PathBuf::from(format!("/proc/{holder_pid}/ns/{kind}"));
        Ok(Host {
            network_namespace: namespace("net"),
            mount_namespace: namespace("mnt"),
            uts_namespace: namespace("uts"),
            log: run_dir.join("skeg.log"),
            cgroup: format!("/skeg-{label}"),
            pid: 0,
            name,
            holder_pid,
            address,
            data_dir,
            run_dir,
        })
    }

    /// Starts the first node's `skeg server`, also after it was killed.
    pub fn start_server(&mut self) -> Result<()> {
        let host = &self.nodes[0];
        let mut args: Vec<String> = vec![
            "server".into(),
            "--write-kubeconfig".into(),
            self.kubeconfig.display().to_string(),
        ];
        args.extend(self.server_args.iter().cloned());
        self.started_at_millis = now_millis();
        let pid = start(&self.skeg, host, &args)?;
        self.nodes[0].pid = pid;
        self.save()
    }

    /// Starts the `skeg agent` of another node.
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let token = self.nodes[0].data_dir.join("server").join("node-token");
        let token = wait_for("the node token", Duration::from_secs(30), || {
            fs::read_to_string(&token).map_err(|error| format!("read {}: {error}", token.display()))
        })?;
        let mut args = vec!["agent".into(), "--server".into(), self.api.clone()];
        args.extend(["--token".into(), token.trim().to_string()]);
        let pid = start(&self.skeg, &self.nodes[index], &args)?;
        self.nodes[index].pid = pid;
        self.save()
    }

    /// Kills a node's skeg process with SIGKILL and waits until it is gone. Containers stay.
    pub fn kill(&self, index: usize) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.nodes[index].pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
            .with_context(|| format!("kill skeg, pid {pid}"))?;
        wait_for("skeg to be gone", Duration::from_secs(10), || {
            let _reaped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") { Ok(()) } else { Err(state) }
        })
    }

    /// kubectl as seen from a node.
    pub fn kubectl_on(&self, index: usize) -> Kubectl {
        Kubectl {
            holder: self.nodes[index].holder_pid,
            kubeconfig: self.kubeconfig.clone(),
            program: self.kubectl.clone(),
        }
    }

    /// kubectl as seen from the server's node.
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_on(0)
    }

    /// A command inside a node: its namespaces, its cgroup, KUBECONFIG set.
    pub fn command_on(&self, index: usize, program: &str) -> Result<Command> {
        let host = &self.nodes[index];
        let mut command = command_in(host, program)?;
        command.env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    /// A `skeg` subcommand on a node, with the node's folders.
    pub fn skeg_on(&self, index: usize, args: &[&str]) -> Result<Command> {
        let host = &self.nodes[index];
        let mut command = self.command_on(index, &self.skeg.display().to_string())?;
        command.args(args);
        command.args(["--data-dir".as_ref(), host.data_dir.as_os_str()]);
        command.args(["--run-dir".as_ref(), host.run_dir.as_os_str()]);
        Ok(command)
    }

    /// Removes every trace of the cluster.
    pub fn down(&self) -> Result<()> {
        down(&self.name)
    }

    /// The last lines of each node's log, for a failure's message.
    pub fn log_tails(&self, lines: usize) -> String {
        let mut text = String::new();
        for host in &self.nodes {
            let log = fs::read_to_string(&host.log).unwrap_or_default();
            let all: Vec<&str> = log.lines().collect();
            text += &format!("--- {} ({})\n", host.name, host.log.display());
            for line in &all[all.len().saturating_sub(lines)..] {
                text += line;
                text.push('\n');
            }
        }
        text
    }
}

fn command_in(host: &Host, program: &str) -> Result<Command> {
    use std::os::unix::process::CommandExt;
    let procs = cgroup::v2_mount()?.join(host.cgroup.trim_start_matches('/')).join("agent");
    fs::create_dir_all(&procs).with_context(|| format!("make cgroup {}", procs.display()))?;
    let procs = procs.join("cgroup.procs");
    let mut command = namespaces::enter(host.holder_pid, program);
    let join = move || fs::write(&procs, "0");
    #[allow(unsafe_code, reason = "pre_exec is the only way to join a cgroup before exec")]
    // SAFETY: the closure only writes a file with a prepared path; the caller's process has no
    // other thread holding a lock that this needs (a single write(2) on a fresh descriptor).
    unsafe {
        command.pre_exec(join);
    }
    Ok(command)
}

fn start(skeg: &Path, host: &Host, args: &[String]) -> Result<i32> {
    use std::os::unix::process::CommandExt;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&host.log)
        .with_context(|| format!("open {}", host.log.display()))?;
    let mut command = command_in(host, &skeg.display().to_string())?;
    command
        .args(args)
        .args(["--node-name", &host.name, "--node-ip", &host.address])
        .args(["--cgroup-root", &host.cgroup])
        // A full disk is the machine's affair, not a fault of what is tested.
        .args(["--eviction-hard", "memory.available<100Mi,nodefs.available<50Mi"])
        .args(["--service-cgroup".as_ref(), service_cgroup(host)?.as_os_str()])
        .args(["--data-dir".as_ref(), host.data_dir.as_os_str()])
        .args(["--run-dir".as_ref(), host.run_dir.as_os_str()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log file")?)
        .stderr(log)
        .process_group(0);
    let child = command.spawn().with_context(|| format!("start {}", skeg.display()))?;
    i32::try_from(child.id()).context("pid of skeg")
}

fn service_cgroup(host: &Host) -> Result<PathBuf> {
    Ok(cgroup::v2_mount()?.join(host.cgroup.trim_start_matches('/')))
}

/// Waits until the API answers and every node is Ready.
pub fn wait_ready(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.nodes.len();
    let kubectl = cluster.kubectl();
    kubectl.wait_json("all nodes Ready", Duration::from_secs(60), &["get", "nodes"], |list| {
        let ready = list["items"].as_array()?.iter().filter(|node| is_ready(node)).count();
        (ready == nodes).then_some(())
    })
}

/// Whether an object has a `Ready` condition that is `True`.
pub fn is_ready(object: &serde_json::Value) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    })
}

/// Names of the clusters of which something is there.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = [STATE_DIR, DATA_DIR]
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Removes every trace of a cluster, by name. Succeeds if there is none.
pub fn down(name: &str) -> Result<()> {
    if let Ok(cluster) = Cluster::open(name) {
        for host in &cluster.nodes {
            cgroup::remove(&host.cgroup)?;
            namespaces::end(host.holder_pid)?;
            // What was started between the two steps.
            cgroup::remove(&host.cgroup)?;
        }
        namespaces::end(cluster.switch_pid)?;
    }
    for folder in [Path::new(DATA_DIR).join(name), state_dir(name)] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", folder.display()));
            }
            _ => {}
        }
    }
    for folder in [STATE_DIR, DATA_DIR] {
        // Goes with the last cluster only.
        let _kept = fs::remove_dir(folder);
    }
    Ok(())
}

/// Takes a cluster down when dropped: for tests.
pub struct DownOnDrop(pub String);

impl Drop for DownOnDrop {
    fn drop(&mut self) {
        if let Err(error) = down(&self.0) {
            eprintln!("failed to remove cluster {}: {error:#}", self.0);
        }
    }
}
