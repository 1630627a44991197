//! One line of a log file in CRI form: `TIME STREAM TAG TEXT`. PURE.

/// A parsed line; the text is without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339 with nanoseconds, as written.
    pub(super) time: &'a str,
    /// `stdout` or `stderr`.
    pub(super) stream: &'a str,
    /// More of the container's line follows in the next one.
    pub(super) partial: bool,
    /// What the container wrote.
    pub(super) text: &'a [u8],
}

/// Parses a line without its newline; `None` for what is not one (such as half a line after a
/// crash).
pub(super) fn parse(bytes: &[u8]) -> Option<Line<'_>> {
    let mut parts = bytes.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = parts.next()?;
    let text = parts.next()?;
    matches!(stream, "stdout" | "stderr").then_some(Line {
        time,
        stream,
        partial: tag == b"P",
        text,
    })
}

/// Nanoseconds since 1970 of a line's time.
pub(super) fn nanos(time: &str) -> Option<i128> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
}
