//! The mounts of a container: the standard ones, then the pod's. PURE.

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, MountBuilder};

use super::Facts;
use crate::ContainerSpec;

/// Every mount in order: parents before what is mounted below them.
pub(super) fn mounts(spec: &ContainerSpec, facts: &Facts) -> Result<Vec<Mount>, OciSpecError> {
    let mut mounts = standard(spec, facts)?;
    // What the pod mounts itself replaces the standard mount at the same place.
    mounts.retain(|mount| {
        !spec.mounts.iter().any(|own| same_place(&own.destination, mount.destination()))
    });
    for mount in &spec.mounts {
        mounts.push(bind(mount)?);
    }
    Ok(mounts)
}

fn same_place(left: &Path, right: &Path) -> bool {
    left.components().eq(right.components())
}

fn standard(spec: &ContainerSpec, facts: &Facts) -> Result<Vec<Mount>, OciSpecError> {
    let access = if spec.privileged { "rw" } else { "ro" };
    let shm = facts.shm.to_string_lossy();
    Ok(vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/dev/shm", "bind", &shm, &["rbind", "nosuid", "noexec", "nodev", "rw"])?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])?,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        )?,
    ])
}

fn mount(
    destination: &str,
    typ: &str,
    source: &str,
    options: &[&str],
) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(destination)
        .typ(typ)
        .source(source)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
}

fn bind(own: &crate::Mount) -> Result<Mount, OciSpecError> {
    let propagation = match own.propagation.as_str() {
        "" | "private" => "rprivate",
        other => other,
    };
    let mut options = vec!["rbind", propagation];
    options.push(if own.read_only { "ro" } else { "rw" });
    if own.read_only && own.recursive_read_only {
        options.push("rro");
    }
    mount(&own.destination.to_string_lossy(), "bind", &own.source.to_string_lossy(), &options)
}

/// How a mount hears of mounts made later on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Not at all.
    Private,
    /// Mounts made on the node appear in the container.
    Slave,
}

/// Propagation to be set once libcontainer has made the mounts: it clones a source together with
/// its propagation and applies no propagation option itself.
pub(crate) fn propagations(spec: &ContainerSpec) -> Vec<(PathBuf, Propagation)> {
    spec.mounts
        .iter()
        .filter_map(|mount| match mount.propagation.as_str() {
            "" | "private" | "rprivate" => Some((mount.destination.clone(), Propagation::Private)),
            "slave" | "rslave" => Some((mount.destination.clone(), Propagation::Slave)),
            _ => None,
        })
        .collect()
}
