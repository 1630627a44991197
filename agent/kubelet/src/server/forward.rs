//! `/portForward`: connections to ports within a pod's network, over one WebSocket.
//!
//! With `ports=P` (repeated) channel `2i` carries the data of the i-th port and `2i+1` its errors;
//! each begins with the port's number, little-endian. Source: kubernetes
//! pkg/kubelet/../cri/streaming/portforward/websocket.go.
//!
//! Each port is one connection. Clients that speak SPDY through a WebSocket
//! (`v2.portforward.k8s.io`) open a pair of streams for every connection: that is for the API
//! server to unpack, by one request with a single port for each pair. Then channel 0 is the data
//! stream, channel 1 the error stream; message `255, 0` is the client's end of data, and the
//! WebSocket is closed when the pod's end is reached.

use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::SplitStream;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tracing::Instrument as _;

use super::channels::{CLOSE, PROTOCOLS, frame};
use super::outgoing::{PING_EVERY, linger, send_all};
use super::query::Parameters;
use super::upgrade::agree;
use super::{Body, Server, text};
use crate::pod::PodExt;
use crate::worker::Published;

/// Messages waiting on either side of a connection.
const WAITING_MAX: usize = 16;
/// Most ports of one request: channels are numbered by a byte.
const PORTS_MAX: usize = 100;
/// A connection within the node is made at once or not at all.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const PIECE_BYTES: usize = 32 * 1024;

/// Agrees to the WebSocket and begins to forward.
pub(super) fn answer(
    server: &Arc<Server>,
    request: Request<Incoming>,
    published: Published,
    parameters: &Parameters,
) -> Response<Body> {
    let given = parameters.all("ports").chain(parameters.all("port"));
    let ports: Result<Vec<u16>, _> = given
        .flat_map(|text| text.split(','))
        .map(|text| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(text.to_owned()))
        .collect();
    let ports = match ports {
        Ok(ports) if !ports.is_empty() && ports.len() <= PORTS_MAX => ports,
        Ok(_) => return text(StatusCode::BAD_REQUEST, "query parameter \"ports\" is required\n"),
        Err(bad) => return text(StatusCode::BAD_REQUEST, format!("invalid port {bad:?}\n")),
    };
    let Some(sandbox) = &published.sandbox else {
        return text(StatusCode::BAD_REQUEST, "the pod is not running\n");
    };
    let netns = sandbox.netns.clone();
    let agreed = match agree(request, &PROTOCOLS) {
        Ok(agreed) => agreed,
        Err(response) => return response,
    };
    let span = tracing::info_span!("stream", what = "portforward", pod = %published.pod.key());
    let (response, task) = agreed.split(|socket| carry(socket, netns, ports));
    server.streams.spawn(task.instrument(span));
    response
}

/// Carries connections until all of them have ended or the client is gone.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    netns: Option<PathBuf>,
    ports: Vec<u16>,
) {
    let (sink, mut incoming) = socket.split();
    let (outgoing, messages) = mpsc::channel::<Bytes>(WAITING_MAX);
    let mut inputs = Vec::new();
    let mut connections = tokio::task::JoinSet::new();
    for (index, port) in ports.into_iter().enumerate() {
        let channel = u8::try_from(2 * index).expect("at most 100 ports");
        let (input, bytes) = mpsc::channel::<Bytes>(WAITING_MAX);
        inputs.push(Some(input));
        let (netns, outgoing) = (netns.clone(), outgoing.clone());
        connections.spawn(forward(netns, port, channel, bytes, outgoing).in_current_span());
    }
    drop(outgoing);
    let is_done = tokio::select! {
        () = send_all(sink, messages, PING_EVERY) => true,
        () = receive(&mut incoming, &mut inputs) => false,
    };
    connections.shutdown().await;
    if is_done {
        linger(incoming).await;
    }
}

/// Hands what the client sends to the connections. Returns when the client is gone.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut SplitStream<WebSocketStream<S>>,
    inputs: &mut [Option<mpsc::Sender<Bytes>>],
) {
    while let Some(Ok(message)) = incoming.next().await {
        let mut message = match message {
            Message::Binary(message) if !message.is_empty() => message,
            Message::Close(_) => return,
            _ => continue,
        };
        let body = message.split_off(1);
        let (channel, ends) = match message[0] {
            CLOSE => (body.first().copied(), true),
            channel => (Some(channel), false),
        };
        // Clients have nothing to say on error channels, and often close them at once.
        let Some(channel) = channel.filter(|channel| channel % 2 == 0) else { continue };
        let Some(input) = inputs.get_mut(usize::from(channel / 2)) else { continue };
        if ends {
            *input = None;
        } else if let Some(sender) = input
            && sender.send(body).await.is_err()
        {
            // The connection has ended: its port's error channel has said why.
            *input = None;
        }
    }
}

/// One connection, from its port's announcement to its end.
async fn forward(
    netns: Option<PathBuf>,
    port: u16,
    channel: u8,
    mut input: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Bytes>,
) {
    for channel in [channel, channel + 1] {
        if outgoing.send(frame(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let stream = match connect(netns, port).await {
        Ok(stream) => stream,
        Err(error) => {
            let message = format!("failed to connect to port {port} within the pod: {error}");
            drop(outgoing.send(frame(channel + 1, message.as_bytes())).await);
            return;
        }
    };
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        while let Some(bytes) = input.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The client is done sending; the answer may still come.
        drop(write.shutdown().await);
    };
    let receiving = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count) = read.read(&mut piece).await {
            if count == 0 || outgoing.send(frame(channel, &piece[..count])).await.is_err() {
                return;
            }
        }
    };
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        () = &mut receiving => {}
        () = sending => receiving.await,
    }
}

/// Connects to a port on the loopback of a network namespace. The socket belongs to the namespace
/// in which it was made, so a thread that ends right after goes there and nobody else does.
async fn connect(netns: Option<PathBuf>, port: u16) -> std::io::Result<TcpStream> {
    let (sender, receiver) = oneshot::channel();
    let made = std::thread::Builder::new().name("portforward".into()).spawn(move || {
        let connected = (|| {
            if let Some(netns) = netns {
                setns(std::fs::File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
            }
            let v4 = SocketAddr::from(([127, 0, 0, 1], port));
            let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
            let first = BlockingStream::connect_timeout(&v4, CONNECT_MAX);
            first.or_else(|error| {
                BlockingStream::connect_timeout(&v6, CONNECT_MAX).map_err(|_| error)
            })
        })();
        drop(sender.send(connected));
    });
    made?;
    let stream = receiver.await.map_err(std::io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
