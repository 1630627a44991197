//! Conversations over the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::kill;
use nix::sys::socket::MsgFlags;
use nix::unistd::Pid;

use super::protocol::{Reply, Request};
use super::{Shim, State};
use crate::wire::{self, Packet};

/// One connection.
pub(super) struct Connection {
    fd: OwnedFd,
    watching: bool,
    closed: bool,
    /// Number of the exec it runs.
    pub(super) exec: Option<u64>,
}

impl Connection {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, watching: false, closed: false, exec: None }
    }

    pub(super) fn watching(fd: OwnedFd) -> Self {
        Self { watching: true, ..Self::new(fd) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends without waiting: whoever does not listen is let go.
    pub(super) fn say(&mut self, reply: &Reply, fds: &[OwnedFd]) {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        if wire::send(self.fd.as_fd(), reply, &fds, MsgFlags::MSG_DONTWAIT).is_err() {
            self.closed = true;
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

impl Shim {
    pub(super) fn tell_watchers(&mut self) {
        let state = self.current();
        for connection in self.connections.iter_mut().filter(|connection| connection.watching) {
            connection.say(&state, &[]);
        }
    }

    /// Hears and answers one request of a connection.
    pub(super) fn converse(&mut self, index: usize) {
        let packet = match wire::receive(self.connections[index].as_fd()) {
            Ok(Some(packet)) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(None) | Err(_) => {
                self.connections[index].close();
                if let Some(number) = self.connections[index].exec {
                    self.abandon_exec(number);
                }
                return;
            }
        };
        let (reply, fds) = match self.answer(index, packet) {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(error) => (Reply::Refused { reason: error.to_string() }, Vec::new()),
        };
        self.connections[index].say(&reply, &fds);
    }

    /// `None` means that the answer comes later.
    fn answer(
        &mut self,
        index: usize,
        packet: Packet,
    ) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        Ok(Some(match packet.decode()? {
            Request::Watch => {
                self.connections[index].watching = true;
                (self.current(), Vec::new())
            }
            Request::Signal { signal } => {
                let init = self.running()?;
                let signal = nix::sys::signal::Signal::try_from(signal)?;
                // The process is our child and not yet waited for: its PID is still its own.
                kill(Pid::from_raw(init), signal)?;
                (Reply::Done, Vec::new())
            }
            Request::Exec { args, tty } => {
                let init = self.running()?;
                self.start_exec(index, init, args, tty, packet.fds)?;
                return Ok(None);
            }
            Request::Attach { stdin } => {
                self.running()?;
                self.attach(stdin)?
            }
            Request::ReopenLog => {
                self.log.rotate()?;
                (Reply::Done, Vec::new())
            }
        }))
    }

    /// PID of the first process.
    fn running(&self) -> io::Result<i32> {
        match &self.state {
            State::Running { init, .. } => Ok(*init),
            State::Made { .. } | State::Ended { .. } => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the container is not running"))
            }
        }
    }
}
