//! Messages with file descriptors over `SOCK_SEQPACKET` sockets.
//!
//! One packet is one JSON message; descriptors ride along by `SCM_RIGHTS`. The agent, the zygote
//! and the shims all talk this way. An empty read is the end: the peer is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most descriptors in one message: stdin, stdout and stderr.
const FDS_MAX: usize = 3;

/// A received message.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    /// The descriptors that came with it, in order.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Packet {
    /// Parses the message.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Two connected sockets, closed on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Listens on `name` in the folder `folder`, without blocking.
///
/// The address goes through `/proc/self/fd`, because a socket address holds only 107 bytes and a
/// container's folder may be longer.
pub(crate) fn listen(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    socket::bind(fd.as_raw_fd(), &address(folder, name)?)?;
    socket::listen(&fd, socket::Backlog::new(16)?)?;
    Ok(fd)
}

/// Accepts a connection; `None` if nobody is waiting.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECONNABORTED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects to the socket `name` in the folder `folder`.
pub(crate) fn connect(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let fd =
        socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    socket::connect(fd.as_raw_fd(), &address(folder, name)?)?;
    Ok(fd)
}

fn address(folder: BorrowedFd<'_>, name: &str) -> io::Result<UnixAddr> {
    let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    Ok(UnixAddr::new(Path::new(&path))?)
}

/// Sends one message. `flags` may hold `MSG_DONTWAIT`.
pub(crate) fn send<T: Serialize>(
    fd: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).expect("our messages have string keys only");
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    socket::sendmsg::<()>(
        fd.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        control,
        flags | MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message; `None` when the peer is gone.
pub(crate) fn receive(fd: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut probe = [0u8; 1];
    let size =
        match socket::recv(fd.as_raw_fd(), &mut probe, MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
            Ok(0) | Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
            Ok(size) => size,
            Err(errno) => return Err(errno.into()),
        };
    let mut bytes = vec![0u8; size];
    let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = socket::recvmsg::<()>(
        fd.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: SCM_RIGHTS has just installed these descriptors in this process for us.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(Some(Packet { bytes, fds }))
}

/// Receives file descriptors sent with a message that is not ours (libcontainer's console).
pub(crate) fn receive_fd(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    Ok(receive(fd)?.and_then(|packet| packet.fds.into_iter().next()))
}
