//! `skeg check`: what this machine lacks for running pods, and how to get it.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};

/// How a check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// All is well; what was found.
    Good(String),
    /// It works, with less.
    Degraded(String),
    /// It cannot work; what to do.
    Missing(String),
}

struct Check {
    what: &'static str,
    verdict: Verdict,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.verdict {
            Verdict::Good(text) => ("ok", text),
            Verdict::Degraded(text) => ("degraded", text),
            Verdict::Missing(text) => ("MISSING", text),
        };
        write!(f, "{mark:<9} {:<22} {text}", self.what)
    }
}

/// What a node needs of the kernel.
fn kernel_checks() -> Vec<Check> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    vec![
        Check { what: "root", verdict: root() },
        Check { what: "kernel", verdict: kernel() },
        Check { what: "cgroups", verdict: cgroups(Path::new("/sys/fs/cgroup")) },
        Check { what: "cgroup v2 for Services", verdict: cgroup_v2(Path::new("/sys/fs/cgroup")) },
        Check {
            what: "overlayfs",
            verdict: filesystem(&filesystems, "overlay", "CONFIG_OVERLAY_FS"),
        },
        Check {
            what: "bpf file system",
            verdict: filesystem(&filesystems, "bpf", "CONFIG_BPF_SYSCALL"),
        },
        Check { what: "kernel type data (BTF)", verdict: btf() },
        Check { what: "seccomp", verdict: seccomp() },
        Check { what: "namespaces", verdict: namespaces() },
    ]
}

fn root() -> Verdict {
    if nix::unistd::geteuid().is_root() {
        Verdict::Good("running as root".into())
    } else {
        Verdict::Missing("run as root: namespaces, mounts and eBPF need it".into())
    }
}

fn kernel() -> Verdict {
    let Ok(name) = nix::sys::utsname::uname() else {
        return Verdict::Missing("uname fails".into());
    };
    kernel_release(&name.release().to_string_lossy())
}

/// 5.10 is the oldest kernel with everything used: cgroup socket hooks for connect, sendmsg,
/// recvmsg, getpeername (5.8), socket-local storage in them (5.9).
fn kernel_release(release: &str) -> Verdict {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 10) => {
            Verdict::Good(release.to_string())
        }
        _ => Verdict::Missing(format!("{release} is too old: install 5.10 or newer")),
    }
}

/// Controllers without which limits do not hold; the names are those of the v1 hierarchies.
const CONTROLLERS: &[(&str, &str)] = &[
    ("cpu", "CONFIG_CGROUP_SCHED"),
    ("memory", "boot with cgroup_enable=memory"),
    ("pids", "CONFIG_CGROUP_PIDS"),
    ("cpuset", "CONFIG_CPUSETS"),
];

fn cgroups(root: &Path) -> Verdict {
    let unified = fs::read_to_string(root.join("cgroup.controllers")).ok();
    let has = |name: &str| match &unified {
        Some(list) => list.split_whitespace().any(|controller| controller == name),
        None => root.join(name).join("cgroup.procs").exists(),
    };
    let missing: Vec<String> = CONTROLLERS
        .iter()
        .filter(|(name, _)| !has(name))
        .map(|(name, remedy)| format!("{name} ({remedy})"))
        .collect();
    let version = if unified.is_some() { "v2" } else { "v1 controllers" };
    if missing.len() == CONTROLLERS.len() {
        return Verdict::Missing(format!("none at {}: mount cgroup2 there", root.display()));
    }
    if missing.is_empty() {
        return Verdict::Good(version.into());
    }
    Verdict::Degraded(format!("{version}, limits will not hold for: {}", missing.join(", ")))
}

fn cgroup_v2(root: &Path) -> Verdict {
    for candidate in [root.to_path_buf(), root.join("unified")] {
        let is_v2 = candidate.join("cgroup.controllers").exists();
        if is_v2 {
            return Verdict::Good(candidate.display().to_string());
        }
    }
    Verdict::Missing(format!(
        "no cgroup v2 hierarchy: `mount -t cgroup2 none {}`",
        root.join("unified").display()
    ))
}

fn filesystem(list: &str, name: &str, option: &str) -> Verdict {
    if list.split_whitespace().any(|word| word == name) {
        return Verdict::Good("available".into());
    }
    Verdict::Missing(format!("`modprobe {name}`, or a kernel with {option}"))
}

fn btf() -> Verdict {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Verdict::Good("available".into())
    } else {
        Verdict::Degraded("a kernel with CONFIG_DEBUG_INFO_BTF names maps and programs".into())
    }
}

fn seccomp() -> Verdict {
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        Verdict::Good("available".into())
    } else {
        Verdict::Missing("a kernel with CONFIG_SECCOMP_FILTER".into())
    }
}

fn namespaces() -> Verdict {
    let missing: Vec<&str> = ["net", "ipc", "uts", "pid", "mnt", "cgroup"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if missing.is_empty() {
        Verdict::Good("all six kinds".into())
    } else {
        Verdict::Missing(format!("a kernel with namespaces: {}", missing.join(", ")))
    }
}

/// Whether the ports are free. Used by `skeg check` alone: a running server holds them.
fn port_checks() -> Vec<Check> {
    let port = |what, number: u16| {
        let address = SocketAddr::from((IpAddr::from([0, 0, 0, 0]), number));
        let verdict = match TcpListener::bind(address) {
            Ok(_listener) => Verdict::Good(format!("{number} is free")),
            Err(error) => {
                Verdict::Degraded(format!("{number}: {error} (is skeg running already?)"))
            }
        };
        Check { what, verdict }
    };
    vec![port("API port", 6443), port("kubelet port", 10250)]
}

/// Prints every check; an error if something is missing.
pub(crate) fn run() -> Result<()> {
    let mut checks = kernel_checks();
    checks.extend(port_checks());
    let mut out = std::io::stdout().lock();
    for check in &checks {
        writeln!(out, "{check}")?;
    }
    refuse(&checks)
}

/// Refuses to start a node on a machine that cannot run one, naming everything that is missing.
pub(crate) fn require() -> Result<()> {
    let checks = kernel_checks();
    for check in checks.iter().filter(|check| matches!(check.verdict, Verdict::Degraded(_))) {
        tracing::warn!("{check}");
    }
    refuse(&checks)
}

fn refuse(checks: &[Check]) -> Result<()> {
    let missing: Vec<String> = checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Missing(_)))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run pods yet:\n  {}", missing.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused() {
        assert!(matches!(kernel_release("6.18.44-fc"), Verdict::Good(_)));
        assert!(matches!(kernel_release("5.10.0-8-amd64"), Verdict::Good(_)));
        assert!(matches!(kernel_release("5.4.0"), Verdict::Missing(_)));
        assert!(matches!(kernel_release("nonsense"), Verdict::Missing(_)));
    }

    #[test]
    fn a_missing_memory_controller_degrades() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu pids").expect("written");
        let Verdict::Degraded(text) = cgroups(root.path()) else { panic!("it should degrade") };
        assert!(text.contains("cgroup_enable=memory"), "{text}");
        assert!(matches!(cgroup_v2(root.path()), Verdict::Good(_)));
    }

    #[test]
    fn no_hierarchy_is_missing() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(matches!(cgroups(root.path()), Verdict::Missing(_)));
        assert!(matches!(cgroup_v2(root.path()), Verdict::Missing(_)));
    }

    #[test]
    fn file_systems_are_found_by_their_whole_name() {
        assert!(matches!(filesystem("nodev\toverlay\n", "overlay", "X"), Verdict::Good(_)));
        assert!(matches!(filesystem("nodev\tmyoverlay\n", "overlay", "X"), Verdict::Missing(_)));
    }
}
