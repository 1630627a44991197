//! Limits of numbers.

use serde_json::Value;

use super::check::{invalid, unplaced};
use super::result::Outcome;
use super::{Limits, Node, Type};

/// A number as Go's `%v` prints it.
fn go_number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 {
        return format!("{number:.0}");
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            if (-4..21).contains(&exponent) {
                return number.to_string();
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}

/// Checks a number.
pub(super) fn check_number(
    node: &Node,
    limits: Option<&Limits>,
    value: &Value,
    path: &str,
) -> Outcome {
    let mut out = Outcome { matches: 1, ..Outcome::default() };
    let number = value.as_f64().unwrap_or_default();
    let whole = value.as_i64();
    let kind = if node.int_or_string { Type::Any } else { node.kind };
    let format = limits.and_then(|limits| limits.format.as_ref());
    let range = format.map_or("", |format| format.name());
    let outside = match kind {
        Type::Integer => match (number.fract() == 0.0, range) {
            (false, _) => true,
            (true, "int32") => !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
            (true, _) => whole.is_none() && number.abs() >= 9_223_372_036_854_775_808.0,
        },
        Type::Number => range == "float" && number.abs() > f64::from(f32::MAX),
        _ => false,
    };
    if outside {
        let name = kind.name();
        out.add(unplaced(match range {
            "" => format!("Checked value must be of type {name} (default format) in {path}"),
            _ => format!("Checked value must be of type {name} with format {range} in {path}"),
        }));
    }
    let Some(limits) = limits else { return out };
    if let Some(factor) = limits.multiple_of {
        let fits = if factor <= 0.0 {
            false
        } else if factor < 1.0 {
            is_json_integer(1.0 / factor * number)
        } else {
            is_json_integer(number / factor)
        };
        if factor <= 0.0 {
            let factor = go_number(factor);
            out.add(unplaced(format!(
                "factor MultipleOf declared for {path} must be positive: {factor}"
            )));
        } else if !fits {
            let factor = go_number(factor);
            let text = format!("{path} in body should be a multiple of {factor}");
            out.add(invalid(path, value, text));
        }
    }
    if let Some((max, exclusive)) = limits.maximum
        && (number > max || exclusive && number >= max)
    {
        let than = if exclusive { "less than" } else { "less than or equal to" };
        let text = format!("{path} in body should be {than} {}", go_number(max));
        out.add(invalid(path, value, text));
    }
    if let Some((min, exclusive)) = limits.minimum
        && (number < min || exclusive && number <= min)
    {
        let than = if exclusive { "greater than" } else { "greater than or equal to" };
        let text = format!("{path} in body should be {than} {}", go_number(min));
        out.add(invalid(path, value, text));
    }
    out
}

/// Whether a number is whole but for rounding: go-openapi's notion.
fn is_json_integer(number: f64) -> bool {
    const EPSILON: f64 = 1e-9;
    if !number.is_finite() {
        return false;
    }
    let nearest = number.round();
    let off = (number - nearest).abs();
    off == 0.0 || off / (number.abs() + nearest.abs()) < EPSILON
}
