//! The shim: one small single-threaded process per container.
//!
//! It is the parent of the container's processes, owns their streams and the log, and tells whoever
//! connects what happens. It never allocates much and never waits for anything but its one `poll`,
//! so it needs no agent: one that is killed finds everything again. When the container has ended
//! the shim writes `exit.json`, takes leave of those connected, and ends.
//!
//! ```text
//! agent ── zygote ── fork ──> shim ── fork ──> maker (libcontainer), ends when the program runs
//!   └────── control socket ────┘ └── child: the container's first process, and each exec
//! ```

mod attach;
mod conversation;
mod execs;
mod executor;
pub(crate) mod fork;
mod image_facts;
pub(crate) mod log;
mod maker;
pub(crate) mod protocol;
mod streams;
mod unseen;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use crate::cgroup::Group;
use crate::record::{self, CONTROL, ContainerRecord, now_nanos};
use crate::{Exit, wire};
use attach::Client;
use conversation::Connection;
use execs::Exec;
use log::LogWriter;
use maker::{Job, Stdio};
use protocol::{Progress, Reply};
use streams::{Streams, set_nonblocking};

/// How long the shim stays for children that have been killed, after the container has ended.
const STRAGGLERS_SECS: u64 = 10;

/// Exit code of a container that could not be started, as containerd reports it.
pub(crate) const START_ERROR_CODE: i32 = 128;

/// Said of a maker that has ended without a word.
const MAKER_KILLED: &str = "the process that makes the container was killed";

/// Where the container is in its life.
enum State {
    /// A maker is at work.
    Made {
        maker: Maker,
        init: Option<i32>,
        /// How the first process has ended, if that came before the maker's last word.
        ended: Option<(i32, Option<i32>)>,
    },
    /// The program runs.
    Running { init: i32, started_at_nanos: i128 },
    /// Over; the instant is when the shim gives up waiting for stragglers.
    Ended { exit: Exit, deadline: Instant },
}

/// A process at work in libcontainer.
struct Maker {
    pid: i32,
    /// Where it talks.
    progress: OwnedFd,
}

/// The shim's whole state.
struct Shim {
    folder: PathBuf,
    group: Group,
    tty: bool,
    stdin_once: bool,
    log: LogWriter,
    signals: SignalFd,
    listener: OwnedFd,
    state: State,
    streams: Streams,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    execs: Vec<Exec>,
    /// Numbers execs, for their cgroups.
    exec_count: u64,
}

/// What a polled descriptor belongs to; positions are in the lists of [`Shim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Maker,
    Output(usize),
    Connection(usize),
    Exec(usize),
    Client(usize),
}

/// Runs the shim of the container in `folder`; `first` is the connection of the agent that asked
/// for it. Returns when the container is over.
pub(crate) fn run(folder: &Path, first: OwnedFd) -> io::Result<()> {
    let record = ContainerRecord::read(folder)?;
    let mut shim = match Shim::start(folder, record) {
        Ok(shim) => shim,
        Err(error) => {
            let reason = format!("start the container's shim: {error}");
            let exit = failed_start(reason);
            record::write_exit(folder, &exit)?;
            // An agent that is gone reads the file.
            let _unheard =
                wire::send(first.as_fd(), &Reply::Exited(exit), &[], MsgFlags::MSG_DONTWAIT);
            return Err(error);
        }
    };
    shim.connections.push(Connection::watching(first));
    while !shim.is_over() {
        shim.turn()?;
    }
    Ok(())
}

/// The end of a container that never ran.
pub(crate) fn failed_start(reason: String) -> Exit {
    Exit {
        code: START_ERROR_CODE,
        signal: None,
        oom_killed: false,
        start_error: Some(reason),
        started_at_nanos: 0,
        finished_at_nanos: now_nanos(),
    }
}

impl Shim {
    fn start(folder: &Path, record: ContainerRecord) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        nix::sys::prctl::set_name(c"skeg-shim")?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let folder_fd = fork::open_folder(folder)?;
        let listener = wire::listen(folder_fd.as_fd(), CONTROL)?;
        let spec = &record.spec;
        let log = LogWriter::open(spec.log_path.clone(), spec.log_max_bytes, spec.log_max_files)?;
        let (streams, stdio) = Streams::open(spec.tty, spec.stdin, spec.uid)?;
        let maker = start_maker(folder, &record.group, Job::Container, stdio)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            group: record.group,
            tty: spec.tty,
            stdin_once: spec.stdin_once,
            log,
            signals,
            listener,
            state: State::Made { maker, init: None, ended: None },
            streams,
            connections: Vec::new(),
            clients: Vec::new(),
            execs: Vec::new(),
            exec_count: 0,
        })
    }

    /// Waits for something to happen and does what is due.
    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        let is_ready = |source: Source| ready.contains(&source);
        // News from makers come before exits: a process may end right after it was announced.
        if is_ready(Source::Maker) || is_ready(Source::Signals) {
            self.hear_maker();
        }
        for index in 0..self.execs.len() {
            if is_ready(Source::Exec(index)) || is_ready(Source::Signals) {
                self.hear_exec_maker(index);
            }
        }
        for index in 0..2 {
            if is_ready(Source::Output(index)) {
                self.take_output(index);
            }
        }
        if is_ready(Source::Signals) {
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.reap();
        }
        for index in 0..self.clients.len() {
            if is_ready(Source::Client(index)) {
                self.clients[index].flush();
            }
        }
        for index in 0..self.connections.len() {
            if is_ready(Source::Connection(index)) {
                self.converse(index);
            }
        }
        if is_ready(Source::Listener) {
            while let Some(fd) = wire::accept(self.listener.as_fd())? {
                self.connections.push(Connection::new(fd));
            }
        }
        self.clients.retain(|client| !client.is_gone());
        self.connections.retain(|connection| !connection.is_closed());
        self.execs.retain(|exec| !exec.is_over());
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![readable(self.signals.as_fd()), readable(self.listener.as_fd())];
        let mut add = |source, fd| {
            sources.push(source);
            fds.push(fd);
        };
        if let State::Made { maker, .. } = &self.state {
            add(Source::Maker, readable(maker.progress.as_fd()));
        }
        // While an attached client is behind, the container waits for it.
        if self.clients.iter().all(|client| !client.is_behind()) {
            for (index, fd) in self.streams.outputs() {
                add(Source::Output(index), readable(fd));
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            add(Source::Connection(index), readable(connection.as_fd()));
        }
        for (index, exec) in self.execs.iter().enumerate() {
            if let Some(fd) = exec.progress() {
                add(Source::Exec(index), readable(fd));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(fd) = client.waiting_fd() {
                add(Source::Client(index), PollFd::new(fd, PollFlags::POLLOUT));
            }
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready: Vec<Source> = fds
            .iter()
            .zip(sources)
            .filter(|(fd, _)| fd.any().unwrap_or(false))
            .map(|(_, source)| source)
            .collect();
        // A client that made no room for too long is let go.
        ready.extend(
            (0..self.clients.len())
                .filter(|index| self.clients[*index].is_stalled())
                .map(Source::Client),
        );
        Ok(ready)
    }

    fn timeout(&self) -> PollTimeout {
        let ended = match &self.state {
            State::Ended { deadline, .. } => Some(*deadline),
            State::Made { .. } | State::Running { .. } => None,
        };
        let earliest = self.clients.iter().filter_map(Client::deadline).chain(ended).min();
        earliest.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, so that the deadline has passed on waking.
            let left =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    /// Whether the container has ended, everybody knows, and no child is left.
    fn is_over(&mut self) -> bool {
        let State::Ended { deadline, .. } = &self.state else { return false };
        let late = Instant::now() >= *deadline;
        if self.clients.iter().any(Client::is_behind) && !late {
            return false;
        }
        self.clients.clear();
        let left = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let children = waitid(Id::All, left).is_ok();
        if (children || !self.execs.is_empty()) && !late {
            return false;
        }
        // The agent removes what is still in use by processes of the pod.
        let _left_to_agent = self.group.remove_folders();
        true
    }

    fn hear_maker(&mut self) {
        loop {
            let State::Made { maker, init, ended } = &mut self.state else { return };
            let (news, master) = match hear(maker.progress.as_fd()) {
                Ok(Some(heard)) => heard,
                Ok(None) => return,
                Err(reason) => (Progress::Failed { reason }, None),
            };
            match news {
                Progress::Created { pid } => {
                    *init = Some(pid);
                    if let Some(master) = master {
                        self.streams.set_terminal(master);
                    }
                }
                Progress::Started => {
                    let Some(init) = *init else { continue };
                    let ended = ended.take();
                    self.state = State::Running { init, started_at_nanos: now_nanos() };
                    match ended {
                        Some((code, signal)) => self.first_ended(code, signal),
                        None => self.tell_watchers(),
                    }
                }
                Progress::Failed { reason } => self.end(failed_start(reason)),
            }
        }
    }

    /// Collects every child that has ended.
    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), 128 + signal as i32, Some(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            match &mut self.state {
                State::Running { init, .. } if *init == pid => self.first_ended(code, signal),
                // The maker is still to say whether this was the program.
                State::Made { init: Some(init), ended, .. } if *init == pid => {
                    *ended = Some((code, signal));
                }
                State::Made { maker, .. } if maker.pid == pid => {
                    self.hear_maker();
                    if matches!(self.state, State::Made { .. }) {
                        self.end(failed_start(MAKER_KILLED.to_owned()));
                    }
                }
                _ => self.exec_child_ended(pid, code),
            }
        }
    }

    fn first_ended(&mut self, code: i32, signal: Option<i32>) {
        let State::Running { started_at_nanos, .. } = self.state else { return };
        self.end(Exit {
            code,
            signal,
            oom_killed: false,
            start_error: None,
            started_at_nanos,
            finished_at_nanos: now_nanos(),
        });
    }

    /// Writes down how the container ended, after taking in everything it has written.
    fn end(&mut self, mut exit: Exit) {
        if matches!(self.state, State::Ended { .. }) {
            return;
        }
        self.group.kill();
        self.drain_outputs();
        self.log.finish();
        exit.oom_killed = self.group.oom_kills() > 0;
        if let Err(error) = record::write_exit(&self.folder, &exit) {
            // With the run folder gone or full, those connected still hear it.
            exit.start_error.get_or_insert(format!("write exit.json: {error}"));
        }
        let deadline = Instant::now() + Duration::from_secs(STRAGGLERS_SECS);
        self.state = State::Ended { exit, deadline };
        self.streams.close();
        self.tell_watchers();
    }

    fn current(&self) -> Reply {
        match &self.state {
            State::Made { .. } => Reply::Created,
            State::Running { init, started_at_nanos } => {
                Reply::Started { pid: *init, at_nanos: *started_at_nanos }
            }
            State::Ended { exit, .. } => Reply::Exited(exit.clone()),
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// The next news from a maker, without waiting; an error if it is gone without a word.
fn hear(progress: BorrowedFd<'_>) -> Result<Option<(Progress, Option<OwnedFd>)>, String> {
    match wire::receive(progress) {
        Ok(Some(packet)) => {
            let news = packet.decode().map_err(|error| error.to_string())?;
            Ok(Some((news, packet.fds.into_iter().next())))
        }
        Ok(None) => Err(MAKER_KILLED.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Forks a maker into the container's group, or the one of an exec.
fn start_maker(folder: &Path, group: &Group, job: Job, stdio: Stdio) -> io::Result<Maker> {
    let (progress, far) = wire::pair()?;
    set_nonblocking(progress.as_fd())?;
    let cgroup = group.unified.as_deref().map(fork::open_folder).transpose()?;
    let pid = fork::fork(cgroup.as_ref().map(AsFd::as_fd), 0, || {
        // If the name cannot be set the process is only harder to recognise.
        let _nameless = nix::sys::prctl::set_name(c"skeg-maker");
        maker::make(folder, &job, stdio, far.as_fd())
    })?;
    Ok(Maker { pid, progress })
}
