//! The table: what was measured, and whether it keeps the promise.

use std::fmt;

/// Which side of the limit is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing is promised.
    None,
}

struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    limit: Limit,
    note: String,
}

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds a row and shows it at once.
    pub(crate) fn add(
        &mut self,
        what: &str,
        value: f64,
        unit: &'static str,
        limit: Limit,
        note: impl Into<String>,
    ) {
        let row = Row { what: what.into(), value, unit, limit, note: note.into() };
        println!("{row}");
        self.0.push(row);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (promise, kept) = match self.limit {
            Limit::AtMost(limit) => (format!("<= {limit}"), self.value <= limit),
            Limit::AtLeast(limit) => (format!(">= {limit}"), self.value >= limit),
            Limit::None => (String::new(), true),
        };
        let mark = if kept { "" } else { "  MISSED" };
        let value = format!("{:.2} {}", self.value, self.unit);
        write!(f, "{:<58} {value:>16} {promise:>10}{mark}  {}", self.what, self.note)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for row in &self.0 {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

/// Runs an example of one of our crates, in release, and takes figures from the JSON object that it
/// prints as its last line.
pub(crate) fn from_example(
    report: &mut Report,
    (package, example): (&str, &str),
    fields: &[(&str, &str, &'static str, Limit)],
) -> anyhow::Result<()> {
    use anyhow::Context;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--release", "--package", package, "--example", example]);
    let text = host::command::run(&mut command)?;
    let line = text.lines().rev().find(|line| line.starts_with('{')).context("no JSON line")?;
    let figures: serde_json::Value = serde_json::from_str(line).context("parse the JSON line")?;
    for (field, what, unit, limit) in fields {
        let value = figures[*field].as_f64().with_context(|| format!("no {field} in {line}"))?;
        report.add(what, value, unit, *limit, "");
    }
    Ok(())
}
