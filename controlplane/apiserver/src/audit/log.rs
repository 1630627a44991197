//! The audit log: one event a line, in a file that is rotated.
//!
//! A thread of its own writes, so that a slow disk never blocks the runtime. Its queue is bounded:
//! when it is full requests wait, because an event that was promised must not be lost. Rotated files
//! have the time of rotation in their name, `audit-2026-11-25T08-35-08.123.log`, as upstream's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// Events that wait for the disk at most.
const QUEUE_EVENTS: usize = 4096;
/// Upstream's size when none is named.
const DEFAULT_MAX_BYTES: u64 = 100 << 20;

/// Where events go and how much is kept; upstream's `--audit-log-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// A file of this size is put aside; 0 is 100 MiB.
    pub max_size_bytes: u64,
    /// So many rotated files are kept; 0 keeps all.
    pub max_backups: usize,
    /// Rotated files older than this are removed; zero keeps all.
    pub max_age: Duration,
}

/// The way into the log. Dropping it waits until everything is written.
#[derive(Debug)]
pub(crate) struct Log {
    events: Option<mpsc::Sender<Bytes>>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the file and starts the writer.
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let (events, mut waiting) = mpsc::channel::<Bytes>(QUEUE_EVENTS);
        let mut sink = Sink::open(config)?;
        let write = move || {
            while let Some(event) = waiting.blocking_recv() {
                let mut written = sink.write(&event);
                while let Ok(event) = waiting.try_recv() {
                    written = written.and_then(|()| sink.write(&event));
                }
                if let Err(error) = written.and_then(|()| sink.flush()) {
                    tracing::error!(%error, "write the audit log; events are lost");
                }
            }
        };
        let writer = std::thread::Builder::new().name("audit-log".into()).spawn(write)?;
        Ok(Self { events: Some(events), writer: Some(writer) })
    }

    /// Hands over a line, waiting while the queue is full.
    pub(crate) async fn put(&self, line: Bytes) {
        if let Some(events) = &self.events {
            // It fails only if the writer panicked, which the panic hook has told.
            _ = events.send(line).await;
        }
    }

    /// The same from where nothing can wait.
    pub(crate) fn put_now(&self, line: Bytes) {
        let Some(events) = &self.events else { return };
        if let Err(mpsc::error::TrySendError::Full(line)) = events.try_send(line) {
            let events = events.clone();
            tokio::spawn(async move { events.send(line).await });
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.events.take());
        if let Some(writer) = self.writer.take() {
            // A panic of it was told by the hook.
            _ = writer.join();
        }
    }
}

enum Sink {
    Output,
    File(RotatingFile),
}

impl Sink {
    fn open(config: LogConfig) -> io::Result<Self> {
        if config.path == Path::new("-") {
            return Ok(Self::Output);
        }
        RotatingFile::open(config).map(Self::File)
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Output => io::stdout().lock().write_all(line),
            Self::File(file) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Output => io::stdout().lock().flush(),
            Self::File(file) => file.out.flush(),
        }
    }
}

struct RotatingFile {
    config: LogConfig,
    out: io::BufWriter<File>,
    size_bytes: u64,
}

impl RotatingFile {
    fn open(config: LogConfig) -> io::Result<Self> {
        if let Some(folder) = config.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append(&config.path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { config, out: io::BufWriter::new(file), size_bytes })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let max = match self.config.max_size_bytes {
            0 => DEFAULT_MAX_BYTES,
            max => max,
        };
        let size = line.len() as u64;
        if self.size_bytes > 0 && self.size_bytes + size > max {
            self.rotate()?;
        }
        self.out.write_all(line)?;
        self.size_bytes += size;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.out.flush()?;
        fs::rename(&self.config.path, self.backup(Timestamp::now())?)?;
        self.out = io::BufWriter::new(append(&self.config.path)?);
        self.size_bytes = 0;
        self.remove_old()
    }

    /// A name that sorts behind those of all files before: several rotations may fall into one
    /// millisecond.
    fn backup(&self, mut now: Timestamp) -> io::Result<PathBuf> {
        let stem = self.config.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.config.path.extension();
        let extension =
            extension.map(|text| format!(".{}", text.to_string_lossy())).unwrap_or_default();
        let newest = self.backups()?.pop();
        loop {
            let time = now.strftime("%Y-%m-%dT%H-%M-%S.%3f");
            let path = self.config.path.with_file_name(format!("{stem}-{time}{extension}"));
            if newest.as_ref().is_none_or(|newest| *newest < path) {
                return Ok(path);
            }
            now += Duration::from_millis(1);
        }
    }

    fn remove_old(&self) -> io::Result<()> {
        let mut old = self.backups()?;
        let surplus = match self.config.max_backups {
            0 => 0,
            max => old.len().saturating_sub(max),
        };
        for path in old.drain(..surplus) {
            fs::remove_file(path)?;
        }
        if self.config.max_age.is_zero() {
            return Ok(());
        }
        for path in old {
            let written = fs::metadata(&path)?.modified()?;
            let age = SystemTime::now().duration_since(written).unwrap_or_default();
            if age > self.config.max_age {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Rotated files, oldest first.
    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let stem = self.config.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let prefix = format!("{stem}-");
        let folder = self.config.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let time = name.strip_prefix(&prefix).and_then(|rest| rest.get(..23));
            let is_time = time.is_some_and(|time| time.starts_with("2") && time.contains('T'));
            if is_time && path.extension() == self.config.path.extension() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_across_rotations_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let config = LogConfig {
            path: path.clone(),
            max_size_bytes: 100,
            max_backups: 3,
            max_age: Duration::ZERO,
        };
        let log = Log::open(config.clone()).unwrap();
        for number in 0..20 {
            log.put(Bytes::from(format!("{{\"event\": {number:>28}}}\n"))).await;
        }
        tokio::task::spawn_blocking(move || drop(log)).await.unwrap();
        let mut files = RotatingFile::open(config).unwrap().backups().unwrap();
        assert_eq!(files.len(), 3, "{files:?}");
        files.push(path);
        let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let numbers: Vec<u32> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone())
            .map(|number| u32::try_from(number.as_u64().unwrap()).unwrap())
            .collect();
        assert_eq!(
            numbers,
            (12..20).collect::<Vec<_>>(),
            "two lines a file, the newest four files"
        );
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let config = LogConfig {
            path: path.clone(),
            max_size_bytes: 0,
            max_backups: 0,
            max_age: Duration::ZERO,
        };
        for line in ["one\n", "two\n"] {
            let log = Log::open(config.clone()).unwrap();
            log.put_now(Bytes::from(line));
            drop(log);
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }
}
