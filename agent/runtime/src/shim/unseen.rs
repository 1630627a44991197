//! Joining v1 groups without the wait that libcontainer would cause.
//!
//! libcontainer moves a whole process into each group it finds mounted, and the first such move waits
//! some 12 ms for a grace period, half of a container's start. The maker can move itself without
//! (see [`Group::join_by_thread`]); so it does, and then shows libcontainer no v1 hierarchies, so
//! that there is nothing left to move. The container gets the mounts as they were, with its groups.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use crate::cgroup::Group;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Puts the calling process into the groups, and hides them from what it does next. Returns a
/// mount namespace in which they are seen, for the container.
pub(super) fn join(group: &Group) -> Result<OwnedFd, String> {
    group.join_by_thread().map_err(|error| error.to_string())?;
    hide().map_err(|errno| format!("hide cgroups from libcontainer: {}", errno.desc()))
}

/// The namespace's path, as long as the maker lives.
pub(super) fn path(mounts: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), mounts.as_raw_fd()))
}

fn hide() -> Result<OwnedFd, Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let seen = open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: open has just made this descriptor for us.
    let seen = unsafe { OwnedFd::from_raw_fd(seen) };
    unshare(CloneFlags::CLONE_NEWNS)?;
    // First of all: nothing done from here on may reach the node.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    umount2(CGROUPS, MntFlags::MNT_DETACH)?;
    // What libcontainer takes for cgroup v1: a tmpfs, with no hierarchy in it.
    mount(Some("tmpfs"), CGROUPS, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)?;
    Ok(seen)
}
