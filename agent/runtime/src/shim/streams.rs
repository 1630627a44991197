//! The streams of the container's first process.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Uid, fchown, pipe2};

use super::Shim;
use super::maker::Stdio;

/// Read at once. Larger reads only make the shim larger.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most that is read after the container has ended: a process outside of its PID namespace may
/// still hold the pipe and write for ever.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// The near ends.
pub(super) struct Streams {
    /// stdout (or the terminal) and stderr, until their end.
    outputs: [Option<File>; 2],
    /// Kept open so that the container does not see the end of its input.
    stdin: Option<OwnedFd>,
    /// The terminal's master side.
    terminal: Option<OwnedFd>,
}

impl Streams {
    /// Makes the pipes. A terminal is made by libcontainer, and comes by [`Self::set_terminal`].
    pub(super) fn open(tty: bool, stdin: bool, uid: u32) -> io::Result<(Self, Stdio)> {
        let mut near = Self { outputs: [None, None], stdin: None, terminal: None };
        let mut far = Stdio::default();
        if tty {
            return Ok((near, far));
        }
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> { Ok(pipe2(OFlag::O_CLOEXEC)?) };
        // The container's user must be able to open /dev/stdout again.
        let own = |fd: &OwnedFd| fchown(fd.as_raw_fd(), Some(Uid::from_raw(uid)), None);
        let (out, out_far) = pipe()?;
        let (err, err_far) = pipe()?;
        own(&out_far)?;
        own(&err_far)?;
        for fd in [&out, &err] {
            set_nonblocking(fd.as_fd())?;
        }
        near.outputs = [Some(out.into()), Some(err.into())];
        far.stdin = Some(if stdin {
            let (in_far, stdin) = pipe()?;
            own(&in_far)?;
            near.stdin = Some(stdin);
            in_far
        } else {
            File::open("/dev/null")?.into()
        });
        far.stdout = Some(out_far);
        far.stderr = Some(err_far);
        Ok((near, far))
    }

    pub(super) fn set_terminal(&mut self, master: OwnedFd) {
        // A terminal that cannot be duplicated or made non-blocking would stop the shim.
        if let Ok(output) = master.try_clone()
            && set_nonblocking(output.as_fd()).is_ok()
        {
            self.outputs[0] = Some(output.into());
            self.terminal = Some(master);
        }
    }

    /// Outputs that have not ended, by stream.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.outputs
            .iter()
            .enumerate()
            .filter_map(|(index, file)| file.as_ref().map(|file| (index, file.as_fd())))
    }

    pub(super) fn has_output(&self, index: usize) -> bool {
        self.outputs[index].is_some()
    }

    /// The writing side of the container's input. With `once` it is given away: when the receiver
    /// closes it the container sees the end.
    pub(super) fn input(&mut self, once: bool) -> io::Result<Option<OwnedFd>> {
        if let Some(terminal) = &self.terminal {
            return terminal.try_clone().map(Some);
        }
        if once {
            return Ok(self.stdin.take());
        }
        self.stdin.as_ref().map(OwnedFd::try_clone).transpose()
    }

    pub(super) fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        self.terminal.as_ref().map(OwnedFd::try_clone).transpose()
    }

    pub(super) fn close(&mut self) {
        self.outputs = [None, None];
        self.stdin = None;
        self.terminal = None;
    }
}

impl Shim {
    /// Reads once from an output; returns how much there was, 0 if nothing or if it has ended.
    pub(super) fn take_output(&mut self, index: usize) -> usize {
        let Some(file) = self.streams.outputs[index].as_mut() else { return 0 };
        let mut chunk = [0u8; CHUNK_BYTES];
        match file.read(&mut chunk) {
            Ok(0) => self.streams.outputs[index] = None,
            Ok(size) => {
                self.log.feed(index, &chunk[..size]);
                for client in &mut self.clients {
                    client.give(index, &chunk[..size]);
                }
                return size;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // EIO: the last process on the terminal is gone.
            Err(_) => self.streams.outputs[index] = None,
        }
        0
    }

    /// Takes in what is still in the pipes.
    pub(super) fn drain_outputs(&mut self) {
        for index in 0..2 {
            let mut taken = 0;
            loop {
                let size = self.take_output(index);
                taken += size;
                if size == 0 || taken > DRAIN_BYTES_MAX {
                    break;
                }
            }
        }
    }
}

pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?;
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK))?;
    Ok(())
}
