//! Those who are attached to the container's streams.
//!
//! Each client gets its own pipes. A client that does not read makes the container wait, as a
//! terminal would, but not for ever: after [`STALL_SECS`] it is let go.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::Shim;
use super::protocol::Reply;
use super::streams::set_nonblocking;

/// How long the container waits for a client that does not read.
const STALL_SECS: u64 = 10;

/// One attached client.
pub(super) struct Client {
    /// stdout and stderr.
    pipes: [Option<File>; 2],
    /// What did not fit.
    pending: [Vec<u8>; 2],
    stalled_since: Option<Instant>,
}

impl Client {
    /// Hands over output.
    pub(super) fn give(&mut self, stream: usize, bytes: &[u8]) {
        if self.pipes[stream].is_some() {
            self.pending[stream].extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Writes as much as fits; lets a client go that is gone, or stalled.
    pub(super) fn flush(&mut self) {
        for stream in 0..2 {
            while !self.pending[stream].is_empty() {
                let Some(pipe) = self.pipes[stream].as_mut() else {
                    self.pending[stream] = Vec::new();
                    break;
                };
                match pipe.write(&self.pending[stream]) {
                    Ok(size) => {
                        self.pending[stream].drain(..size);
                        self.stalled_since = None;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => self.pipes[stream] = None,
                }
            }
        }
        if self.is_stalled() {
            self.pipes = [None, None];
            self.pending = [Vec::new(), Vec::new()];
        }
        if self.is_behind() {
            self.stalled_since.get_or_insert_with(Instant::now);
        } else {
            self.stalled_since = None;
            self.pending = [Vec::new(), Vec::new()];
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_empty())
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stalled_since.map(|since| since + Duration::from_secs(STALL_SECS))
    }

    pub(super) fn is_gone(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// A pipe that has to make room before the client is up to date.
    pub(super) fn waiting_fd(&self) -> Option<BorrowedFd<'_>> {
        (0..2)
            .find(|stream| !self.pending[*stream].is_empty())
            .and_then(|stream| self.pipes[stream].as_ref())
            .map(AsFd::as_fd)
    }
}

impl Shim {
    /// Makes pipes for a new client and sends it the near ends. Returns the reply and what goes
    /// with it.
    pub(super) fn attach(&mut self, stdin: bool) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        let mut pipes = [None, None];
        // With a terminal stderr is part of stdout.
        let count = if self.tty { 1 } else { 2 };
        for pipe in pipes.iter_mut().take(count) {
            let (near, far) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(far.as_fd())?;
            fds.push(near);
            *pipe = Some(File::from(far));
        }
        for (index, pipe) in pipes.iter_mut().enumerate() {
            if !self.streams.has_output(index) {
                *pipe = None;
            }
        }
        // The master is needed for resizing even by those who only look on.
        let input =
            if stdin { self.streams.input(self.stdin_once)? } else { self.streams.terminal()? };
        let reply = Reply::Attached { stdin: input.is_some(), stderr: count == 2 };
        fds.extend(input);
        self.clients.push(Client { pipes, pending: [Vec::new(), Vec::new()], stalled_since: None });
        Ok((reply, fds))
    }
}
