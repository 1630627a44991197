//! The agent's end of the zygote: starts it, and starts it again should it die.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::socket::MsgFlags;

use crate::wire;
use crate::zygote::{ARGUMENT, Forked, Request};

pub(super) struct ZygoteClient {
    executable: PathBuf,
    running: Mutex<Zygote>,
}

struct Zygote {
    socket: OwnedFd,
    process: Child,
}

impl Zygote {
    fn start(executable: &PathBuf) -> io::Result<Self> {
        let (socket, far) = wire::pair()?;
        let process = Command::new(executable)
            .arg(ARGUMENT)
            .stdin(far)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { socket, process })
    }

    fn send(&self, request: &Request, fd: BorrowedFd<'_>) -> io::Result<()> {
        wire::send(self.socket.as_fd(), request, &[fd], MsgFlags::empty())
    }
}

impl Drop for Zygote {
    /// The zygote ends when its socket closes; it only has to be waited for.
    fn drop(&mut self) {
        // The socket is still open here, so it is told by a signal.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

impl ZygoteClient {
    pub(super) fn start(executable: PathBuf) -> io::Result<Self> {
        let zygote = Zygote::start(&executable)?;
        Ok(Self { executable, running: Mutex::new(zygote) })
    }

    /// Asks for a shim; returns its first connection. Blocks while the zygote is busy forking.
    pub(super) fn shim(&self, folder: PathBuf) -> io::Result<OwnedFd> {
        self.ask(&Request::Shim { folder }).map(|(connection, _)| connection)
    }

    /// Asks for the holder of a PID namespace; returns its PID.
    pub(super) fn holder(&self, cgroup: Option<PathBuf>) -> io::Result<i32> {
        self.ask(&Request::Holder { cgroup }).map(|(_, forked)| forked.pid)
    }

    /// Sends a request and waits for the fork. A zygote that dies in between has done nothing, so
    /// another one is asked.
    fn ask(&self, request: &Request) -> io::Result<(OwnedFd, Forked)> {
        for _attempt in 0..2 {
            let (near, far) = wire::pair()?;
            self.send(request, far.as_fd())?;
            drop(far);
            if let Some(packet) = wire::receive(near.as_fd())? {
                return Ok((near, packet.decode()?));
            }
        }
        Err(io::Error::other("the zygote could not fork"))
    }

    fn send(&self, request: &Request, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut zygote = self.running.lock().expect("nothing panics while it holds the lock");
        if zygote.send(request, fd).is_ok() {
            return Ok(());
        }
        tracing::warn!("the zygote has died; starting another");
        *zygote = Zygote::start(&self.executable)?;
        zygote.send(request, fd)
    }
}
