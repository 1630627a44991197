//! Exec and attach: the agent's ends of the streams.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use futures::FutureExt;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::LinuxRuntime;
use super::connect::Connection;
use crate::shim::protocol::{Reply, Request};
use crate::{ExecSession, ExecSpec, RuntimeError, Streams};

impl LinuxRuntime {
    pub(super) async fn run_exec(
        &self,
        id: &str,
        spec: &ExecSpec,
    ) -> Result<ExecSession, RuntimeError> {
        let connection_failed = |reason: String| RuntimeError::Shim { id: id.to_owned(), reason };
        let (near, far) =
            pipes(spec).map_err(|error| connection_failed(format!("make pipes: {error}")))?;
        let request = Request::Exec { args: spec.args.clone(), tty: spec.tty };
        let connection = self.converse(id, request, far).await?;
        let (reply, fds) = self.first_reply(id, &connection).await?;
        let streams = match reply {
            Reply::ExecStarted if spec.tty => {
                terminal(fds, spec.stdin).map_err(connection_failed)?
            }
            Reply::ExecStarted => near,
            Reply::Refused { reason } => {
                return Err(RuntimeError::Start { id: id.to_owned(), reason });
            }
            other => return Err(connection_failed(format!("unexpected {other:?}"))),
        };
        let id = id.to_owned();
        let exit = async move {
            let failed = |reason: String| RuntimeError::Shim { id: id.clone(), reason };
            match connection.reply().await {
                Ok(Some((Reply::ExecExited { code }, _))) => Ok(code),
                Ok(Some((reply, _))) => Err(failed(format!("unexpected {reply:?}"))),
                Ok(None) => Err(RuntimeError::NotRunning { id }),
                Err(error) => Err(failed(error.to_string())),
            }
        };
        Ok(ExecSession { streams, exit: exit.boxed() })
    }

    pub(super) async fn join_streams(
        &self,
        id: &str,
        stdin: bool,
    ) -> Result<Streams, RuntimeError> {
        let connection = self.converse(id, Request::Attach { stdin }, Vec::new()).await?;
        let failed = |reason: String| RuntimeError::Shim { id: id.to_owned(), reason };
        match self.first_reply(id, &connection).await? {
            (Reply::Attached { stdin, stderr }, fds) => {
                let mut fds = fds.into_iter();
                Ok(Streams {
                    stdout: fds.next(),
                    stderr: if stderr { fds.next() } else { None },
                    stdin: if stdin { fds.next() } else { None },
                })
            }
            (Reply::Refused { reason }, _) => Err(failed(reason)),
            (other, _) => Err(failed(format!("unexpected {other:?}"))),
        }
    }

    /// Opens a conversation with the shim of a running container.
    async fn converse(
        &self,
        id: &str,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Connection, RuntimeError> {
        if !self.known(id)?.is_running() {
            return Err(RuntimeError::NotRunning { id: id.to_owned() });
        }
        Connection::ask(self.shared.container_folder(id), request, fds).await.map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    RuntimeError::NotRunning { id: id.to_owned() }
                }
                _ => RuntimeError::Shim { id: id.to_owned(), reason: error.to_string() },
            }
        })
    }

    async fn first_reply(
        &self,
        id: &str,
        connection: &Connection,
    ) -> Result<(Reply, Vec<OwnedFd>), RuntimeError> {
        match connection.reply().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(RuntimeError::NotRunning { id: id.to_owned() }),
            Err(error) => Err(RuntimeError::Shim { id: id.to_owned(), reason: error.to_string() }),
        }
    }
}

/// The near and the far ends of an exec's streams; none with a terminal.
fn pipes(spec: &ExecSpec) -> io::Result<(Streams, Vec<OwnedFd>)> {
    let mut near = Streams { stdin: None, stdout: None, stderr: None };
    if spec.tty {
        return Ok((near, Vec::new()));
    }
    let stdin = if spec.stdin {
        let (far, stdin) = pipe2(OFlag::O_CLOEXEC)?;
        near.stdin = Some(stdin);
        far
    } else {
        OpenOptions::new().read(true).open("/dev/null")?.into()
    };
    let (stdout, stdout_far) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_far) = pipe2(OFlag::O_CLOEXEC)?;
    near.stdout = Some(stdout);
    near.stderr = Some(stderr);
    Ok((near, vec![stdin, stdout_far, stderr_far]))
}

/// Both ends are the master: one to write (and to resize), one to read.
fn terminal(fds: Vec<OwnedFd>, stdin: bool) -> Result<Streams, String> {
    let master = fds.into_iter().next().ok_or("the shim sent no terminal")?;
    let stdin =
        if stdin { Some(master.try_clone().map_err(|error| error.to_string())?) } else { None };
    Ok(Streams { stdin, stdout: Some(master), stderr: None })
}
