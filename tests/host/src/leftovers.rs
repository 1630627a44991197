//! What tests and clusters may have left on the machine.

use std::fs;
use std::path::Path;

use crate::{cgroup, cluster};

/// Everything found that is skeg's, one line each; empty on a clean machine.
pub fn find() -> Vec<String> {
    let mut found = Vec::new();
    for name in cluster::names() {
        found.push(format!("cluster {name}: `cargo xtask dev down --name {name}` removes it"));
    }
    for hierarchy in cgroup::hierarchies().unwrap_or_default() {
        found.extend(entries_named_skeg(&hierarchy).map(|path| format!("cgroup {path}")));
    }
    for folder in ["/run/netns", "/sys/fs/bpf", "/run"] {
        found.extend(entries_named_skeg(Path::new(folder)).map(|path| format!("folder {path}")));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        if let Some(point) = line.split(' ').nth(4).filter(|point| point.contains("skeg")) {
            found.push(format!("mount {point}"));
        }
    }
    found.extend(processes());
    found
}

fn entries_named_skeg(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("skeg"))
        .map(|entry| entry.path().display().to_string())
}

fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flat_map(|entries| entries.flatten()) {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("skeg") {
            found.push(format!("process {} {}", entry.file_name().display(), comm.trim()));
        }
    }
    found
}
