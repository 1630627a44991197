//! Times as the API writes them, and durations as `kubectl` prints them.
//!
//! Source of behaviour: kubernetes apimachinery `apis/meta/v1` (Time, MicroTime) and
//! `util/duration`, v1.36.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::Offset;

/// Why a text is not a time; the text is the API's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimeError(String);

/// Go's name of the layout of a `Time`.
const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
/// Go's name of the layout of a `MicroTime`.
const MICRO_TIME_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// `2025-06-01T12:00:00Z`: the form of `metav1.Time`.
pub fn format_time(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2025-06-01T12:00:00.123456Z`: the form of `metav1.MicroTime`.
pub fn format_micro_time(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Parses a `metav1.Time`; a fraction of a second is read, as Go reads it, though never written.
pub fn parse_time(text: &str) -> Result<Timestamp, TimeError> {
    parse(text, false).ok_or_else(|| go_error(text, TIME_LAYOUT))
}

/// Parses a `metav1.MicroTime`, which must have exactly six decimals.
pub fn parse_micro_time(text: &str) -> Result<Timestamp, TimeError> {
    parse(text, true).ok_or_else(|| go_error(text, MICRO_TIME_LAYOUT))
}

/// The canonical text of a `metav1.Time`, or the API's error text: what `patch` wants of its leaves.
pub fn canonical_time(text: &str) -> Result<String, String> {
    parse_time(text).map(format_time).map_err(|error| error.to_string())
}

/// As [`canonical_time`], for a `metav1.MicroTime`.
pub fn canonical_micro_time(text: &str) -> Result<String, String> {
    parse_micro_time(text).map(format_micro_time).map_err(|error| error.to_string())
}

fn parse(text: &str, micros: bool) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    if bytes.len() <= shape.len() {
        return None;
    }
    let fits = shape.iter().zip(bytes).all(|(want, got)| match want {
        b'd' => got.is_ascii_digit(),
        other => other == got,
    });
    let rest = &text[text.floor_char_boundary(shape.len())..];
    let decimals = match rest.strip_prefix('.') {
        Some(fraction) => fraction.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let zone = &rest[if decimals > 0 { decimals + 1 } else { 0 }..];
    let zone_fits = zone == "Z"
        || zone.len() == 6
            && zone.starts_with(['+', '-'])
            && zone.bytes().enumerate().all(|(index, byte)| match index {
                0 => true,
                3 => byte == b':',
                _ => byte.is_ascii_digit(),
            });
    // jiff, unlike Go, would read a leap second as the one before it.
    let leap = &bytes[17..19] == b"60";
    if !fits || !zone_fits || leap || micros && decimals != 6 || decimals > 9 {
        return None;
    }
    text.parse().ok()
}

/// Names the first part of the layout that the text fails to have. Go's parser says more in some
/// cases; clients do not read these texts.
fn go_error(text: &str, layout: &str) -> TimeError {
    const PARTS: [(&str, &str); 11] = [
        ("dddd", "2006"),
        ("-", "-"),
        ("dd", "01"),
        ("-", "-"),
        ("dd", "02"),
        ("T", "T"),
        ("dd", "15"),
        (":", ":"),
        ("dd", "04"),
        (":", ":"),
        ("dd", "05"),
    ];
    let mut rest = text;
    for (shape, name) in PARTS {
        let fits = rest.len() >= shape.len()
            && shape.bytes().zip(rest.bytes()).all(|(want, got)| match want {
                b'd' => got.is_ascii_digit(),
                other => other == got,
            });
        if !fits {
            return TimeError(format!(
                "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {name:?}"
            ));
        }
        rest = &rest[shape.len()..];
    }
    let name = if layout == MICRO_TIME_LAYOUT { ".000000" } else { "Z07:00" };
    TimeError(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {name:?}"))
}

/// Whole seconds from `earlier` to `later`, cut towards zero.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.duration_since(earlier).as_secs()
}

/// A duration with two or three significant figures: `3s`, `5m3s`, `2d3h`, `2y10d`.
pub fn human_duration(seconds: i64) -> String {
    let with_rest = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{small}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        // A little in the future is clock skew, not an error.
        ..-1 => "<invalid>".to_string(),
        -1 => "0s".to_string(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => with_rest(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with_rest(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => with_rest(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => with_rest(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The age of something as a table cell: `<unknown>` for an absent or unreadable time.
pub fn age(since: &str, now: Timestamp) -> String {
    match parse_time(since) {
        Ok(since) => human_duration(seconds_between(since, now)),
        Err(_) => "<unknown>".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_print() {
        let time = parse_time("2025-06-01T14:00:00.123456+02:00").unwrap();
        assert_eq!(format_time(time), "2025-06-01T12:00:00Z");
        assert_eq!(format_micro_time(time), "2025-06-01T12:00:00.123456Z");
        assert!(parse_micro_time("2025-06-01T12:00:00Z").is_err());
        assert!(parse_micro_time("2025-06-01T12:00:00.123Z").is_err());
        for bad in [
            "",
            "2025-06-01",
            "2025-06-01T12:00:00",
            "2025-06-01 12:00:00Z",
            "2025-13-01T12:00:00Z",
            "2025-06-01T12:00:60Z",
            "2025-06-01T12:00:00z",
            "2025-06-01T12:00:0é",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_gos() {
        assert_eq!(
            parse_micro_time("yesterday").unwrap_err().to_string(),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"yesterday\" as \"2006\""
        );
        assert_eq!(
            parse_time("2025-06-01").unwrap_err().to_string(),
            "parsing time \"2025-06-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\""
        );
    }

    #[test]
    fn human_durations() {
        const DAY: i64 = 86_400;
        for (seconds, wanted) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600 + 60, "8h"),
            (2 * DAY + 3 * 3600, "2d3h"),
            (2 * DAY, "2d"),
            (8 * DAY + 3600, "8d"),
            (730 * DAY, "2y"),
            (740 * DAY, "2y10d"),
            (9 * 365 * DAY, "9y"),
        ] {
            assert_eq!(human_duration(seconds), wanted, "{seconds}");
        }
    }
}
