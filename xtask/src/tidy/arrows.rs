//! Who may use whom, checked against `cargo metadata` (design: layers point one way).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use host::command;
use serde_json::Value;

use crate::build::cargo;

/// Ours that each of ours may use. `cli` may use all; test crates are not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("objects", &[]),
    ("patch", &[]),
    ("store", &[]),
    ("ebpf-maps", &[]),
    ("kinds", &["objects"]),
    ("informer", &["objects"]),
    ("apiserver", &["objects", "patch", "kinds", "store"]),
    ("controllers", &["objects", "informer"]),
    ("scheduler", &["objects", "informer"]),
    ("runtime", &[]),
    ("images", &[]),
    ("network", &["informer"]),
    ("kubelet", &["objects", "informer", "runtime", "images", "network"]),
    ("services", &["objects", "informer", "network", "ebpf-maps"]),
    ("dns", &["objects", "informer"]),
    ("host", &[]),
    ("xtask", &["host"]),
];

/// Crates that may use all of ours.
const COMPOSERS: &[&str] = &["skeg", "cluster", "it", "bench", "golden"];

/// Breaches, one line each. Dev-dependencies are free: tests may start real neighbours.
pub(crate) fn check() -> Result<Vec<String>> {
    let text = command::run(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("parse cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages in cargo metadata")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut breaches = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if COMPOSERS.contains(&name) {
            continue;
        }
        let Some(may_use) = allowed.get(name) else {
            breaches.push(format!(
                "crate {name} is not in xtask/src/tidy/arrows.rs: say what it may use"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests_only = dependency["kind"] == "dev";
            if names.contains(&used) && !in_tests_only && !may_use.contains(&used) {
                breaches.push(format!("crate {name} must not use {used}"));
            }
        }
    }
    Ok(breaches)
}
