//! Rules about files: length, headers, forbidden words, tests that are switched off.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use host::command;

use crate::build::root;

/// A file longer than this wants cutting (design: soft 500, hard 800).
const MOST_LINES: usize = 800;
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Breaches, one line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let listed = command::run(
        std::process::Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
            .current_dir(root()),
    )?;
    let mut breaches = Vec::new();
    for name in listed.lines() {
        let path = root().join(name);
        // Deleted but not yet committed.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        check_name(name, &mut breaches);
        check_text(name, &text, &mut breaches);
    }
    breaches.extend(check_decisions().context("check docs/decisions")?);
    Ok(breaches)
}

fn check_name(name: &str, breaches: &mut Vec<String>) {
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&stem.as_ref()) {
        breaches.push(format!("{name}: a name that says nothing; name what is in it"));
    }
}

fn check_text(name: &str, text: &str, breaches: &mut Vec<String>) {
    let lines = text.lines().count();
    let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
    if lines > MOST_LINES && !is_test {
        breaches.push(format!("{name}: {lines} lines, at most {MOST_LINES}"));
    }
    let first = text.lines().next().unwrap_or_default();
    let is_module = !is_test && !name.ends_with("build.rs");
    if is_module && !first.starts_with("//!") && !first.starts_with("#!") {
        breaches.push(format!("{name}: no `//!` line that says what it does"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        // Spelt so that this file passes its own check.
        for word in [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!(")]
        {
            if code.starts_with(word) || (code.contains(word) && !code.starts_with("//")) {
                breaches.push(format!("{name}:{}: {word}", number + 1));
            }
        }
        if line.ends_with(' ') || line.ends_with('\t') {
            breaches.push(format!("{name}:{}: trailing space", number + 1));
        }
    }
}

/// Decisions are numbered once each.
fn check_decisions() -> Result<Vec<String>> {
    let mut numbers: Vec<String> = fs::read_dir(root().join("docs/decisions"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md"))
        .map(|name| name.chars().take(4).collect())
        .collect();
    numbers.sort();
    let twice = numbers.windows(2).filter(|pair| pair[0] == pair[1]);
    Ok(twice.map(|pair| format!("docs/decisions: number {} is used twice", pair[0])).collect())
}
