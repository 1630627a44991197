//! Processes run in the container besides its first.
//!
//! Each exec has a cgroup of its own in the v2 hierarchy, so that everything it has started can be
//! killed at once when its client goes away. Without such a hierarchy its session is killed instead.
//! What an exec leaves running when it ends by itself goes on, as people expect of `sh -c 'x &'`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::maker::{Job, Stdio};
use super::protocol::{Progress, Reply};
use super::{MAKER_KILLED, Maker, Shim, hear, start_maker};
use crate::cgroup::{Group, Version, remove_folder};

/// One exec, from its request until its end.
pub(super) struct Exec {
    number: u64,
    /// Until it has nothing more to say.
    maker: Option<Maker>,
    pid: Option<i32>,
    /// Exit code, if that came before the maker's last word.
    ended: Option<i32>,
    /// Kept for the client until the program runs.
    master: Option<OwnedFd>,
    cgroup: Option<PathBuf>,
    abandoned: bool,
    over: bool,
}

impl Exec {
    pub(super) fn progress(&self) -> Option<BorrowedFd<'_>> {
        self.maker.as_ref().map(|maker| maker.progress.as_fd())
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            // Gone with its last process.
            let _gone = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        if let Some(pid) = self.pid {
            // libcontainer made it the leader of its session and process group.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn finish(&mut self) {
        self.over = true;
        self.maker = None;
        if let Some(cgroup) = &self.cgroup {
            // In use by what the exec left running: removed together with the container.
            let _in_use = remove_folder(cgroup);
        }
    }
}

impl Shim {
    pub(super) fn start_exec(
        &mut self,
        connection: usize,
        init: i32,
        args: Vec<String>,
        tty: bool,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        if args.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing to execute"));
        }
        let mut fds = fds.into_iter();
        let stdio = if tty {
            Stdio::default()
        } else {
            Stdio { stdin: fds.next(), stdout: fds.next(), stderr: fds.next() }
        };
        self.exec_count += 1;
        let number = self.exec_count;
        let name = format!("exec-{number}");
        let mut group = self.group.clone();
        if let Some(folder) = &mut group.unified {
            folder.push(&name);
            fs::create_dir_all(&*folder)?;
        }
        let job = Job::Exec { init, args, tty, cgroup: own_cgroup(&self.group, &name) };
        let maker = start_maker(&self.folder, &group, job, stdio)?;
        self.connections[connection].exec = Some(number);
        self.execs.push(Exec {
            number,
            maker: Some(maker),
            pid: None,
            ended: None,
            master: None,
            cgroup: group.unified,
            abandoned: false,
            over: false,
        });
        Ok(())
    }

    pub(super) fn hear_exec_maker(&mut self, index: usize) {
        while let Some(maker) = &self.execs[index].maker {
            match hear(maker.progress.as_fd()) {
                Ok(None) => return,
                Ok(Some((Progress::Created { pid }, master))) => {
                    self.execs[index].pid = Some(pid);
                    self.execs[index].master = master;
                    if self.execs[index].abandoned {
                        self.execs[index].kill();
                    }
                }
                Ok(Some((Progress::Started, _))) => {
                    let exec = &mut self.execs[index];
                    exec.maker = None;
                    let (number, ended) = (exec.number, exec.ended);
                    let fds: Vec<OwnedFd> = exec.master.take().into_iter().collect();
                    self.tell_client(number, &Reply::ExecStarted, &fds);
                    if let Some(code) = ended {
                        self.exec_ended(index, code);
                    }
                }
                Ok(Some((Progress::Failed { reason }, _))) | Err(reason) => {
                    self.exec_failed(index, reason);
                }
            }
        }
    }

    /// A child that does not belong to the container's first process has ended: the process of an
    /// exec, its maker, or an orphan.
    pub(super) fn exec_child_ended(&mut self, pid: i32, code: i32) {
        for index in 0..self.execs.len() {
            let exec = &mut self.execs[index];
            if exec.pid == Some(pid) {
                if exec.maker.is_some() {
                    // The maker is still to say whether this was the program.
                    exec.ended = Some(code);
                } else {
                    self.exec_ended(index, code);
                }
            } else if exec.maker.as_ref().is_some_and(|maker| maker.pid == pid) {
                self.hear_exec_maker(index);
                if self.execs[index].maker.is_some() {
                    self.exec_failed(index, MAKER_KILLED.to_owned());
                }
            }
        }
    }

    fn exec_failed(&mut self, index: usize, reason: String) {
        self.execs[index].kill();
        self.execs[index].finish();
        let number = self.execs[index].number;
        self.tell_client(number, &Reply::Refused { reason }, &[]);
        self.close_client(number);
    }

    fn exec_ended(&mut self, index: usize, code: i32) {
        let exec = &mut self.execs[index];
        if exec.abandoned {
            exec.kill();
        }
        exec.finish();
        let number = exec.number;
        self.tell_client(number, &Reply::ExecExited { code }, &[]);
        self.close_client(number);
    }

    /// The client is gone: so are the process and everything it has started.
    pub(super) fn abandon_exec(&mut self, number: u64) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.number == number) {
            exec.abandoned = true;
            exec.kill();
        }
    }

    fn tell_client(&mut self, number: u64, reply: &Reply, fds: &[OwnedFd]) {
        for connection in &mut self.connections {
            if connection.exec == Some(number) {
                connection.say(reply, fds);
            }
        }
    }

    fn close_client(&mut self, number: u64) {
        for connection in &mut self.connections {
            if connection.exec == Some(number) {
                connection.close();
            }
        }
    }
}

/// The exec's group for libcontainer: in a pure v2 layout its own, else the container's.
fn own_cgroup(group: &Group, name: &str) -> Option<PathBuf> {
    (group.version == Version::V2).then(|| group.path.join(name))
}
