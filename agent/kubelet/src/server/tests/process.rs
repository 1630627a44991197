//! Exec and attach: the test plays the process at the far ends of its streams.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use nix::pty::openpty;
use nix::unistd::pipe;
use runtime::{RuntimeError, Streams};
use rustix::termios::tcgetwinsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Near, hear, hear_all, say, sockets, soon};
use crate::server::exec::{Session, Wanted, carry};
use crate::streams::FdStream;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const NEVER: Duration = Duration::from_secs(3600);

/// A process's ends of its streams, and its exit code.
struct Process {
    stdin: FdStream,
    stdout: FdStream,
    stderr: FdStream,
    exit: oneshot::Sender<i32>,
}

fn waitable(stream: OwnedFd) -> FdStream {
    FdStream::new(stream).unwrap()
}

fn exit_of(
    receiver: oneshot::Receiver<i32>,
) -> futures::future::BoxFuture<'static, Result<i32, RuntimeError>> {
    async { receiver.await.map_err(|_| RuntimeError::NotRunning { id: "c".into() }) }.boxed()
}

fn process() -> (Session, Process) {
    let (stdin_far, stdin) = pipe().unwrap();
    let (stdout, stdout_far) = pipe().unwrap();
    let (stderr, stderr_far) = pipe().unwrap();
    let (exit, exited) = oneshot::channel();
    let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    let process = Process {
        stdin: waitable(stdin_far),
        stdout: waitable(stdout_far),
        stderr: waitable(stderr_far),
        exit,
    };
    (Session { streams, exit: exit_of(exited) }, process)
}

/// Serves a session in the background; the client's end.
async fn served(
    session: Result<Session, RuntimeError>,
    wanted: Wanted,
    ping_every: Duration,
) -> (Near, tokio::task::JoinHandle<()>) {
    let (server, client) = sockets().await;
    let task = tokio::spawn(carry(server, async move { session }, wanted, ping_every));
    (client, task)
}

fn verdict(messages: &[(u8, Vec<u8>)]) -> serde_json::Value {
    let (channel, text) = messages.last().expect("a verdict");
    assert_eq!(*channel, 3);
    serde_json::from_slice(text).unwrap()
}

#[tokio::test]
async fn a_process_talks_and_fails() {
    let (session, mut process) = process();
    let (mut client, task) = served(Ok(session), ALL, NEVER).await;
    let played = tokio::spawn(async move {
        let mut heard = String::new();
        // Ends only because the client's half is closed.
        process.stdin.read_to_string(&mut heard).await.unwrap();
        process.stdout.write_all(heard.to_uppercase().as_bytes()).await.unwrap();
        process.stderr.write_all(b"oops").await.unwrap();
        drop((process.stdout, process.stderr));
        process.exit.send(3).unwrap();
    });
    assert_eq!(hear(&mut client).await.unwrap(), (1, "".into()), "the connection stands");
    say(&mut client, b"\x00hello ").await;
    say(&mut client, b"\x00").await;
    say(&mut client, b"\x09unknown").await;
    say(&mut client, b"\x00world").await;
    say(&mut client, b"\xff\x00").await;
    let mut messages = hear_all(&mut client).await;
    let status = verdict(&messages);
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    messages.pop();
    messages.sort();
    assert_eq!(messages, [(1, b"HELLO WORLD".to_vec()), (2, b"oops".to_vec())]);
    played.await.unwrap();
    soon("the end", task).await.unwrap();
}

#[tokio::test]
async fn much_output_waits_for_a_slow_client() {
    let (session, process) = process();
    let (mut client, _task) = served(Ok(session), ALL, NEVER).await;
    let text: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let Process { stdin: _stdin, mut stdout, stderr, exit } = process;
    drop(stderr);
    let sent = text.clone();
    let mut writing = tokio::spawn(async move { stdout.write_all(&sent).await });
    // Nobody reads: queues and pipes hold less than there is, so the process stands still.
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut writing).await;
    assert!(waited.is_err(), "the node keeps no 2 MB for a client");
    exit.send(0).unwrap();
    let messages = hear_all(&mut client).await;
    assert_eq!(messages[0], (1, text));
    assert_eq!(verdict(&messages)["status"], "Success");
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_wanted_is_read_and_not_sent() {
    let (session, mut process) = process();
    let wanted = Wanted { stdout: false, stdin: false, ..ALL };
    let (mut client, _task) = served(Ok(session), wanted, NEVER).await;
    assert_eq!(hear(&mut client).await.unwrap(), (2, "".into()), "the lowest channel that is sent");
    // More than a pipe holds.
    soon("unwanted output", process.stdout.write_all(&[b'x'; 300_000])).await.unwrap();
    process.stderr.write_all(b"seen").await.unwrap();
    // No stdin: its end is at once.
    assert_eq!(soon("the end of stdin", process.stdin.read(&mut [0; 8])).await.unwrap(), 0);
    drop((process.stdout, process.stderr));
    process.exit.send(0).unwrap();
    let messages = hear_all(&mut client).await;
    assert_eq!(messages[0], (2, b"seen".to_vec()));
    assert_eq!(verdict(&messages)["status"], "Success");
}

#[tokio::test]
async fn a_terminal_is_resized_and_has_no_end_of_input() {
    let pty = openpty(None, None).unwrap();
    let (exit, exited) = oneshot::channel();
    let streams = Streams {
        stdin: Some(pty.master.try_clone().unwrap()),
        stdout: Some(pty.master),
        stderr: None,
    };
    let session = Session { streams, exit: exit_of(exited) };
    let wanted = Wanted { stderr: false, tty: true, ..ALL };
    let (mut client, _task) = served(Ok(session), wanted, NEVER).await;
    assert_eq!(hear(&mut client).await.unwrap(), (1, "".into()));
    say(&mut client, b"\x04nonsense").await;
    say(&mut client, b"\x04{\"Width\":132,\"Height\":43}").await;
    say(&mut client, b"\xff\x00").await;
    say(&mut client, b"\x00line\n").await;
    let mut slave = waitable(pty.slave.try_clone().unwrap());
    let mut line = [0; 5];
    soon("a line", slave.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"line\n", "input after what would be the end of a pipe");
    let size = tcgetwinsize(&pty.slave).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (132, 43));
    drop((slave, pty.slave));
    exit.send(0).unwrap();
    let messages = hear_all(&mut client).await;
    assert_eq!(messages[0], (1, b"line\r\n".to_vec()), "the terminal's echo");
    assert_eq!(verdict(&messages)["status"], "Success");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let error = RuntimeError::Start { id: "c".into(), reason: "no such file".into() };
    let (mut client, _task) = served(Err(error), ALL, NEVER).await;
    assert_eq!(hear(&mut client).await.unwrap(), (1, "".into()));
    let verdict = hear(&mut client).await.unwrap();
    let end = soon("the end", client.next()).await.unwrap().unwrap();
    assert!(matches!(end, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    let (3, text) = verdict else { panic!("{verdict:?}") };
    let status: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(status["reason"], "InternalError");
    assert!(status["message"].as_str().unwrap().contains("no such file"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_process() {
    let (session, mut process) = process();
    let (client, task) = served(Ok(session), ALL, NEVER).await;
    drop(client);
    soon("the process's end", process.exit.closed()).await;
    soon("the end", task).await.unwrap();
    let (session, mut process) = self::process();
    let (mut client, task) = served(Ok(session), ALL, NEVER).await;
    client.close(None).await.unwrap();
    soon("the process's end", process.exit.closed()).await;
    assert!(hear_all(&mut client).await.iter().all(|(_, bytes)| bytes.is_empty()));
    soon("the end", task).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_is_missed_although_stdin_is_full() {
    let (session, mut process) = process();
    let (mut client, task) = served(Ok(session), ALL, Duration::from_millis(5)).await;
    // More than the pipe and the connection hold together: the server waits for the process.
    let piece = [0; 64 * 1024];
    for _ in 0..2 {
        say(&mut client, &piece).await;
    }
    drop(client);
    soon("the process's end", process.exit.closed()).await;
    soon("the end", task).await.unwrap();
}
