//! Connections to shims, without blocking the async threads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::Mode;
use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::blocking;
use crate::record::CONTROL;
use crate::shim::protocol::{Reply, Request};
use crate::wire;

/// A connection to a shim.
pub(super) struct Connection {
    fd: AsyncFd<OwnedFd>,
}

impl Connection {
    /// Takes over a connected socket.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is owned by what is registered, and so stays open as long.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
        Ok(Self { fd })
    }

    /// Connects to the shim of the container in `folder` and sends it `request`.
    pub(super) async fn ask(
        folder: PathBuf,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let fd = blocking(move || -> io::Result<OwnedFd> {
            let fd = connect(&folder)?;
            send(&fd, &request, &fds)?;
            Ok(fd)
        })
        .await?;
        Self::new(fd)
    }

    /// The next reply and what came with it; `None` when the shim is gone.
    pub(super) async fn reply(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        let packet = self.fd.async_io(Interest::READABLE, |fd| wire::receive(fd.as_fd())).await?;
        packet.map(|packet| Ok((packet.decode()?, packet.fds))).transpose()
    }
}

/// Connects to the shim of the container in `folder`. Blocks, briefly.
pub(super) fn connect(folder: &Path) -> io::Result<OwnedFd> {
    let fd = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: the kernel has just made this descriptor for us.
    let folder = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    wire::connect(folder.as_fd(), CONTROL)
}

/// Sends one message, with descriptors.
pub(super) fn send<T: Serialize>(fd: &OwnedFd, message: &T, fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    wire::send(fd.as_fd(), message, &fds, MsgFlags::empty())
}
