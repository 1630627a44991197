//! The end of a group: killing everything in it, and removing its folders.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Group, at};

/// Rounds of list-and-kill on v1; each round can only be outrun by a fork bomb that is faster than
/// the loop, which freezing prevents.
const KILL_ROUNDS_MAX: usize = 8;

impl Group {
    /// Sends SIGKILL to everything in the group and below. Does not wait.
    pub(crate) fn kill(&self) {
        if let Some(folder) = &self.unified
            && fs::write(folder.join("cgroup.kill"), "1").is_ok()
            && self.controllers.is_empty()
        {
            return;
        }
        self.kill_one_by_one();
    }

    /// v1 has no atomic kill: the freezer holds the group still while its list is worked through.
    /// In the hybrid layout this finds nothing after `cgroup.kill`, except processes that left the
    /// v2 group.
    fn kill_one_by_one(&self) {
        if self.processes().is_empty() {
            return;
        }
        let freezer = self.controllers.get("freezer").map(|folder| folder.join("freezer.state"));
        for _round in 0..KILL_ROUNDS_MAX {
            if let Some(state) = &freezer {
                // A group without a freezer is killed all the same, only less surely.
                let _unsupported = fs::write(state, "FROZEN");
            }
            let pids = self.processes();
            for pid in &pids {
                // Whoever is gone already needs no signal.
                let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            if let Some(state) = &freezer {
                let _unsupported = fs::write(state, "THAWED");
            }
            if self.processes().iter().all(|pid| pids.contains(pid)) {
                return;
            }
        }
    }

    /// Waits until the group has no processes. Blocks for at most `limit`.
    pub(crate) fn wait_empty(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            wait_for_one_exit(&pids, left);
        }
    }

    /// Kills what is left, then removes the group's folders and those below. Blocks until the
    /// processes are gone, for at most `limit`. A group that is gone already is no error.
    pub(crate) fn remove(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let busy = self.remove_folders()?;
            if !busy {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!(
                    "cgroup {} still has processes {:?}",
                    self.path.display(),
                    self.processes()
                )));
            }
            self.kill();
            if !self.processes().is_empty() {
                self.wait_empty(left);
            } else {
                // The last process has left the list but not yet the kernel's counters: there is
                // no event for that on v1.
                let _nothing = poll(&mut [], PollTimeout::from(2u8));
            }
        }
    }

    /// One pass over the folders; says whether some are still in use.
    pub(crate) fn remove_folders(&self) -> io::Result<bool> {
        let mut busy = false;
        for folder in self.folders() {
            busy |= remove_folder(folder)?;
        }
        Ok(busy)
    }
}

/// Removes a cgroup folder and those below it; says whether one is in use.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at("list cgroup", folder, &error)),
    };
    let mut busy = false;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            busy |= remove_folder(&entry.path())?;
        }
    }
    if busy {
        return Ok(true);
    }
    match fs::remove_dir(folder) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(true),
        Err(error) => Err(at("remove cgroup", folder, &error)),
    }
}

fn wait_for_one_exit(pids: &[i32], limit: Duration) {
    let handles: Vec<OwnedFd> = pids.iter().filter_map(|pid| pidfd(*pid)).collect();
    if handles.len() < pids.len() {
        // Somebody is gone already: look again.
        return;
    }
    let mut fds: Vec<PollFd<'_>> =
        handles.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    // An interrupted wait only makes the caller look again.
    let _interrupted =
        poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::from(1000u16)));
}

/// A handle on a process; `None` if it is gone.
pub(crate) fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
