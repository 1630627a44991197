//! Sandboxes: what the containers of a pod share, with no process to hold it.
//!
//! Network, IPC and UTS namespaces are made by a thread that ends at once, and kept alive by bind
//! mounts in the sandbox's folder. Only a shared PID namespace needs a process in it: its PID 1,
//! forked from the zygote. Everything here blocks, briefly, and is called off the async threads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;

use crate::SandboxSpec;

/// Size of a pod's `/dev/shm`, as with other runtimes.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";
/// `NSFS_MAGIC`: a pinned namespace, as opposed to the file it was pinned on.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Files and folders of a sandbox that are mount points.
const MOUNT_POINTS: [&str; 5] = ["net", "ipc", "uts", "pid", "shm"];

/// Kernel parameters every pod with a network of its own gets, as containerd 2 sets them: programs
/// need no privilege for low ports and ping, since the namespace is theirs alone.
const SYSCTL_DEFAULTS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// What could not be done to what.
#[derive(Debug)]
pub(crate) struct SandboxError {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

fn failed<E: Into<io::Error>>(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> SandboxError {
    let path = path.into();
    move |source| SandboxError { operation, path, source: source.into() }
}

/// The pinned namespaces of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) shm: PathBuf,
}

/// Makes the namespaces and `/dev/shm` of a sandbox in its folder, which is there and empty.
pub(crate) fn make(folder: &Path, spec: &SandboxSpec) -> Result<Pinned, SandboxError> {
    let mut wanted: Vec<(&'static str, CloneFlags)> = Vec::new();
    if !spec.host_network {
        wanted.push(("net", CloneFlags::CLONE_NEWNET));
        wanted.push(("uts", CloneFlags::CLONE_NEWUTS));
    }
    if !spec.host_ipc {
        wanted.push(("ipc", CloneFlags::CLONE_NEWIPC));
    }
    for (name, _) in &wanted {
        let path = folder.join(name);
        fs::File::create(&path).map_err(failed("create", path.clone()))?;
    }
    let hostname = (!spec.host_network).then(|| spec.hostname.clone());
    let sysctls = sysctls(spec);
    let target = folder.to_path_buf();
    let list = wanted.clone();
    std::thread::Builder::new()
        .name("sandbox".to_owned())
        .spawn(move || pin(&target, &list, hostname.as_deref(), &sysctls))
        .map_err(failed("start a thread for", folder))?
        .join()
        .unwrap_or_else(|_| {
            Err(failed("make namespaces in", folder)(io::Error::other("the thread panicked")))
        })?;
    let shm = if spec.host_ipc {
        PathBuf::from("/dev/shm")
    } else {
        let shm = folder.join("shm");
        fs::create_dir(&shm).map_err(failed("create", shm.clone()))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(SHM_OPTIONS))
            .map_err(failed("mount", shm.clone()))?;
        shm
    };
    let place =
        |name: &str| wanted.iter().any(|(known, _)| *known == name).then(|| folder.join(name));
    Ok(Pinned { network: place("net"), ipc: place("ipc"), uts: place("uts"), shm })
}

/// The parameters to set: the defaults, then what the pod asks for.
fn sysctls(spec: &SandboxSpec) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if !spec.host_network {
        for (name, value) in SYSCTL_DEFAULTS {
            sysctls.insert(name.to_owned(), value.to_owned());
        }
    }
    sysctls.extend(spec.sysctls.clone());
    sysctls
}

/// Runs in a thread that ends afterwards: unshare changes only the thread that calls it.
fn pin(
    folder: &Path,
    wanted: &[(&'static str, CloneFlags)],
    hostname: Option<&str>,
    sysctls: &BTreeMap<String, String>,
) -> Result<(), SandboxError> {
    let flags = wanted.iter().fold(CloneFlags::empty(), |flags, (_, flag)| flags | *flag);
    unshare(flags).map_err(failed("make namespaces for", folder))?;
    if flags.contains(CloneFlags::CLONE_NEWUTS)
        && let Some(name) = hostname
    {
        nix::unistd::sethostname(name).map_err(failed("set host name in", folder))?;
    }
    if flags.contains(CloneFlags::CLONE_NEWNET) {
        loopback_up().map_err(failed("bring up lo in", folder))?;
    }
    for (name, value) in sysctls {
        let path = sysctl_path(name);
        if name.contains("..") {
            return Err(failed("write", path)(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        match fs::write(&path, value) {
            // A default the kernel lacks is not the pod's wish.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && SYSCTL_DEFAULTS.iter().any(|(known, _)| known == name) => {}
            result => result.map_err(failed("write", path))?,
        }
    }
    for (name, _) in wanted {
        bind(&format!("/proc/thread-self/ns/{name}"), &folder.join(name))?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` as a file. A name with slashes keeps its dots, as sysctl(8) reads it.
fn sysctl_path(name: &str) -> PathBuf {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    Path::new("/proc/sys").join(relative)
}

fn bind(source: &str, target: &Path) -> Result<(), SandboxError> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed("pin a namespace at", target))
}

/// Pins the PID namespace of the holder; the path stays right even when its PID is used again.
pub(crate) fn pin_holder(folder: &Path, pid: i32) -> Result<PathBuf, SandboxError> {
    let target = folder.join("pid");
    fs::File::create(&target).map_err(failed("create", target.clone()))?;
    bind(&format!("/proc/{pid}/ns/pid"), &target)?;
    Ok(target)
}

/// Whether the namespaces are still pinned: after a reboot only the files are left.
pub(crate) fn is_pinned(pinned: &Path) -> bool {
    statfs(pinned).is_ok_and(|stat| stat.filesystem_type().0 == NSFS_MAGIC)
}

/// Undoes [`make`], also half of it. What is gone already is no error.
pub(crate) fn remove(folder: &Path) -> Result<(), SandboxError> {
    for name in MOUNT_POINTS {
        let path = folder.join(name);
        loop {
            match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // Once more: it may have been mounted twice.
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(failed("unmount", path)(errno)),
            }
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Sets the flags of `lo` in the calling thread's network namespace.
fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: the structure is plain data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).expect("two low bits");
    // SAFETY: the request outlives the call and names an interface.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_become_paths() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(sysctl_path(name), Path::new(path));
        }
    }
}
