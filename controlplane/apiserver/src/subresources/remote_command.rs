//! exec and attach for clients of SPDY: their streams become the channels of a kubelet's
//! WebSocket.
//!
//! Source: kubernetes cri/streaming/remotecommand/httpstream.go, v1.36. Versions differ in what
//! the error stream says (text up to v3, a Status from v4 on) and in the resize stream (from v3).

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tracing::debug;

use super::spdy::{Piece, Reader, Stream, Streams, Writer, session};

/// What is served, the preferred first. v5 adds to WebSockets what SPDY always had: half closing.
pub(super) const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How long the client may take to open the streams it has asked for: upstream's figure.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);
/// Messages waiting to be sent to the kubelet.
const WAITING_MAX: usize = 16;
/// The largest size of a terminal, as JSON.
const RESIZE_MAX_BYTES: usize = 4 * 1024;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The streams that the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// The streams as they were opened.
#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    fn is_complete(&self, wanted: Wanted, with_resize: bool) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == wanted.stdin
            && self.stdout.is_some() == wanted.stdout
            && self.stderr.is_some() == wanted.stderr
            && (self.resize.is_some() || !(wanted.tty && with_resize))
    }

    /// Takes a stream in; gives one back that nobody asked for.
    fn take(&mut self, stream: Stream, wanted: Wanted) -> Option<Stream> {
        let place = match stream.header("streamtype") {
            "error" => &mut self.error,
            "stdin" if wanted.stdin => &mut self.stdin,
            "stdout" if wanted.stdout => &mut self.stdout,
            "stderr" if wanted.stderr => &mut self.stderr,
            "resize" if wanted.tty => &mut self.resize,
            _ => return Some(stream),
        };
        place.replace(stream)
    }
}

/// Carries the streams of a client until the process has ended or the client is gone. If the
/// client goes first, the kubelet's connection is dropped, and the process with it.
pub(super) async fn carry<C, K>(
    client: C,
    kubelet: WebSocketStream<K>,
    wanted: Wanted,
    protocol: &'static str,
) where
    C: AsyncRead + AsyncWrite + Send,
    K: AsyncRead + AsyncWrite + Unpin,
{
    let (streams, work) = session::begin(client);
    let mut work = std::pin::pin!(work);
    let has_ended = tokio::select! {
        ended = &mut work => {
            debug!(?ended, "the client left before the end");
            false
        }
        () = bridge(streams, kubelet, wanted, protocol) => true,
    };
    if has_ended && let Err(error) = work.await {
        debug!(%error, "the client was gone at the end");
    }
}

async fn bridge<K: AsyncRead + AsyncWrite + Unpin>(
    mut streams: Streams,
    kubelet: WebSocketStream<K>,
    wanted: Wanted,
    protocol: &'static str,
) {
    let with_resize = matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let gathered = gather(&mut streams, wanted, with_resize);
    match tokio::time::timeout(STREAMS_WITHIN, gathered).await {
        Ok(Some(opened)) => exchange(opened, kubelet, protocol).await,
        Ok(None) => {}
        Err(_) => debug!("timed out waiting for client to create streams"),
    }
    streams.close().await;
}

async fn gather(streams: &mut Streams, wanted: Wanted, with_resize: bool) -> Option<Opened> {
    let mut opened = Opened::default();
    while !opened.is_complete(wanted, with_resize) {
        let stream = streams.next().await?;
        if let Some(unwanted) = opened.take(stream, wanted) {
            unwanted.writer.reset().await.ok()?;
        }
    }
    Some(opened)
}

/// From all streams being there to the process' end, which the error stream tells.
async fn exchange<K: AsyncRead + AsyncWrite + Unpin>(
    opened: Opened,
    kubelet: WebSocketStream<K>,
    protocol: &str,
) {
    let (mut sink, mut incoming) = kubelet.split();
    let (messages, mut queue) = mpsc::channel::<Message>(WAITING_MAX);
    let sending = async {
        while let Some(message) = queue.recv().await {
            if let Err(error) = sink.send(message).await {
                // Its last words may still come.
                return debug!(%error, "the kubelet takes no more input");
            }
        }
    };
    let input = async {
        tokio::join!(
            feed(opened.stdin.map(|stream| stream.reader), &messages),
            resize(opened.resize.map(|stream| stream.reader), &messages),
            sending,
        );
        std::future::pending::<()>().await;
    };
    let stdout = opened.stdout.map(|stream| stream.writer);
    let stderr = opened.stderr.map(|stream| stream.writer);
    let output = receive(&mut incoming, stdout.as_ref(), stderr.as_ref());
    let status = tokio::select! {
        status = output => status,
        () = input => return,
    };
    let said = verdict(&status, protocol);
    let error = opened.error.map(|stream| stream.writer);
    for (writer, bytes) in [(stdout, Bytes::new()), (stderr, Bytes::new()), (error, said)] {
        let Some(writer) = writer else { continue };
        if !bytes.is_empty() && writer.send(bytes).await.is_err() || writer.finish().await.is_err()
        {
            return;
        }
    }
}

/// Hands on output until the kubelet says how the process ended; returns that Status.
async fn receive<K: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut SplitStream<WebSocketStream<K>>,
    stdout: Option<&Writer>,
    stderr: Option<&Writer>,
) -> Bytes {
    let broken = |why: &str| {
        let status = json!({"metadata": {}, "status": "Failure", "reason": "InternalError",
            "message": why, "code": 500});
        Bytes::from(status.to_string())
    };
    loop {
        let mut message = match incoming.next().await {
            Some(Ok(Message::Binary(message))) if !message.is_empty() => message,
            Some(Ok(Message::Close(_))) | None => {
                return broken("the connection to the node ended before the command");
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return broken(&format!("the connection to the node: {error}")),
        };
        let bytes = message.split_off(1);
        let writer = match message[0] {
            ERROR if !bytes.is_empty() => return bytes,
            STDOUT => stdout,
            STDERR => stderr,
            _ => None,
        };
        if let Some(writer) = writer.filter(|_| !bytes.is_empty())
            && writer.send(bytes).await.is_err()
        {
            return broken("the client is gone");
        }
    }
}

/// What the error stream says. PURE.
fn verdict(status: &Bytes, protocol: &str) -> Bytes {
    if protocol == "v4.channel.k8s.io" {
        return status.clone();
    }
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    match status["status"].as_str() {
        Some("Success") => Bytes::new(),
        _ => Bytes::from(status["message"].as_str().unwrap_or("unknown error").to_string()),
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut out = BytesMut::with_capacity(bytes.len() + 1);
    out.put_u8(channel);
    out.extend_from_slice(bytes);
    Message::Binary(out.freeze())
}

/// Hands on what the client types.
async fn feed(reader: Option<Reader>, messages: &mpsc::Sender<Message>) {
    let Some(mut reader) = reader else { return };
    loop {
        let (next, is_last) = match reader.next().await {
            Some(Piece::Data(bytes)) => (message(STDIN, &bytes), false),
            Some(Piece::End | Piece::Reset) => (message(CLOSE, &[STDIN]), true),
            None => return,
        };
        if messages.send(next).await.is_err() || is_last {
            return;
        }
    }
}

/// Hands on sizes of the terminal, each as one message however it was cut up.
async fn resize(reader: Option<Reader>, messages: &mpsc::Sender<Message>) {
    let Some(mut reader) = reader else { return };
    let mut unread = Vec::new();
    while let Some(Piece::Data(bytes)) = reader.next().await {
        unread.extend_from_slice(&bytes);
        for size in sizes(&mut unread) {
            if messages.send(message(RESIZE, size.to_string().as_bytes())).await.is_err() {
                return;
            }
        }
        if unread.len() > RESIZE_MAX_BYTES {
            return debug!("no sizes come on the resize stream");
        }
    }
}

/// The whole JSON values at the beginning of `unread`, which keeps the rest. PURE.
fn sizes(unread: &mut Vec<u8>) -> Vec<Value> {
    let mut values = serde_json::Deserializer::from_slice(unread).into_iter::<Value>();
    let mut out = Vec::new();
    let mut read = 0;
    while let Some(Ok(value)) = values.next() {
        out.push(value);
        read = values.byte_offset();
    }
    unread.drain(..read);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_put_together() {
        let mut unread = br#"{"Width":80,"Height":24}{"Width":8"#.to_vec();
        assert_eq!(sizes(&mut unread), [json!({"Width": 80, "Height": 24})]);
        unread.extend_from_slice(b"1,\"Height\":25}\n");
        assert_eq!(sizes(&mut unread), [json!({"Width": 81, "Height": 25})]);
        assert!(unread.len() <= 1);
    }

    #[test]
    fn old_versions_are_told_in_words() {
        let success = Bytes::from_static(br#"{"status":"Success"}"#);
        let failure = Bytes::from_static(br#"{"status":"Failure","message":"exit code 3"}"#);
        assert_eq!(verdict(&failure, "v4.channel.k8s.io"), failure);
        for old in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"] {
            assert_eq!(verdict(&success, old), Bytes::new());
            assert_eq!(verdict(&failure, old), "exit code 3");
        }
    }
}
