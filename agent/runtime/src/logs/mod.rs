//! Reading container logs: the lines that are asked for, across rotations, with or without going
//! on as more is written.
//!
//! `line.rs` and `query.rs` are pure; `files.rs` finds the files of a log; here they are read.
//! Following waits for the file system to say that something was written (inotify), never on a
//! timer.

mod files;
mod line;
mod query;
mod wake;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use query::{LogStream, Query};

use files::Files;
use query::Selector;
use wake::Wake;

/// Pieces waiting for a slow reader: each is at most [`PIECE_BYTES`].
const PIECES_MAX: usize = 8;
/// Text is handed on in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads the log whose current file is `path`. With `query.follow` it goes on until `ended` says
/// that nothing more will be written, and then reads the rest. Dropping the receiver ends it.
///
/// A log that does not exist yet is an empty one.
pub fn read(
    path: PathBuf,
    query: Query,
    ended: CancellationToken,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        if let Err(error) = send_all(path, query, &ended, &pieces).await {
            // A reader that has gone away does not want to know.
            let _gone = pieces.send(Err(error)).await;
        }
    });
    receiver
}

/// What a blocking step of reading gives back.
struct Step {
    files: Files,
    selector: Selector,
    piece: Vec<u8>,
    /// Everything that is there has been read.
    at_end: bool,
}

async fn send_all(
    path: PathBuf,
    query: Query,
    ended: &CancellationToken,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let follow = query.follow;
    // Watching begins before the first read: what is written between the two is not missed.
    let mut wake = if follow { Some(Wake::new(&path)?) } else { None };
    let mut files = blocking({
        let (path, tail) = (path.clone(), query.tail_lines);
        move || Files::open(path, tail)
    })
    .await?;
    let mut selector = Selector::new(query);
    loop {
        let was_ended = ended.is_cancelled();
        let step = blocking(move || next_piece(files, selector)).await?;
        (files, selector) = (step.files, step.selector);
        if !step.piece.is_empty() && pieces.send(Ok(step.piece.into())).await.is_err() {
            return Ok(());
        }
        if selector.is_full() {
            return Ok(());
        }
        if !step.at_end {
            continue;
        }
        let Some(wake) = wake.as_mut().filter(|_| !was_ended) else { return Ok(()) };
        tokio::select! {
            woken = wake.wait() => woken?,
            () = ended.cancelled() => {}
            () = pieces.closed() => return Ok(()),
        }
    }
}

/// Reads lines until a piece is full or nothing more is there.
fn next_piece(mut files: Files, mut selector: Selector) -> io::Result<Step> {
    let mut piece = Vec::new();
    while piece.len() < PIECE_BYTES && !selector.is_full() {
        match files.next_line()? {
            Some(line) => selector.take(line, &mut piece),
            None => return Ok(Step { files, selector, piece, at_end: true }),
        }
    }
    Ok(Step { files, selector, piece, at_end: false })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
