//! The zygote: a single-threaded copy of the binary from which shims are forked.
//!
//! It is started before anything large is on its heap, so a shim begins as a few shared pages; and
//! forking it is safe, as forking the agent with its threads is not. It lives as long as the agent:
//! shims do not need it. A request is one packet with one descriptor, the answer's way back.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{chdir, dup2, setsid};
use serde::{Deserialize, Serialize};

use crate::shim::{self, fork};
use crate::wire;

/// The argument that makes the binary a zygote.
pub(crate) const ARGUMENT: &str = "zygote";

/// What the agent asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A shim for the container in this folder. The descriptor is its first connection, over which
    /// it says [`Forked`] before anything else.
    Shim { folder: PathBuf },
    /// A process that holds a PID namespace, in this folder of the v2 hierarchy. The descriptor
    /// gets a [`Forked`].
    Holder { cgroup: Option<PathBuf> },
}

/// The process that was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forked {
    pub(crate) pid: i32,
}

/// Runs this process as a zygote if its arguments say so, and then never returns to the caller's
/// own work: `Some` is the process's exit code. To be called first thing in `main`, before any
/// thread is started.
///
/// # Panics
/// Never; a zygote that cannot work ends with code 64 (wrong use) or 71 (system error).
pub fn maybe_run_shim(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    if args.into_iter().nth(1)? != ARGUMENT {
        return None;
    }
    Some(match prepare() {
        Ok(requests) => match serve(&requests) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(71),
        },
        Err(_) => ExitCode::from(64),
    })
}

/// Takes the socket off stdin and cuts every tie with the agent's terminal and working folder.
fn prepare() -> nix::Result<OwnedFd> {
    let requests = fcntl(libc::STDIN_FILENO, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor for us.
    let requests = unsafe { OwnedFd::from_raw_fd(requests) };
    nix::sys::socket::getsockopt(&requests, nix::sys::socket::sockopt::SockType)?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    for stream in 0..3 {
        dup2(null, stream)?;
    }
    nix::unistd::close(null)?;
    chdir("/")?;
    // Fails only for a process that leads a group already, and then it is one's own.
    let _leader = setsid();
    nix::sys::prctl::set_name(c"skeg-zygote")?;
    ignore_all(&[
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
        // Shims that end leave no zombie.
        Signal::SIGCHLD,
    ])?;
    Ok(requests)
}

fn ignore_all(signals: &[Signal]) -> nix::Result<()> {
    for number in signals {
        // SAFETY: ignoring installs no handler.
        unsafe { signal(*number, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Forks until the agent is gone.
fn serve(requests: &OwnedFd) -> io::Result<()> {
    while let Some(packet) = wire::receive(requests.as_fd())? {
        let Ok(request) = packet.decode::<Request>() else { continue };
        let Some(back) = packet.fds.into_iter().next() else { continue };
        match request {
            Request::Shim { folder } => {
                // If it fails, closing the descriptor tells the agent.
                let _told = fork::fork(None, 0, || {
                    close(requests.as_fd());
                    run_shim(&folder, back)
                });
            }
            Request::Holder { cgroup } => {
                // As above.
                let _told = start_holder(cgroup.as_deref(), back.as_fd());
            }
        }
    }
    Ok(())
}

/// Closes the zygote's socket in a child, which does not own it.
fn close(requests: BorrowedFd<'_>) {
    // Nothing can be done about a failure, and nothing depends on it.
    let _closed = nix::unistd::close(requests.as_raw_fd());
}

fn run_shim(folder: &std::path::Path, first: OwnedFd) -> i32 {
    // SAFETY: restoring the default installs no handler. Without it children could not be waited
    // for.
    let restored = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    if restored.is_err() || setsid().is_err() {
        return 71;
    }
    let forked = Forked { pid: nix::unistd::getpid().as_raw() };
    // An agent that is gone is followed by one that looks at the folder.
    let _unheard = wire::send(first.as_fd(), &forked, &[], MsgFlags::empty());
    i32::from(shim::run(folder, first).is_err())
}

fn start_holder(cgroup: Option<&std::path::Path>, back: BorrowedFd<'_>) -> io::Result<()> {
    let cgroup = cgroup.map(fork::open_folder).transpose()?;
    let pid = fork::fork(cgroup.as_ref().map(AsFd::as_fd), libc::CLONE_NEWPID, hold)?;
    wire::send(back, &Forked { pid }, &[], MsgFlags::empty())
}

/// PID 1 of a pod's namespace: adopts and reaps what the containers leave behind, until it is
/// killed together with the sandbox.
fn hold() -> i32 {
    // SAFETY: closes descriptors of the zygote, none of which this process uses or owns.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    // SAFETY: restoring the default installs no handler.
    let restored = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    if restored.is_err()
        || pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&children), None).is_err()
        || nix::sys::prctl::set_name(c"skeg-pod").is_err()
    {
        return 71;
    }
    // A session of its own keeps the zygote's signals away; PID 1 gets one in any case.
    let _leader = setsid();
    loop {
        if waitpid(None, None).is_err() && children.wait().is_err() {
            return 71;
        }
    }
}
