//! A connection of SPDY with the streams that the client opens on it.
//!
//! Kubernetes' clients neither count windows nor send `WINDOW_UPDATE`: what holds a fast sender
//! back is TCP. So the queue of each stream is bounded, and while it is full nothing is read from
//! the connection.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{self, Control, HEAD_BYTES, Head, Status};
use super::headers::{Deflater, Headers, Inflater};

/// Streams open at once: port-forward has two for each connection.
const STREAMS_MAX: usize = 512;
/// Pieces waiting for the reader of one stream.
const PIECES_MAX: usize = 32;
/// Frames waiting to be written.
const FRAMES_MAX: usize = 32;
/// Streams waiting to be looked at.
const OPENED_MAX: usize = 16;
/// A data frame is handed on in pieces of at most this size.
const PIECE_BYTES: usize = 32 * 1024;
/// The largest control frame: a header block is far smaller.
const CONTROL_MAX_BYTES: usize = 64 * 1024;
/// How often the client is asked for a sign of life; only writing finds out that it is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the client may take to close after all was said.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// What comes on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The client is done sending.
    End,
    /// The client has given the stream up.
    Reset,
}

enum Frame {
    Reply(u32),
    Data { id: u32, fin: bool, bytes: Bytes },
    Reset(u32, Status),
    Ping(u32),
    GoAway,
}

/// A stream that the client has opened.
pub(in super::super) struct Stream {
    /// Its number.
    pub(in super::super) id: u32,
    headers: Headers,
    /// What the client sends.
    pub(in super::super) reader: Reader,
    /// What is sent to the client.
    pub(in super::super) writer: Writer,
}

impl Stream {
    /// A header's value, empty if it is not there. The name is in lower case.
    pub(in super::super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// The client's side of a stream.
pub(in super::super) struct Reader(mpsc::Receiver<Piece>);

impl Reader {
    /// The next piece. `None` once the connection has ended.
    pub(in super::super) async fn next(&mut self) -> Option<Piece> {
        self.0.recv().await
    }
}

/// Our side of a stream.
#[derive(Clone)]
pub(in super::super) struct Writer {
    id: u32,
    frames: mpsc::Sender<Frame>,
    table: Table,
}

/// The connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub(in super::super) struct Ended;

impl Writer {
    /// Sends bytes.
    pub(in super::super) async fn send(&self, bytes: Bytes) -> Result<(), Ended> {
        let frame = Frame::Data { id: self.id, fin: false, bytes };
        self.frames.send(frame).await.map_err(|_| Ended)
    }

    /// Says that nothing more is sent.
    pub(in super::super) async fn finish(&self) -> Result<(), Ended> {
        let frame = Frame::Data { id: self.id, fin: true, bytes: Bytes::new() };
        self.frames.send(frame).await.map_err(|_| Ended)
    }

    /// Gives the stream up in both directions.
    pub(in super::super) async fn reset(&self) -> Result<(), Ended> {
        self.forget();
        self.frames.send(Frame::Reset(self.id, Status::Cancel)).await.map_err(|_| Ended)
    }

    /// Does not expect the client's end any more: the number counts no longer as a stream.
    pub(in super::super) fn forget(&self) {
        self.table.lock().remove(&self.id);
    }
}

/// Where the pieces of each stream go: open streams, until the client's end of them.
type Table = Arc<Mutex<HashMap<u32, mpsc::Sender<Piece>>>>;

/// The streams as they are opened, and the means to end the session.
pub(in super::super) struct Streams {
    opened: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
}

impl Streams {
    /// The next stream. `None` once the connection has ended.
    pub(in super::super) async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Says good-bye behind everything that is waiting to be sent.
    pub(in super::super) async fn close(&self) {
        // Nobody to say it to is as good.
        drop(self.frames.send(Frame::GoAway).await);
    }
}

/// Begins a session: the streams, and the work that carries them, which ends after
/// [`Streams::close`] or with the connection.
pub(in super::super) fn begin<S>(io: S) -> (Streams, impl Future<Output = io::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (opening, opened) = mpsc::channel(OPENED_MAX);
    let (frames, queue) = mpsc::channel(FRAMES_MAX);
    let (read, write) = tokio::io::split(io);
    let input = Input {
        io: read,
        inflater: Inflater::new(),
        table: Table::default(),
        opening,
        frames: frames.clone(),
        last: 0,
    };
    let work = async move {
        let (mut reading, mut writing) =
            (std::pin::pin!(input.run()), std::pin::pin!(write_all(write, queue)));
        tokio::select! {
            ended = &mut reading => ended,
            ended = &mut writing => {
                ended?;
                // A socket closed with bytes unread is reset, and what was sent last is lost.
                match tokio::time::timeout(LINGER_MAX, reading).await {
                    Ok(ended) => ended,
                    Err(_) => Ok(()),
                }
            }
        }
    };
    (Streams { opened, frames }, work)
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut io: W,
    mut queue: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut deflater = Deflater::new();
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut own_ping) = (0, 0_u32);
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            _ = pings.tick() => {
                // A server's pings have even numbers.
                own_ping = own_ping.wrapping_add(2);
                Some(Frame::Ping(own_ping))
            }
        };
        match next {
            Some(Frame::Reply(id)) => {
                last = id;
                io.write_all(&frame::syn_reply(id, &deflater.block(&[]))).await?;
            }
            Some(Frame::Data { id, fin, bytes }) => {
                io.write_all(&frame::data_head(id, fin, bytes.len())).await?;
                io.write_all(&bytes).await?;
            }
            Some(Frame::Reset(id, status)) => io.write_all(&frame::rst_stream(id, status)).await?,
            Some(Frame::Ping(id)) => io.write_all(&frame::ping(id)).await?,
            Some(Frame::GoAway) | None => {
                io.write_all(&frame::go_away(last)).await?;
                return io.shutdown().await;
            }
        }
        if queue.is_empty() {
            io.flush().await?;
        }
    }
}

/// The reading half.
struct Input<R> {
    io: R,
    inflater: Inflater,
    table: Table,
    opening: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    /// The highest stream so far.
    last: u32,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// Reads until the client has closed.
    async fn run(mut self) -> io::Result<()> {
        let outcome = self.frames().await;
        // Readers learn of the end by the end of their queues.
        self.table.lock().clear();
        outcome
    }

    async fn frames(&mut self) -> io::Result<()> {
        loop {
            let mut first = [0; HEAD_BYTES];
            match self.io.read_exact(&mut first).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            match frame::head(first).map_err(io::Error::other)? {
                Head::Data { id, fin, length } => self.data(id, fin, length).await?,
                Head::Control { kind, flags, length } => {
                    if length > CONTROL_MAX_BYTES {
                        return Err(io::Error::other("a control frame is too large"));
                    }
                    let mut body = vec![0; length];
                    self.io.read_exact(&mut body).await?;
                    let control = frame::control(kind, flags, &body).map_err(io::Error::other)?;
                    self.control(control).await?;
                }
            }
        }
    }

    async fn data(&mut self, id: u32, fin: bool, length: usize) -> io::Result<()> {
        let queue = self.table.lock().get(&id).cloned();
        let mut left = length;
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(PIECE_BYTES));
            self.io.read_exact(&mut piece).await?;
            left -= piece.len();
            if let Some(queue) = &queue {
                // A reader that is gone has no use for the rest.
                drop(queue.send(Piece::Data(piece.freeze())).await);
            }
        }
        if queue.is_none() && id > self.last {
            return self.say(Frame::Reset(id, Status::InvalidStream)).await;
        }
        if fin {
            self.end(id, Piece::End).await;
        }
        Ok(())
    }

    async fn end(&mut self, id: u32, how: Piece) {
        let queue = self.table.lock().remove(&id);
        if let Some(queue) = queue {
            drop(queue.send(how).await);
        }
    }

    async fn control(&mut self, control: Control<'_>) -> io::Result<()> {
        match control {
            Control::SynStream { id, fin, block } => {
                // Also of streams that are refused: the compression runs on.
                let headers = self.inflater.headers(block).map_err(io::Error::other)?;
                self.open(id, fin, headers).await
            }
            Control::RstStream { id } => {
                self.end(id, Piece::Reset).await;
                Ok(())
            }
            // Even ones are answers to ours.
            Control::Ping { id } if id % 2 == 1 => self.say(Frame::Ping(id)).await,
            Control::Ping { .. } | Control::GoAway | Control::Other => Ok(()),
        }
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) -> io::Result<()> {
        // Clients number theirs oddly and upwards.
        if id.is_multiple_of(2) || id <= self.last {
            return self.say(Frame::Reset(id, Status::ProtocolError)).await;
        }
        self.last = id;
        if self.table.lock().len() >= STREAMS_MAX {
            return self.say(Frame::Reset(id, Status::RefusedStream)).await;
        }
        let (queue, pieces) = mpsc::channel(PIECES_MAX);
        self.table.lock().insert(id, queue);
        self.say(Frame::Reply(id)).await?;
        let writer = Writer { id, frames: self.frames.clone(), table: Arc::clone(&self.table) };
        let stream = Stream { id, headers, reader: Reader(pieces), writer };
        if fin {
            self.end(id, Piece::End).await;
        }
        // Nobody takes streams any more: the session is about to end.
        drop(self.opening.send(stream).await);
        Ok(())
    }

    async fn say(&mut self, frame: Frame) -> io::Result<()> {
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests;
