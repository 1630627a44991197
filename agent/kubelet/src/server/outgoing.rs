//! The writing half of a WebSocket, and its end.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How often a client shows that it is still there. While a process does not read its stdin,
/// nothing is read from the client either, and only writing finds out that it is gone.
pub(super) const PING_EVERY: Duration = Duration::from_secs(15);
/// How long a client may take to agree to the end.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Sends messages, and pings between them. Returns when all senders are gone and everything is
/// sent, or as soon as the client is gone.
pub(super) async fn send_all<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut messages: mpsc::Receiver<Bytes>,
    ping_every: Duration,
) {
    let mut pings = tokio::time::interval_at(Instant::now() + ping_every, ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = messages.recv() => match message {
                Some(message) => Message::Binary(message),
                None => break,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // Everything has been said (RFC 6455, 1000): clients take any other end for a failure.
    let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    if let Err(error) = sink.send(Message::Close(Some(end))).await {
        tracing::debug!(%error, "the client was gone at the end");
    }
}

/// Reads what the client still sends, until it is done. A socket closed with bytes unread is
/// reset, and then the client may lose what it has been sent last: the exit code.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(
    mut incoming: SplitStream<WebSocketStream<S>>,
) {
    let rest = async { while let Some(Ok(_)) = incoming.next().await {} };
    if tokio::time::timeout(LINGER_MAX, rest).await.is_err() {
        tracing::debug!("the client goes on sending after the end");
    }
}
