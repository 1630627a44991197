//! Which lines are wanted, and how they are shown. PURE.

use super::line::{self, Line};

/// One of the container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What of a log is wanted. Source: the query parameters of kubernetes' `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Goes on as more is written.
    pub follow: bool,
    /// Only so many lines from the end; those of a followed log come after them.
    pub tail_lines: Option<u64>,
    /// Only lines of this time (Unix nanoseconds) and later.
    pub since_nanos: Option<i128>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Ends after so many bytes, in the middle of a line if need be.
    pub limit_bytes: Option<u64>,
    /// Only one of the streams.
    pub stream: Option<LogStream>,
}

/// Picks lines and prints them.
#[derive(Debug)]
pub(super) struct Selector {
    query: Query,
    left_bytes: Option<u64>,
    /// The line before was a part of a longer one: this one goes on, without a time of its own.
    inside: bool,
}

impl Selector {
    pub(super) fn new(query: Query) -> Self {
        Self { left_bytes: query.limit_bytes, inside: false, query }
    }

    /// The byte limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.left_bytes == Some(0)
    }

    /// Adds a line of the file to `out`, if it is wanted.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(line) = line::parse(bytes) else { return };
        if !self.wants(&line) {
            return;
        }
        let start = out.len();
        if self.query.timestamps && !self.inside {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.inside = line.partial;
        if let Some(left) = &mut self.left_bytes {
            let added = out.len() - start;
            let kept = usize::try_from(*left).map_or(added, |left| added.min(left));
            out.truncate(start + kept);
            *left -= kept as u64;
        }
    }

    fn wants(&self, line: &Line<'_>) -> bool {
        let of_stream = match self.query.stream {
            None => true,
            Some(LogStream::Stdout) => line.stream == "stdout",
            Some(LogStream::Stderr) => line.stream == "stderr",
        };
        let since = self.query.since_nanos;
        of_stream && since.is_none_or(|since| line::nanos(line.time).is_some_and(|at| at >= since))
    }
}
