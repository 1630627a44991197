//! `/exec`, `/attach` and `/run`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runtime::{ContainerState, ExecSpec, RuntimeError, Streams};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tracing::Instrument as _;

use super::channels::{ERROR, PROTOCOLS, Received, STDERR, STDOUT, frame, parse, verdict};
use super::query::Parameters;
use super::route::Target;
use super::upgrade::{Socket, agree};
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

/// A process and its streams.
struct Session {
    streams: Streams,
    /// Ends with the process.
    exit: BoxFuture<'static, Result<i32, RuntimeError>>,
    tty: bool,
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
    let spec = ExecSpec {
        args: parameters.all("command").map(str::to_owned).collect(),
        tty: parameters.flag(&["tty"]),
        stdin: parameters.flag(&["stdin", "input"]),
    };
    if spec.args.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least one command\n");
    }
    let runtime = Arc::clone(&server.context.deps.runtime);
    stream(request, "exec", &target, move || {
        async move {
            let session = runtime.exec(&id, &spec).await?;
            Ok(Session { streams: session.streams, exit: session.exit, tty: spec.tty })
        }
        .boxed()
    })
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
    let tty = listed.is_some_and(|listed| listed.spec.tty == Some(true));
    let stdin = parameters.flag(&["stdin", "input"]);
    let runtime = Arc::clone(&server.context.deps.runtime);
    stream(request, "attach", &target, move || {
        async move {
            let streams = runtime.attach(&id, stdin).await?;
            // Attaching says nothing about the exit code: it is success whenever output ends.
            Ok(Session { streams, exit: async { Ok(0) }.boxed(), tty })
        }
        .boxed()
    })
}

fn stream(
    request: Request<Incoming>,
    what: &'static str,
    target: &Target,
    open: impl FnOnce() -> BoxFuture<'static, Result<Session, RuntimeError>> + Send + 'static,
) -> Response<Body> {
    let agreed = match agree(request, &PROTOCOLS) {
        Ok(agreed) => agreed,
        Err(response) => return response,
    };
    let span = tracing::info_span!("stream", what, pod = %target.published.pod.key());
    let (response, socket) = agreed.split();
    let task = async move {
        let Some(socket) = socket.await else { return };
        let opened = open().await.map_err(|error| whole(&error));
        carry(socket, opened).await;
    };
    tokio::spawn(task.instrument(span));
    response
}

/// The end of a connection on which everything has been said (RFC 6455, 1000).
fn normal_end() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }
}

/// Carries streams between the process and the client until the process has ended.
async fn carry(socket: Socket, opened: Result<Session, String>) {
    let (mut sink, mut incoming) = socket.split();
    let (outgoing, mut messages) = mpsc::channel::<Bytes>(OUTGOING_MAX);
    let sending = async move {
        while let Some(message) = messages.recv().await {
            if sink.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
        // Clients take any other end for a failure. They may be gone already.
        drop(sink.send(Message::Close(Some(normal_end()))).await);
        drop(sink.close().await);
    };
    let working = async move {
        let outcome = match opened {
            Err(message) => Err(message),
            Ok(session) => {
                let Session { streams, exit, tty } = session;
                let terminal = streams.stdin.as_ref().or(streams.stdout.as_ref());
                let terminal = terminal.filter(|_| tty).and_then(|fd| fd.try_clone().ok());
                let output = async {
                    tokio::join!(
                        pump(streams.stdout, STDOUT, &outgoing),
                        pump(streams.stderr, STDERR, &outgoing),
                    );
                    exit.await.map_err(|error| whole(&error))
                };
                tokio::select! {
                    outcome = output => outcome,
                    () = feed(&mut incoming, streams.stdin, terminal) => return,
                }
            }
        };
        let verdict = verdict(&outcome).to_string();
        drop(outgoing.send(frame(ERROR, verdict.as_bytes())).await);
    };
    tokio::join!(sending, working);
}

/// Sends what a process writes.
async fn pump(stream: Option<OwnedFd>, channel: u8, outgoing: &mpsc::Sender<Bytes>) {
    let Some(Ok(mut stream)) = stream.map(FdStream::new) else { return };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if outgoing.send(frame(channel, &piece[..count])).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Hands what the client sends to the process. Returns when the client is gone.
async fn feed(
    incoming: &mut futures::stream::SplitStream<Socket>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
) {
    let mut stdin = stdin.and_then(|stdin| FdStream::new(stdin).ok());
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
            Received::Resize { width, height } => {
                if let Some(terminal) = &terminal {
                    let size =
                        Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
                    if let Err(error) = tcsetwinsize(terminal, size) {
                        tracing::debug!(%error, "terminal not resized");
                    }
                }
            }
        }
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
