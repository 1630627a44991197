//! `resource.Quantity`: a number with a unit suffix, exact to the nano.
//!
//! Source of behaviour: kubernetes apimachinery `api/resource`, v1.36. The canonical text is what
//! the API server answers with: `1024Mi` reads back as `1Gi`, `0.5` as `500m`.

use std::cmp::Ordering;
use std::fmt;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// Values beyond this are cut to it, in units.
const MAX_UNITS: i128 = i64::MAX as i128;

/// Which suffixes a quantity is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `m`, `k`, `M`, …
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text as a whole has the wrong form.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount of a resource. Comparisons are by value, whatever the suffix.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Zero, printed as `0`.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number of units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS_PER_UNIT, format }
    }

    /// A number of thousandths, as CPU is counted.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANOS_PER_UNIT / 1000), format: Format::DecimalSi }
    }

    /// Parses a quantity. Digits beyond nanos round away from zero.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = split(text)?;
        let (format, scale) = interpret(parts.suffix)?;
        let magnitude = magnitude(&parts, scale);
        let nanos = magnitude.min(MAX_UNITS * NANOS_PER_UNIT);
        // A binary suffix makes no sense for a fraction of one.
        let format = if format == Format::BinarySi && nanos < NANOS_PER_UNIT && nanos > 0 {
            Format::DecimalSi
        } else {
            format
        };
        Ok(Self { nanos: if parts.negative { -nanos } else { nanos }, format })
    }

    /// As a whole number of units, rounded away from zero.
    pub fn value(&self) -> i64 {
        round_away(self.nanos, NANOS_PER_UNIT)
    }

    /// As thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        round_away(self.nanos, NANOS_PER_UNIT / 1000)
    }

    /// As nanos, exactly.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// Units as a floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS_PER_UNIT as f64
    }

    /// The suffixes this quantity is printed with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the value is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The sum, in this quantity's format (the other's if this is zero).
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference, in this quantity's format (the other's if this is zero).
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

/// The canonical text of a quantity, or the API's error text: what `patch` wants of its leaves.
pub fn canonical(text: &str) -> Result<String, String> {
    Quantity::parse(text).map(|quantity| quantity.to_string()).map_err(|error| error.to_string())
}

fn round_away(nanos: i128, unit: i128) -> i64 {
    let whole = nanos / unit;
    let rest = nanos % unit;
    let rounded = if rest == 0 { whole } else { whole + rest.signum() };
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err(QuantityError::Format),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() && !rest.starts_with('.') {
        return Err(QuantityError::Format);
    }
    let letters = suffix.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    let exponent = suffix[letters..].strip_prefix(['-', '+']).unwrap_or(&suffix[letters..]);
    if digits(exponent) != exponent.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

/// A factor: a power of ten or of two.
enum Scale {
    Ten(i32),
    Two(u32),
}

fn interpret(suffix: &str) -> Result<(Format, Scale), QuantityError> {
    const DECIMAL: [(&str, i32); 10] = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    const BINARY: [(&str, u32); 6] =
        [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::DecimalSi, Scale::Ten(*power)));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::BinarySi, Scale::Two(*power)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Format::DecimalExponent, Scale::Ten(power)))
}

/// The absolute value in nanos, rounded up, saturating.
fn magnitude(parts: &Parts<'_>, scale: Scale) -> i128 {
    let (power, factor) = match scale {
        Scale::Ten(power) => (i64::from(power), 1_i128),
        Scale::Two(power) => (0, 1_i128 << power),
    };
    // As many digits as fit, times the factor; what is left out only matters for rounding.
    let room = (i128::MAX / factor - 9) / 10;
    let mut mantissa = 0_i128;
    let mut exponent = power + 9 - i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
    let mut inexact = false;
    for digit in parts.whole.bytes().chain(parts.fraction.bytes()) {
        let digit = i128::from(digit - b'0');
        if mantissa <= room {
            mantissa = mantissa * 10 + digit;
        } else {
            exponent += 1;
            inexact |= digit != 0;
        }
    }
    let scaled = mantissa * factor;
    let tens = u32::try_from(exponent.unsigned_abs()).ok().and_then(|n| 10_i128.checked_pow(n));
    match (tens, exponent < 0) {
        (Some(tens), true) => scaled / tens + i128::from(inexact || scaled % tens != 0),
        (Some(tens), false) => scaled.saturating_mul(tens),
        (None, true) => i128::from(scaled != 0),
        (None, false) => scaled.saturating_mul(i128::MAX),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANOS_PER_UNIT;
        let whole = self.nanos % NANOS_PER_UNIT == 0;
        if self.format == Format::BinarySi && !small && whole {
            return write_binary(f, self.nanos / NANOS_PER_UNIT);
        }
        write_decimal(f, self.nanos, self.format == Format::DecimalExponent)
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut number = units;
    let mut step = 0;
    while number % 1024 == 0 && step + 1 < SUFFIXES.len() {
        number /= 1024;
        step += 1;
    }
    write!(f, "{number}{}", SUFFIXES[step])
}

fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: i128, exponent: bool) -> fmt::Result {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let mut number = nanos;
    let mut step = 0;
    while number % 1000 == 0 && step + 1 < SUFFIXES.len() {
        number /= 1000;
        step += 1;
    }
    if !exponent {
        return write!(f, "{number}{}", SUFFIXES[step]);
    }
    match i32::try_from(step).expect("fewer than ten steps") * 3 - 9 {
        0 => write!(f, "{number}"),
        power => write!(f, "{number}e{power}"),
    }
}

#[cfg(test)]
mod tests;
