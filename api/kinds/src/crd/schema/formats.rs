//! The formats of strings and numbers that are checked; others are ignored.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apiserver/validation/formats.go` and
//! kube-openapi `pkg/validation/strfmt`, v1.36.

use std::sync::LazyLock;

use base64::Engine as _;
use objects::names;
use regex::Regex;

use crate::check::{sloppy_ip, sloppy_network};

/// A format that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format(&'static str);

/// Those of strings, without the dashes that upstream takes out of names, and as messages name
/// them.
const OF_STRINGS: &[(&str, &str)] = &[
    ("bsonobjectid", "bsonobjectid"),
    ("uri", "uri"),
    ("email", "email"),
    ("hostname", "hostname"),
    ("ipv4", "ipv4"),
    ("ipv6", "ipv6"),
    ("cidr", "cidr"),
    ("mac", "mac"),
    ("uuid", "uuid"),
    ("uuid3", "uuid3"),
    ("uuid4", "uuid4"),
    ("uuid5", "uuid5"),
    ("isbn", "isbn"),
    ("isbn10", "isbn10"),
    ("isbn13", "isbn13"),
    ("creditcard", "creditcard"),
    ("ssn", "ssn"),
    ("hexcolor", "hexcolor"),
    ("rgbcolor", "rgbcolor"),
    ("byte", "byte"),
    ("password", "password"),
    ("date", "date"),
    ("duration", "duration"),
    ("datetime", "date-time"),
    ("k8sshortname", "k8s-short-name"),
    ("k8slongname", "k8s-long-name"),
];

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("the expression is constant and valid"));
    };
}

pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
);
pattern!(
    UUID,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?([0-9a-f])[0-9a-f]{3}-?([0-9a-f])[0-9a-f]{3}-?[0-9a-f]{12}$"
);
pattern!(SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(
    RGB_COLOR,
    r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$"
);
pattern!(
    CREDIT_CARD,
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
);
pattern!(OBJECT_ID, r"^[0-9a-fA-F]{24}$");
pattern!(
    MAC,
    r"^([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}|[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){7}|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}|([0-9a-fA-F]{4}\.){3}[0-9a-fA-F]{4})$"
);
pattern!(DATE, r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$");
pattern!(
    DATE_TIME,
    r"^\d{4}-\d{2}-\d{2}([Tt]|[ ])\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})?$"
);
pattern!(GO_DURATION, r"^[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$");
pattern!(
    SCALA_DURATION,
    r"^-?\d+\s*(ns|nano|nanos|nanosecond|nanoseconds|us|µs|micro|micros|microsecond|microseconds|ms|milli|millis|millisecond|milliseconds|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|wk|wks|week|weeks)$"
);
pattern!(EMAIL, r#"^(?:[^<>]*<)?[^\s@<>(),;:\\"\[\]]+@[^\s@<>(),;:\\"\[\]]+>?$"#);
pattern!(URI, r"^([a-zA-Z][a-zA-Z0-9+.\-]*:\S+|/\S*)$");

impl Format {
    /// The format of a name for a type; `None` for one that is not checked.
    pub(crate) fn parse(name: &str, kind: &str) -> Option<Self> {
        match kind {
            "" | "string" => {
                let plain = name.replace('-', "");
                let known = OF_STRINGS.iter().find(|(known, _)| *known == plain)?;
                Some(Self(known.1))
            }
            "integer" => ["int32", "int64"].into_iter().find(|known| *known == name).map(Self),
            "number" => ["float", "double"].into_iter().find(|known| *known == name).map(Self),
            _ => None,
        }
    }

    /// The name.
    pub(crate) fn name(self) -> &'static str {
        self.0
    }

    /// Whether it is a format of strings.
    pub(crate) fn is_of_strings(self) -> bool {
        !matches!(self.0, "int32" | "int64" | "float" | "double")
    }

    /// Whether a text has the format.
    pub(crate) fn fits(self, text: &str) -> bool {
        match self.0 {
            "bsonobjectid" => OBJECT_ID.is_match(text),
            "uri" => URI.is_match(text),
            "email" => EMAIL.is_match(text),
            "hostname" => is_hostname(text),
            "ipv4" => text.contains('.') && sloppy_ip(text).is_some(),
            "ipv6" => text.contains(':') && sloppy_ip(text).is_some(),
            "cidr" => sloppy_network(text).is_some(),
            "mac" => MAC.is_match(text),
            "uuid" => UUID.is_match(text),
            "uuid3" => is_uuid(text, "3", ""),
            "uuid4" => is_uuid(text, "4", "89abAB"),
            "uuid5" => is_uuid(text, "5", "89abAB"),
            "isbn" => is_isbn10(text) || is_isbn13(text),
            "isbn10" => is_isbn10(text),
            "isbn13" => is_isbn13(text),
            "creditcard" => is_credit_card(text),
            "ssn" => SSN.is_match(text),
            "hexcolor" => HEX_COLOR.is_match(text),
            "rgbcolor" => RGB_COLOR.is_match(text),
            "byte" => is_base64(text),
            "date" => DATE.is_match(text),
            "date-time" => is_date_time(text),
            "duration" => GO_DURATION.is_match(text) || SCALA_DURATION.is_match(text),
            "k8s-short-name" => names::dns1123_label(text).is_empty(),
            "k8s-long-name" => names::dns1123_subdomain(text).is_empty(),
            _ => true,
        }
    }
}

fn is_hostname(text: &str) -> bool {
    HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63)
}

fn is_uuid(text: &str, version: &str, variants: &str) -> bool {
    let Some(parts) = UUID.captures(text) else { return false };
    &parts[1] == version && (variants.is_empty() || variants.contains(&parts[2]))
}

fn digits(text: &str) -> Option<Vec<u32>> {
    let plain = text.chars().filter(|c| !matches!(c, '-' | ' '));
    plain.map(|c| if c == 'X' { Some(10) } else { c.to_digit(10) }).collect()
}

fn is_isbn10(text: &str) -> bool {
    let Some(digits) = digits(text).filter(|digits| digits.len() == 10) else { return false };
    if digits[..9].contains(&10) {
        return false;
    }
    let sum: u32 = digits.iter().zip(1..).map(|(digit, weight)| digit * weight).sum();
    sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let Some(digits) = digits(text).filter(|digits| digits.len() == 13) else { return false };
    if digits.contains(&10) {
        return false;
    }
    let weights = [1, 3].into_iter().cycle();
    let sum: u32 = digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum();
    sum.is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    if !CREDIT_CARD.is_match(&plain) {
        return false;
    }
    let digits = plain.chars().rev().filter_map(|c| c.to_digit(10)).enumerate();
    let sum: u32 = digits
        .map(|(place, digit)| match place % 2 {
            0 => digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_date_time(text: &str) -> bool {
    if !DATE_TIME.is_match(text) {
        return false;
    }
    let number = |from: usize| text[from..from + 2].parse::<u32>().unwrap_or(99);
    let (month, day) = (number(5), number(8));
    let (hour, minute, second) = (number(11), number(14), number(17));
    (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60
}
