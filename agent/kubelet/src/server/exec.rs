//! `/exec`, `/attach` and `/run`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::SplitStream;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runtime::{ContainerState, ExecSpec, RuntimeError, Streams};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tracing::Instrument as _;

use super::channels::{ERROR, PROTOCOLS, Received, STDERR, STDOUT, frame, parse, verdict};
use super::outgoing::{PING_EVERY, linger, send_all};
use super::query::Parameters;
use super::route::Target;
use super::upgrade::agree;
use super::{Body, Server, text};
use crate::act::{hook, whole};
use crate::pod::PodExt;
use crate::streams::FdStream;

/// Messages waiting to be sent: a slow client slows the process down, not this node.
const OUTGOING_MAX: usize = 16;
/// Output is sent in pieces of at most this size.
const PIECE_BYTES: usize = 32 * 1024;

/// The id of the container if it runs.
#[expect(clippy::result_large_err, reason = "an error is the answer itself")]
fn running(target: &Target) -> Result<String, Response<Body>> {
    let sandbox = target.published.sandbox.iter();
    let mut all = sandbox.flat_map(|sandbox| &sandbox.containers);
    let found = all.find(|container| {
        container.spec.name == target.container
            && matches!(container.state, ContainerState::Running { .. })
    });
    found.map(|container| container.spec.id.clone()).ok_or_else(|| {
        let message = format!("container not found (\"{}\")\n", target.container);
        text(StatusCode::NOT_FOUND, message)
    })
}

/// The streams that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    /// Reads the parameters, which have one name here and another in the API.
    /// Source: kubernetes cri/streaming/remotecommand/httpstream.go, `NewOptions`.
    pub(super) fn parse(parameters: &Parameters) -> Result<Self, &'static str> {
        let tty = parameters.flag(&["tty"]);
        let wanted = Self {
            stdin: parameters.flag(&["stdin", "input"]),
            stdout: parameters.flag(&["stdout", "output"]),
            // A terminal has one output.
            stderr: parameters.flag(&["stderr", "error"]) && !tty,
            tty,
        };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            Ok(wanted)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr\n")
        }
    }

    /// The channel on which an empty message says that the connection stands: the lowest one that
    /// is written.
    fn first_channel(self) -> u8 {
        match self {
            Self { stdout: true, .. } => STDOUT,
            Self { stderr: true, .. } => STDERR,
            _ => ERROR,
        }
    }
}

/// A process and its streams.
pub(super) struct Session {
    pub(super) streams: Streams,
    /// Ends with the process; dropping it ends the process.
    pub(super) exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// Runs a command in the container, its streams on a WebSocket.
pub(super) fn exec(
    server: &Arc<Server>,
    request: Request<Incoming>,
    target: Target,
    parameters: &Parameters,
) -> Response<Body> {
    let id = match running(&target) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let wanted = match Wanted::parse(parameters) {
        Ok(wanted) => wanted,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let args = parameters.all("command").map(str::to_owned).collect();
    let spec = ExecSpec { args, tty: wanted.tty, stdin: wanted.stdin };
    if spec.args.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least one command\n");
    }
    let runtime = Arc::clone(&server.context.deps.runtime);
    let open = async move {
        let session = runtime.exec(&id, &spec).await?;
        Ok(Session { streams: session.streams, exit: session.exit })
    };
    stream(server, request, "exec", &target, wanted, open)
}

/// Joins the streams of the container's own process.
pub(super) fn attach(
    server: &Arc<Server>,
    request: Request<Incoming>,
    target: Target,
    parameters: &Parameters,
) -> Response<Body> {
    let id = match running(&target) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let listed = target.published.pod.find(&target.container);
    let wanted = match Wanted::parse(parameters) {
        // Whether there is a terminal was decided when the container was made.
        Ok(wanted) => {
            Wanted { tty: listed.is_some_and(|listed| listed.spec.tty == Some(true)), ..wanted }
        }
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let runtime = Arc::clone(&server.context.deps.runtime);
    let open = async move {
        let streams = runtime.attach(&id, wanted.stdin).await?;
        // Attaching says nothing about the exit code: it is success whenever output ends.
        Ok(Session { streams, exit: async { Ok(0) }.boxed() })
    };
    stream(server, request, "attach", &target, wanted, open)
}

fn stream(
    server: &Arc<Server>,
    request: Request<Incoming>,
    what: &'static str,
    target: &Target,
    wanted: Wanted,
    open: impl Future<Output = Result<Session, RuntimeError>> + Send + 'static,
) -> Response<Body> {
    let agreed = match agree(request, &PROTOCOLS) {
        Ok(agreed) => agreed,
        Err(response) => return response,
    };
    let span = tracing::info_span!("stream", what, pod = %target.published.pod.key());
    let (response, task) = agreed.split(move |socket| carry(socket, open, wanted, PING_EVERY));
    server.streams.spawn(task.instrument(span));
    response
}

/// Carries streams between a process and the client until the process has ended. If the client
/// goes first, the process goes with it.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    open: impl Future<Output = Result<Session, RuntimeError>>,
    wanted: Wanted,
    ping_every: Duration,
) {
    let (sink, mut incoming) = socket.split();
    let (outgoing, messages) = mpsc::channel::<Bytes>(OUTGOING_MAX);
    let mut sending = std::pin::pin!(send_all(sink, messages, ping_every));
    let has_ended = tokio::select! {
        () = &mut sending => false,
        () = work(&mut incoming, outgoing, open, wanted) => true,
    };
    if has_ended {
        sending.await;
        linger(incoming).await;
    }
}

/// Starts the process and serves its streams; says at the end how it went.
async fn work<S: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut SplitStream<WebSocketStream<S>>,
    outgoing: mpsc::Sender<Bytes>,
    open: impl Future<Output = Result<Session, RuntimeError>>,
    wanted: Wanted,
) {
    if outgoing.send(frame(wanted.first_channel(), b"")).await.is_err() {
        return;
    }
    let outcome = match open.await {
        Ok(session) => {
            let Streams { stdin, stdout, stderr } = session.streams;
            let terminal = stdin.as_ref().or(stdout.as_ref());
            let terminal = terminal.filter(|_| wanted.tty).and_then(|fd| fd.try_clone().ok());
            let output = async {
                tokio::join!(
                    pump(stdout, wanted.stdout.then_some(STDOUT), &outgoing),
                    pump(stderr, wanted.stderr.then_some(STDERR), &outgoing),
                );
                session.exit.await
            };
            tokio::select! {
                outcome = output => outcome,
                () = feed(incoming, stdin.filter(|_| wanted.stdin), terminal) => return,
            }
        }
        Err(error) => Err(error),
    };
    let verdict = verdict(&outcome.map_err(|error| whole(&error))).to_string();
    if outgoing.send(frame(ERROR, verdict.as_bytes())).await.is_err() {
        tracing::debug!("the client left before the end");
    }
}

/// A stream of the process; without it if the kernel does not let it be waited for.
fn waitable(stream: Option<OwnedFd>) -> Option<FdStream> {
    match FdStream::new(stream?) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "a stream of the process is left out");
            None
        }
    }
}

/// Sends what a process writes. What nobody wants is read all the same: the process must not wait.
async fn pump(stream: Option<OwnedFd>, channel: Option<u8>, outgoing: &mpsc::Sender<Bytes>) {
    let Some(mut stream) = waitable(stream) else { return };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match (stream.read(&mut piece).await, channel) {
            (Ok(0) | Err(_), _) => return,
            (Ok(_), None) => {}
            (Ok(count), Some(channel)) => {
                if outgoing.send(frame(channel, &piece[..count])).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Hands what the client sends to the process. Returns when the client is gone.
async fn feed<S: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut SplitStream<WebSocketStream<S>>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
) {
    let mut stdin = waitable(stdin);
    while let Some(Ok(message)) = incoming.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match parse(bytes) {
            Received::Stdin(bytes) => {
                if let Some(stream) = &mut stdin
                    && stream.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            // A terminal stays open: its end would be the end of its process.
            Received::StdinEnd if terminal.is_none() => stdin = None,
            Received::StdinEnd | Received::Other => {}
            Received::Resize { width, height } => resize(terminal.as_ref(), width, height),
        }
    }
}

fn resize(terminal: Option<&OwnedFd>, width: u16, height: u16) {
    let Some(terminal) = terminal else { return };
    let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = tcsetwinsize(terminal, size) {
        tracing::debug!(%error, "terminal not resized");
    }
}

/// Runs a command to its end and answers with its output.
pub(super) async fn run(
    server: &Arc<Server>,
    target: &Target,
    parameters: &Parameters,
) -> Response<Body> {
    let id = match running(target) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let command: Vec<String> = match parameters.get("cmd") {
        Some(line) => line.split_whitespace().map(str::to_owned).collect(),
        None => parameters.all("command").map(str::to_owned).collect(),
    };
    match hook::run(&server.context.deps.runtime, &id, &command).await {
        Ok(ran) if ran.code == 0 => text(StatusCode::OK, ran.output),
        Ok(ran) => text(StatusCode::INTERNAL_SERVER_ERROR, ran.output),
        Err(message) => text(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_asked_for_by_either_name() {
        let wanted = |stdin, stdout, stderr, tty| Wanted { stdin, stdout, stderr, tty };
        for (query, expected, first) in [
            ("input=1&output=1&error=1", wanted(true, true, true, false), STDOUT),
            ("stdin=true&stdout=true&stderr=true", wanted(true, true, true, false), STDOUT),
            ("output=1&error=1&tty=1", wanted(false, true, false, true), STDOUT),
            ("error=1", wanted(false, false, true, false), STDERR),
            ("input=1&output=0&tty=1", wanted(true, false, false, true), ERROR),
        ] {
            let parsed = Wanted::parse(&Parameters::parse(query));
            assert_eq!(parsed, Ok(expected), "{query}");
            assert_eq!(expected.first_channel(), first, "{query}");
        }
        for query in ["", "tty=1", "error=1&tty=1", "input=0&output=false"] {
            assert!(Wanted::parse(&Parameters::parse(query)).is_err(), "{query}");
        }
    }
}
