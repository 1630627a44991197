//! Whether a cron schedule can be read. Only checks: when it fires is the controller's business.
//!
//! Texts are those of the parser that upstream uses.

/// What is wrong with a schedule.
pub(super) fn fault(schedule: &str) -> Option<String> {
    if schedule.is_empty() {
        return Some("empty spec string".into());
    }
    let zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    let rest = if zoned {
        match schedule.split_once(' ') {
            Some((_, rest)) => rest.trim(),
            None => return Some(format!("provided bad location {schedule}")),
        }
    } else {
        schedule
    };
    if rest.starts_with('@') {
        return descriptor_fault(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != 5 {
        let list = fields.join(" ");
        return Some(format!("expected exactly 5 fields, found {}: [{list}]", fields.len()));
    }
    let bounds = [(0, 59, 0), (0, 23, 0), (1, 31, 0), (1, 12, 1), (0, 6, 2)];
    fields.iter().zip(bounds).find_map(|(field, bounds)| field_fault(field, bounds))
}

fn descriptor_fault(text: &str) -> Option<String> {
    const KNOWN: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if KNOWN.contains(&text) {
        return None;
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Some(format!("unrecognized descriptor: {text}"));
    };
    (!is_duration(duration))
        .then(|| format!("failed to parse duration {text}: time: invalid duration {duration:?}"))
}

/// A duration such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .iter()
            .filter(|unit| rest[digits..].starts_with(**unit))
            .max_by_key(|unit| unit.len());
        match unit {
            Some(unit) if rest[..digits].parse::<f64>().is_ok() => {
                rest = &rest[digits + unit.len()..];
                any = true;
            }
            _ => return false,
        }
    }
    any
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Bounds are the lowest and highest number, and which names are known: none, months, days.
fn field_fault(field: &str, (low, high, names): (u64, u64, u8)) -> Option<String> {
    field
        .split(',')
        .filter(|part| !part.is_empty())
        .find_map(|part| range_fault(part, low, high, names))
}

fn number(text: &str, names: u8) -> Result<u64, String> {
    let lower = text.to_lowercase();
    let named = match names {
        1 => MONTHS.iter().position(|name| *name == lower).map(|at| at as u64 + 1),
        2 => DAYS.iter().position(|name| *name == lower).map(|at| at as u64),
        _ => None,
    };
    if let Some(number) = named {
        return Ok(number);
    }
    match text.parse::<i64>() {
        Ok(number) => u64::try_from(number)
            .map_err(|_| format!("negative number ({number}) not allowed: {text}")),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

fn range_fault(part: &str, low: u64, high: u64, names: u8) -> Option<String> {
    let pieces: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = pieces[0].split('-').collect();
    let starred = matches!(ends[0], "*" | "?");
    let (start, mut end) = if starred {
        (low, high)
    } else {
        let start = match number(ends[0], names) {
            Ok(number) => number,
            Err(fault) => return Some(fault),
        };
        match ends.len() {
            1 => (start, start),
            2 => match number(ends[1], names) {
                Ok(end) => (start, end),
                Err(fault) => return Some(fault),
            },
            _ => return Some(format!("too many hyphens: {part}")),
        }
    };
    let step = match pieces.len() {
        1 => 1,
        2 => {
            if !starred && ends.len() == 1 {
                end = high;
            }
            match number(pieces[1], 0) {
                Ok(step) => step,
                Err(fault) => return Some(fault),
            }
        }
        _ => return Some(format!("too many slashes: {part}")),
    };
    if start < low {
        return Some(format!("beginning of range ({start}) below minimum ({low}): {part}"));
    }
    if end > high {
        return Some(format!("end of range ({end}) above maximum ({high}): {part}"));
    }
    if start > end {
        return Some(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    (step == 0).then(|| format!("step of range should be a positive number: {part}"))
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1 jan mon-fri", "@daily", "@every 1h30m"] {
            assert_eq!(fault(good), None, "{good}");
        }
        let bad = [
            ("every day", "expected exactly 5 fields, found 2: [every day]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@often", "unrecognized descriptor: @often"),
        ];
        for (schedule, text) in bad {
            assert_eq!(fault(schedule).as_deref(), Some(text), "{schedule}");
        }
    }
}
