//! The container's log file in CRI form, with rotation.
//!
//! Each line is `TIME STREAM TAG TEXT`, where the tag `P` marks a part of a line longer than
//! [`LINE_BYTES_MAX`] and `F` its end. The current file has the given name; rotated ones have the
//! time of rotation appended, so that their names sort by age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::record::now_nanos;

/// Longest text of one log line. Source: containerd `internal/cri/io`, `defaultBufSize`.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Names of the streams, by index.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Writes one container's log.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    max_bytes: u64,
    max_files: u32,
    /// Unfinished line of each stream.
    unfinished: [Vec<u8>; 2],
}

impl LogWriter {
    /// Opens `path`, going on behind what is there. `max_bytes` 0 means no rotation; `max_files`
    /// counts the current file too.
    pub(crate) fn open(path: PathBuf, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        let file = append(&path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { path, file, size_bytes, max_bytes, max_files, unfinished: Default::default() })
    }

    /// Takes what the container has written to stream 0 (stdout) or 1 (stderr).
    ///
    /// A failed write loses the lines: a full disk must not stop the container.
    pub(crate) fn feed(&mut self, stream: usize, bytes: &[u8]) {
        let time = timestamp(now_nanos());
        let mut lines = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.unfinished[stream];
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            line.extend_from_slice(text);
            let mut start = 0;
            while line.len() - start > LINE_BYTES_MAX {
                let end = start + LINE_BYTES_MAX;
                push_line(&mut lines, &time, stream, b'P', &line[start..end]);
                start = end;
            }
            if ended {
                push_line(&mut lines, &time, stream, b'F', &line[start..]);
                start = line.len();
            }
            line.drain(..start);
        }
        self.write(&lines);
    }

    /// Writes out unfinished lines: nothing more will come.
    pub(crate) fn finish(&mut self) {
        for stream in 0..STREAMS.len() {
            if !self.unfinished[stream].is_empty() {
                self.feed(stream, b"\n");
            }
        }
    }

    /// Puts the current file aside and begins a new one.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, rotated_name(&self.path, now_nanos()))?;
        self.file = append(&self.path)?;
        self.size_bytes = 0;
        let mut old = rotated(&self.path)?;
        let keep = usize::try_from(self.max_files.max(1) - 1).unwrap_or(usize::MAX);
        let surplus = old.len().saturating_sub(keep);
        for path in old.drain(..surplus) {
            // Removed by somebody else is removed.
            let _gone = fs::remove_file(path);
        }
        Ok(())
    }

    /// Appends whole lines, beginning a new file wherever the next line would not fit: one read from
    /// a busy container may hold more than a file.
    fn write(&mut self, mut lines: &[u8]) {
        while !lines.is_empty() {
            let fitting = self.fitting(lines);
            if fitting == 0 {
                // Without a new file the old one grows on: better than no log.
                let _goes_on = self.rotate();
            }
            let (now, later) = lines.split_at(fitting.max(line_end(lines)));
            let _disk_full = self.file.write_all(now);
            self.size_bytes += now.len() as u64;
            lines = later;
        }
    }

    /// How many bytes of `lines` the current file still takes, in whole lines.
    fn fitting(&self, lines: &[u8]) -> usize {
        let room = match self.max_bytes {
            0 => return lines.len(),
            max => usize::try_from(max.saturating_sub(self.size_bytes)).unwrap_or(usize::MAX),
        };
        if lines.len() <= room {
            return lines.len();
        }
        let end = lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A line longer than a whole file still has to go somewhere.
        if end == 0 && self.size_bytes == 0 { line_end(lines) } else { end }
    }
}

/// Length of the first line with its newline.
fn line_end(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn push_line(lines: &mut Vec<u8>, time: &str, stream: usize, tag: u8, text: &[u8]) {
    lines.extend_from_slice(time.as_bytes());
    lines.push(b' ');
    lines.extend_from_slice(STREAMS[stream].as_bytes());
    lines.extend_from_slice(&[b' ', tag, b' ']);
    lines.extend_from_slice(text);
    lines.push(b'\n');
}

/// Where the file `path`, rotated at `nanos`, goes: `0.log.20261125-045500.123456789`.
fn rotated_name(path: &Path, nanos: i128) -> PathBuf {
    let time = timestamp(nanos);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(time.replace(['-', ':', 'Z'], "").replace('T', "-"));
    path.with_file_name(name)
}

/// The rotated files of `path`, oldest first.
pub(crate) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut prefix = path.file_name().unwrap_or_default().to_os_string();
    prefix.push(".");
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let suffix = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        if suffix.is_some_and(|suffix| suffix.first().is_some_and(u8::is_ascii_digit)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// RFC 3339 in UTC with all nine digits, as the kubelet reads it.
pub(crate) fn timestamp(nanos: i128) -> String {
    const SECOND: i128 = 1_000_000_000;
    let (seconds, fraction) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

/// Day of the Gregorian calendar from days since 1970-01-01, by counting in eras of 400 years that
/// begin on a 1st of March, so that the leap day comes last.
fn civil(days: i128) -> (i128, i128, i128) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i128::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn times_are_rfc_3339() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_764_046_062_123_456_789, "2025-11-25T04:47:42.123456789Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(timestamp(nanos), text);
        }
        for day in (0i64..40_000).step_by(17) {
            let nanos = i128::from(day) * 86_400_000_000_000;
            let expected = jiff::Timestamp::from_second(day * 86_400).unwrap().to_string();
            assert_eq!(timestamp(nanos)[..19], expected[..19]);
        }
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = LogWriter::open(path.clone(), 0, 1).unwrap();
        log.feed(0, b"he");
        log.feed(1, b"error\n");
        log.feed(0, b"llo\n\nlast");
        log.finish();
        assert_eq!(
            texts(&path),
            ["stderr F error", "stdout F hello", "stdout F ", "stdout F last"]
        );
    }

    #[test]
    fn long_lines_come_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = LogWriter::open(path.clone(), 0, 1).unwrap();
        let long = vec![b'x'; 2 * LINE_BYTES_MAX + 5];
        log.feed(0, &long);
        log.feed(0, b"y\n");
        let lines = texts(&path);
        let tags: Vec<&str> = lines.iter().map(|line| &line[7..8]).collect();
        assert_eq!(tags, ["P", "P", "F"]);
        assert_eq!(lines[2], "stdout F xxxxxy");
        let total: usize = lines.iter().map(|line| line.len() - "stdout F ".len()).sum();
        assert_eq!(total, long.len() + 1);
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = LogWriter::open(path.clone(), 120, 3).unwrap();
        for line in 0..12 {
            log.feed(0, format!("line {line:02}\n").as_bytes());
        }
        let old = rotated(&path).unwrap();
        assert_eq!(old.len(), 2, "{old:?}");
        let all: Vec<String> = old.iter().chain([&path]).flat_map(|path| texts(path)).collect();
        let expected: Vec<String> =
            (12 - all.len()..12).map(|line| format!("stdout F line {line:02}")).collect();
        assert_eq!(all, expected, "the newest lines, in order, once");
    }

    #[test]
    fn one_large_write_is_spread_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = LogWriter::open(path.clone(), 120, 30).unwrap();
        let lines: String = (0..12).map(|line| format!("line {line:02}\n")).collect();
        log.feed(0, lines.as_bytes());
        log.feed(0, &[b'x'; 200]);
        log.finish();
        let old = rotated(&path).unwrap();
        let files: Vec<&Path> = old.iter().chain([&path]).map(PathBuf::as_path).collect();
        assert_eq!(files.len(), 7, "two lines of 47 bytes each, and the long one alone: {files:?}");
        let all: Vec<String> = files.iter().flat_map(|path| texts(path)).collect();
        let mut expected: Vec<String> =
            (0..12).map(|line| format!("stdout F line {line:02}")).collect();
        expected.push(format!("stdout F {}", "x".repeat(200)));
        assert_eq!(all, expected);
    }
}
