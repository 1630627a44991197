//! port-forward for clients of SPDY: every connection is a pair of streams, data and errors, and
//! becomes a WebSocket of its own to the kubelet.
//!
//! Source: kubernetes cri/streaming/portforward/httpstream.go, v1.36.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use objects::ApiError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tracing::{Instrument as _, debug};

use super::kubelet::{self, Place};
use super::spdy::{Piece, Reader, Stream, Streams, Writer, session};
use super::target::Target;
use crate::call::Call;
use crate::server::Server;

/// How long a stream waits for the other of its pair: upstream's figure.
const PAIRED_WITHIN: Duration = Duration::from_secs(30);
/// How often those that have waited too long are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

const DATA: u8 = 0;
const ERROR: u8 = 1;
const CLOSE: u8 = 255;

/// The pod whose ports are forwarded.
#[derive(Clone)]
pub(super) struct Pod {
    server: Arc<Server>,
    place: Place,
    namespace: String,
    name: String,
}

impl Pod {
    pub(super) fn new(server: &Arc<Server>, call: &Call, target: &Target) -> Self {
        Self {
            server: Arc::clone(server),
            place: target.place.clone(),
            namespace: call.namespace().to_string(),
            name: call.name().to_string(),
        }
    }

    async fn connect(&self, port: u16) -> Result<kubelet::Socket, ApiError> {
        let query = [("port".to_string(), port.to_string())];
        let uri = kubelet::uri(&["portForward", &self.namespace, &self.name], &query);
        kubelet::websocket(&self.server, &self.place, uri).await
    }
}

/// Carries connections until the client is gone.
pub(super) async fn carry<C: AsyncRead + AsyncWrite + Send>(client: C, pod: Pod) {
    let (streams, work) = session::begin(client);
    tokio::select! {
        ended = work => if let Err(error) = ended {
            debug!(%error, "the client's connection broke off");
        },
        () = accept(streams, pod) => {}
    }
}

async fn accept(mut streams: Streams, pod: Pod) {
    let mut waiting = Waiting::default();
    // Dropped with this future: no connection outlives its client.
    let mut connections = JoinSet::new();
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            stream = streams.next() => {
                let Some(stream) = stream else { return };
                match waiting.pair(stream, Instant::now()) {
                    Paired::Both(pair) => {
                        connections.spawn(forward(pod.clone(), pair).in_current_span());
                    }
                    Paired::Waiting => {}
                    Paired::Bad(stream) => refuse(&stream).await,
                }
            }
            Some(_) = connections.join_next() => {}
            _ = sweeps.tick() => {
                for stream in waiting.expired(Instant::now()) {
                    refuse(&stream).await;
                }
            }
        }
    }
}

async fn refuse(stream: &Stream) {
    if stream.writer.reset().await.is_err() {
        debug!(id = stream.id, "the client was gone before its stream was refused");
    }
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    data: Stream,
    error: Stream,
}

enum Paired {
    Both(Pair),
    Waiting,
    Bad(Stream),
}

/// Streams whose other is not there yet, by request. There are no more than a session has streams.
#[derive(Default)]
struct Waiting(HashMap<String, (Stream, Instant)>);

impl Waiting {
    fn pair(&mut self, stream: Stream, now: Instant) -> Paired {
        let is_data = match stream.header("streamtype") {
            "data" => true,
            "error" => false,
            _ => return Paired::Bad(stream),
        };
        let port = stream.header("port").parse::<u16>();
        let Some(port) = port.ok().filter(|port| *port > 0) else { return Paired::Bad(stream) };
        let request = request(&stream, is_data);
        let Some((other, _)) = self.0.remove(&request) else {
            self.0.insert(request, (stream, now));
            return Paired::Waiting;
        };
        match (is_data, other.header("streamtype")) {
            (true, "error") => Paired::Both(Pair { port, data: stream, error: other }),
            (false, "data") => Paired::Both(Pair { port, data: other, error: stream }),
            // The same half twice.
            _ => {
                self.0.insert(request, (other, now));
                Paired::Bad(stream)
            }
        }
    }

    fn expired(&mut self, now: Instant) -> Vec<Stream> {
        let late: Vec<String> = self
            .0
            .iter()
            .filter(|(_, (_, since))| now.duration_since(*since) >= PAIRED_WITHIN)
            .map(|(request, _)| request.clone())
            .collect();
        late.iter().filter_map(|request| self.0.remove(request)).map(|(stream, _)| stream).collect()
    }
}

/// Which connection a stream belongs to. Clients older than requests open the error stream first
/// and the data stream right behind it.
fn request(stream: &Stream, is_data: bool) -> String {
    match stream.header("requestid") {
        "" if is_data => stream.id.wrapping_sub(2).to_string(),
        "" => stream.id.to_string(),
        request => request.to_string(),
    }
}

/// One connection, from its pair of streams to its end.
async fn forward(pod: Pod, pair: Pair) {
    let Pair { port, data, error } = pair;
    let connected = pod.connect(port).await;
    let outcome = match connected {
        Ok(socket) => exchange(socket, data.reader, &data.writer, &error.writer).await,
        Err(failure) => {
            let text =
                format!("error forwarding port {port} to pod {}: {}", pod.name, failure.message);
            match error.writer.send(Bytes::from(text)).await {
                Ok(()) => Outcome::Over,
                Err(session::Ended) => Outcome::GivenUp,
            }
        }
    };
    let said = match outcome {
        Outcome::Over => match data.writer.finish().await {
            Ok(()) => error.writer.finish().await,
            ended => ended,
        },
        Outcome::GivenUp => error.writer.finish().await,
    };
    for writer in [&data.writer, &error.writer] {
        writer.forget();
    }
    if said.is_err() {
        debug!("the client was gone at the end of a connection");
    }
}

/// How a connection ended.
enum Outcome {
    /// The pod's side is done.
    Over,
    /// The client wants no more.
    GivenUp,
}

async fn exchange<K: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<K>,
    reader: Reader,
    data: &Writer,
    error: &Writer,
) -> Outcome {
    let (sink, incoming) = socket.split();
    tokio::select! {
        () = receive(incoming, data, error) => Outcome::Over,
        () = feed(reader, sink) => Outcome::GivenUp,
    }
}

/// Hands on what the client sends. Returns when the client has given the stream up.
async fn feed<K: AsyncRead + AsyncWrite + Unpin>(
    mut reader: Reader,
    mut sink: SplitSink<WebSocketStream<K>, Message>,
) {
    loop {
        let message = match reader.next().await {
            Some(Piece::Data(bytes)) => {
                let mut out = BytesMut::with_capacity(bytes.len() + 1);
                out.put_u8(DATA);
                out.extend_from_slice(&bytes);
                out.freeze()
            }
            Some(Piece::End) => Bytes::from_static(&[CLOSE, DATA]),
            Some(Piece::Reset) | None => return,
        };
        if sink.send(Message::Binary(message)).await.is_err() {
            // The receiving side finds out why.
            return std::future::pending().await;
        }
    }
}

/// Hands on what the pod sends, until its end.
async fn receive<K: AsyncRead + AsyncWrite + Unpin>(
    mut incoming: SplitStream<WebSocketStream<K>>,
    data: &Writer,
    error: &Writer,
) {
    // The first message of each channel is the port's number.
    let mut announced = [false; 2];
    loop {
        let mut message = match incoming.next().await {
            Some(Ok(Message::Binary(message))) if !message.is_empty() => message,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            Some(Ok(_)) => continue,
        };
        let bytes = message.split_off(1);
        let writer = match message[0] {
            DATA => data,
            ERROR => error,
            _ => continue,
        };
        let is_announced = &mut announced[usize::from(message[0])];
        if !std::mem::replace(is_announced, true) {
            continue;
        }
        if writer.send(bytes).await.is_err() {
            return;
        }
    }
}
