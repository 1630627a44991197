//! Forking from a single-threaded process, into a control group.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use std::io;
use std::os::fd::FromRawFd;

/// `clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks; the child runs `child` and ends. With `cgroup`, a folder of the v2 hierarchy, the child is
/// born in that group: unlike moving a process, that does not wait for the whole machine.
///
/// The caller must be single-threaded, as the zygote and the shims are.
pub(crate) fn fork(
    cgroup: Option<BorrowedFd<'_>>,
    flags: libc::c_int,
    child: impl FnOnce() -> i32,
) -> io::Result<i32> {
    let mut args = CloneArgs {
        flags: u64::from(flags.unsigned_abs()),
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP, which libc has as a 32-bit overflow
        args.cgroup = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without a stack this is fork(2); the caller is single-threaded, so that the child may
    // go on using the heap. `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => {
            let code = child();
            // SAFETY: ends the process without running destructors of what the parent still owns.
            unsafe { libc::_exit(code) }
        }
        -1 => Err(io::Error::last_os_error()),
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}

/// Opens a folder as a handle for [`fork`].
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
