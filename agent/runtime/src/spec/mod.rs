//! From a [`ContainerSpec`] to the OCI specification that libcontainer carries out. PURE.
//!
//! Nothing is left to the defaults of `oci-spec`: they hold ambient capabilities, a file limit of
//! 1024 and `no_new_privs`, none of which a Kubernetes container has.

mod capabilities;
mod mounts;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};
use serde::{Deserialize, Serialize};

use crate::ContainerSpec;
use crate::cgroup::Version;

pub(crate) use capabilities::{Capabilities, granted, named, named_in};
pub(crate) use mounts::{Propagation, propagations};

/// Where programs are looked for if the image does not say.
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths that tell about the node, or change it. Source: containerd `oci.defaultMaskedPaths` and
/// kubernetes pkg/securitycontext `defaultMaskedPaths`.
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const MASKED_DIRECTORIES: [&str; 1] = ["/sys/devices/virtual/powercap"];
const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The namespaces of a sandbox; `None` means the node's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) pid: PidNamespace,
}

/// Which processes a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PidNamespace {
    /// Only its own.
    #[default]
    Private,
    /// Those of the pod: the namespace of the sandbox's holder.
    Shared(PathBuf),
    /// Those of the node.
    Node,
}

/// What the node knows and the container's spec does not say.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) namespaces: Namespaces,
    /// Host name of the pod, for the variable `HOSTNAME`.
    pub(crate) hostname: String,
    /// Home folder of the user in the image; not empty.
    pub(crate) home: String,
    /// Folder shared by the pod's containers as `/dev/shm`.
    pub(crate) shm: PathBuf,
    /// The container's cgroup, relative to the hierarchies' roots.
    pub(crate) cgroup: PathBuf,
    pub(crate) cgroup_version: Version,
    /// Capabilities that can be given to a container.
    pub(crate) available: Capabilities,
    /// A mount namespace made for the container; `None`: libcontainer makes it.
    pub(crate) mounts: Option<PathBuf>,
    /// The device nodes of `ContainerSpec::devices`, and the node's own for privileged containers.
    pub(crate) devices: Vec<DeviceNode>,
}

/// A device node as found on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Path in the container.
    pub(crate) path: PathBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Any of `rwm`.
    pub(crate) permissions: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Block,
    Character,
}

impl DeviceKind {
    fn oci(self) -> LinuxDeviceType {
        match self {
            Self::Block => LinuxDeviceType::B,
            Self::Character => LinuxDeviceType::C,
        }
    }
}

/// The specification of the container's first process.
pub(crate) fn container(spec: &ContainerSpec, facts: &Facts) -> Result<Spec, OciSpecError> {
    let mut oci = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(&spec.rootfs).readonly(spec.read_only_rootfs).build()?)
        .mounts(mounts::mounts(spec, facts)?)
        .process(process(spec, facts, &spec.args, spec.tty)?)
        .linux(linux(spec, facts, namespaces(spec, facts)?)?)
        .build()?;
    // The sandbox has set it in the UTS namespace.
    oci.set_hostname(None);
    Ok(oci)
}

/// The specification of one more process in the container whose first process is `init`.
pub(crate) fn exec(
    spec: &ContainerSpec,
    facts: &Facts,
    init: i32,
    args: &[String],
    tty: bool,
) -> Result<Spec, OciSpecError> {
    let linux = LinuxBuilder::default()
        .namespaces(namespaces_of(init)?)
        .cgroups_path(&facts.cgroup)
        .build()?;
    let mut oci = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path("/").readonly(false).build()?)
        .process(process(spec, facts, args, tty)?)
        .linux(without_defaults(linux))
        .build()?;
    oci.set_hostname(None).set_mounts(None);
    Ok(oci)
}

fn process(
    spec: &ContainerSpec,
    facts: &Facts,
    args: &[String],
    tty: bool,
) -> Result<Process, OciSpecError> {
    // With an empty list libcontainer would leave the agent's own groups in place.
    let mut groups = spec.additional_gids.clone();
    if groups.is_empty() {
        groups.push(spec.gid);
    }
    let mut user =
        UserBuilder::default().uid(spec.uid).gid(spec.gid).additional_gids(groups).build()?;
    user.set_umask(None);
    let granted = granted(spec, &facts.available, facts.cgroup_version);
    let mut process = ProcessBuilder::default()
        .args(args.to_vec())
        .env(environment(spec, facts, tty))
        .cwd(if spec.cwd.as_os_str().is_empty() { Path::new("/") } else { &spec.cwd })
        .terminal(tty)
        .user(user)
        .capabilities(capabilities::oci(&granted)?)
        .build()?;
    process.set_rlimits(None);
    // An explicit `false` would make libcontainer load the filter only after the capability for it
    // is gone.
    process.set_no_new_privileges(spec.no_new_privileges.then_some(true));
    Ok(process)
}

/// The environment, with what every program may rely on. `HOME` must not be missing: libcontainer
/// would look it up through the image's own NSS libraries before the container is locked down.
fn environment(spec: &ContainerSpec, facts: &Facts, tty: bool) -> Vec<String> {
    let mut env: Vec<String> = spec.env.iter().filter(|pair| *pair != "HOME=").cloned().collect();
    let mut default = |name: &str, pair: String| {
        if !env
            .iter()
            .any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
        {
            env.push(pair);
        }
    };
    default("PATH", PATH_DEFAULT.to_owned());
    default("HOSTNAME", format!("HOSTNAME={}", facts.hostname));
    default("HOME", format!("HOME={}", facts.home));
    if tty {
        default("TERM", "TERM=xterm".to_owned());
    }
    env
}

fn linux(
    spec: &ContainerSpec,
    facts: &Facts,
    namespaces: Vec<LinuxNamespace>,
) -> Result<Linux, OciSpecError> {
    let devices: Vec<LinuxDevice> =
        facts.devices.iter().map(device).collect::<Result<_, OciSpecError>>()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(&facts.cgroup)
        .devices(devices)
        .build()?;
    let mut linux = without_defaults(linux);
    if !spec.privileged && !spec.unmasked_proc {
        linux.set_masked_paths(Some(
            MASKED_PATHS.iter().chain(&MASKED_DIRECTORIES).map(ToString::to_string).collect(),
        ));
        linux.set_readonly_paths(Some(READ_ONLY_PATHS.iter().map(ToString::to_string).collect()));
    }
    let shared = spec.mounts.iter().any(|mount| mount.propagation == "rshared");
    linux.set_rootfs_propagation(Some(if shared { "shared" } else { "slave" }.to_owned()));
    Ok(linux)
}

/// Takes out what the builder fills in by itself.
fn without_defaults(mut linux: Linux) -> Linux {
    linux.set_masked_paths(None).set_readonly_paths(None).set_seccomp(None);
    linux.set_resources(None);
    linux.set_rootfs_propagation(None);
    linux
}

fn namespaces(spec: &ContainerSpec, facts: &Facts) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let joined = [
        (LinuxNamespaceType::Network, &facts.namespaces.network),
        (LinuxNamespaceType::Ipc, &facts.namespaces.ipc),
        (LinuxNamespaceType::Uts, &facts.namespaces.uts),
    ];
    let mut mount = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Mount);
    if let Some(path) = &facts.mounts {
        mount = mount.path(path);
    }
    let mut namespaces = vec![mount.build()?];
    for (typ, path) in joined {
        if let Some(path) = path {
            namespaces.push(LinuxNamespaceBuilder::default().typ(typ).path(path).build()?);
        }
    }
    let pid = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid);
    match &facts.namespaces.pid {
        PidNamespace::Private => namespaces.push(pid.build()?),
        PidNamespace::Shared(path) => namespaces.push(pid.path(path).build()?),
        PidNamespace::Node => {}
    }
    // As containerd: v2 groups are hidden behind a namespace, unless the container is privileged.
    if facts.cgroup_version == Version::V2 && !spec.privileged {
        namespaces.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Cgroup).build()?);
    }
    Ok(namespaces)
}

/// Every namespace of a running process.
fn namespaces_of(pid: i32) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    [
        (LinuxNamespaceType::Ipc, "ipc"),
        (LinuxNamespaceType::Uts, "uts"),
        (LinuxNamespaceType::Network, "net"),
        (LinuxNamespaceType::Pid, "pid"),
        (LinuxNamespaceType::Cgroup, "cgroup"),
        (LinuxNamespaceType::Mount, "mnt"),
    ]
    .into_iter()
    .map(|(typ, file)| {
        LinuxNamespaceBuilder::default().typ(typ).path(format!("/proc/{pid}/ns/{file}")).build()
    })
    .collect()
}

fn device(node: &DeviceNode) -> Result<LinuxDevice, OciSpecError> {
    LinuxDeviceBuilder::default()
        .path(&node.path)
        .typ(node.kind.oci())
        .major(node.major)
        .minor(node.minor)
        .file_mode(node.mode)
        .uid(node.uid)
        .gid(node.gid)
        .build()
}

/// What the devices cgroup allows, in the words of `devices.allow`; `None` for everything. Making
/// nodes is allowed: using them is what is guarded.
pub(crate) fn device_rules(spec: &ContainerSpec, devices: &[DeviceNode]) -> Option<Vec<String>> {
    /// null, zero, full, random, urandom, tty, console, ptmx, and pseudo-terminals.
    const STANDARD: [&str; 11] = [
        "c *:* m",
        "b *:* m",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:1 rwm",
        "c 5:2 rwm",
        "c 136:* rwm",
    ];
    if spec.privileged {
        return None;
    }
    let own = devices.iter().map(|node| {
        let kind = match node.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        format!("{kind} {}:{} {}", node.major, node.minor, node.permissions)
    });
    Some(STANDARD.map(str::to_owned).into_iter().chain(own).collect())
}
