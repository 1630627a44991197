use std::time::Duration;

use super::*;
use crate::shim::log::LogWriter;

const BOUND: Duration = Duration::from_secs(20);

struct Log {
    folder: tempfile::TempDir,
    writer: LogWriter,
}

impl Log {
    fn new(max_bytes: u64, max_files: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("0.log");
        Self { writer: LogWriter::open(path, max_bytes, max_files).expect("opened"), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("0.log")
    }
}

async fn all(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> String {
    let mut text = Vec::new();
    while let Some(piece) = pieces.recv().await {
        text.extend_from_slice(&piece.expect("readable"));
    }
    String::from_utf8(text).expect("text")
}

async fn text_of(log: &Log, query: Query) -> String {
    all(read(log.path(), query, CancellationToken::new())).await
}

#[tokio::test]
async fn what_is_asked_for_and_no_more() {
    let mut log = Log::new(0, 1);
    log.writer.feed(0, b"one\ntwo\n");
    log.writer.feed(1, b"oops\n");
    log.writer.feed(0, b"three\n");
    let cases = [
        (Query::default(), "one\ntwo\noops\nthree\n"),
        (Query { tail_lines: Some(2), ..Query::default() }, "oops\nthree\n"),
        (Query { tail_lines: Some(0), ..Query::default() }, ""),
        (Query { tail_lines: Some(99), ..Query::default() }, "one\ntwo\noops\nthree\n"),
        (Query { limit_bytes: Some(6), ..Query::default() }, "one\ntw"),
        (Query { stream: Some(LogStream::Stderr), ..Query::default() }, "oops\n"),
        (Query { since_nanos: Some(i128::MAX / 2), ..Query::default() }, ""),
        (Query { since_nanos: Some(0), ..Query::default() }, "one\ntwo\noops\nthree\n"),
    ];
    for (query, expected) in cases {
        assert_eq!(text_of(&log, query.clone()).await, expected, "{query:?}");
    }
    let timed = text_of(&log, Query { timestamps: true, ..Query::default() }).await;
    let first = timed.lines().next().expect("a line");
    assert!(first.ends_with("Z one") && first.len() == "2026-11-25T04:47:42.123456789Z one".len());
}

#[tokio::test]
async fn parts_of_a_long_line_are_one_line() {
    let mut log = Log::new(0, 1);
    let long = "x".repeat(40_000);
    log.writer.feed(0, b"before\n");
    log.writer.feed(0, long.as_bytes());
    log.writer.feed(0, b"\nafter\n");
    assert_eq!(text_of(&log, Query::default()).await, format!("before\n{long}\nafter\n"));
    let tail = Query { tail_lines: Some(2), ..Query::default() };
    assert_eq!(text_of(&log, tail).await, format!("{long}\nafter\n"));
    let timed = text_of(&log, Query { timestamps: true, ..Query::default() }).await;
    assert_eq!(timed.lines().count(), 3, "one time per line");
}

#[tokio::test]
async fn rotated_files_are_read_first() {
    let mut log = Log::new(300, 4);
    for number in 0..20 {
        log.writer.feed(0, format!("line {number:02}\n").as_bytes());
    }
    let text = text_of(&log, Query::default()).await;
    let numbers: Vec<&str> = text.lines().collect();
    let first: usize = numbers[0].trim_start_matches("line ").parse().expect("a number");
    let expected: Vec<String> = (first..20).map(|number| format!("line {number:02}")).collect();
    assert_eq!(numbers, expected);
    let tail = Query { tail_lines: Some(7), ..Query::default() };
    assert_eq!(text_of(&log, tail).await.lines().next(), Some("line 13"));
}

#[tokio::test]
async fn following_loses_nothing_across_rotations() {
    let mut log = Log::new(2_000, 100);
    let ended = CancellationToken::new();
    let query = Query { follow: true, ..Query::default() };
    let followed = tokio::spawn(all(read(log.path(), query, ended.clone())));
    let expected: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
    let log = tokio::task::spawn_blocking(move || {
        for number in 0..2_000 {
            log.writer.feed(0, format!("line {number}\n").as_bytes());
        }
        log
    })
    .await
    .expect("written");
    ended.cancel();
    let text = tokio::time::timeout(BOUND, followed).await.expect("it ends").expect("no panic");
    assert_eq!(text, expected);
    drop(log);
}

#[tokio::test]
async fn a_log_that_does_not_exist_yet_can_be_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("0.log");
    let ended = CancellationToken::new();
    let query = Query { follow: true, ..Query::default() };
    let mut pieces = read(path.clone(), query, ended.clone());
    let mut writer = LogWriter::open(path, 0, 1).expect("opened");
    writer.feed(0, b"first\n");
    let piece = tokio::time::timeout(BOUND, pieces.recv()).await.expect("it wakes");
    assert_eq!(piece.expect("a piece").expect("readable"), "first\n");
    writer.feed(0, b"second\n");
    let piece = tokio::time::timeout(BOUND, pieces.recv()).await.expect("it wakes");
    assert_eq!(piece.expect("a piece").expect("readable"), "second\n");
    ended.cancel();
    assert!(tokio::time::timeout(BOUND, pieces.recv()).await.expect("it ends").is_none());
}
