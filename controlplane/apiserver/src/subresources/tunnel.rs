//! Bytes of another protocol within the binary messages of a WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

/// The largest message that is sent.
const MESSAGE_MAX_BYTES: usize = 32 * 1024;

/// A WebSocket as a stream of bytes. Where messages begin and end means nothing.
pub(super) struct Tunnel<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S> Tunnel<S> {
    pub(super) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, unread: Bytes::new() }
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let bytes = &bytes[..bytes.len().min(MESSAGE_MAX_BYTES)];
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn bytes_go_through_in_order() {
        let (a, b) = tokio::io::duplex(16 * 1024);
        let mut client = WebSocketStream::from_raw_socket(a, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(b, Role::Server, None).await;
        let mut tunnel = Tunnel::new(server);
        for part in ["one ", "", "two "] {
            client.send(Message::Binary(Bytes::from_static(part.as_bytes()))).await.unwrap();
        }
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        client.send(Message::Binary(Bytes::from_static(b"three"))).await.unwrap();
        let mut got = [0; 13];
        tunnel.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two three");
        let echo = tokio::spawn(async move {
            tunnel.write_all(&vec![7; 100_000]).await.unwrap();
            tunnel.shutdown().await.unwrap();
        });
        let mut count = 0;
        while let Some(Ok(message)) = futures::StreamExt::next(&mut client).await {
            if let Message::Binary(bytes) = message {
                count += bytes.len();
            }
        }
        assert_eq!(count, 100_000);
        echo.await.unwrap();
    }
}
