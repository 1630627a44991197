//! The cgroup subtree of a host, in whatever hierarchies the machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait_for;

const ROOT: &str = "/sys/fs/cgroup";

/// The mounted hierarchies: the one of cgroup v2, or one per v1 controller plus `unified`.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("list {ROOT}"))? {
        let path = entry?.path();
        // Symlinks such as `cpuacct` point at a hierarchy that is listed already.
        if path.symlink_metadata()?.is_dir() && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The mount of cgroup v2, on which socket programs are attached.
pub fn v2_mount() -> Result<PathBuf> {
    let unified = Path::new(ROOT).join("unified");
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(PathBuf::from(ROOT));
    }
    anyhow::ensure!(
        unified.join("cgroup.procs").exists(),
        "no cgroup v2 hierarchy at {ROOT} or {}: mount one (`mount -t cgroup2 none {}`)",
        unified.display(),
        unified.display()
    );
    Ok(unified)
}

/// Makes a folder for `subtree` in the v2 hierarchy and puts process `pid` (0: the caller) into it.
pub fn join_v2(subtree: &str, pid: i32) -> Result<()> {
    let folder = v2_mount()?.join(subtree.trim_start_matches('/'));
    fs::create_dir_all(&folder).with_context(|| format!("make cgroup {}", folder.display()))?;
    let procs = folder.join("cgroup.procs");
    fs::write(&procs, pid.to_string()).with_context(|| format!("write {}", procs.display()))
}

fn folders_below(root: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders_below(&entry.path(), found);
        }
    }
    found.push(root.to_path_buf());
}

/// Processes in a subtree, over all hierarchies.
pub fn processes(subtree: &str) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        let mut folders = Vec::new();
        folders_below(&hierarchy.join(subtree.trim_start_matches('/')), &mut folders);
        for folder in folders {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Kills whatever is in a subtree and removes it. Succeeds if there is nothing.
pub fn remove(subtree: &str) -> Result<()> {
    anyhow::ensure!(subtree.trim_matches('/').starts_with("skeg"), "not our cgroup: {subtree}");
    wait_for(&format!("remove cgroup {subtree}"), Duration::from_secs(20), || {
        for pid in processes(subtree).map_err(|error| format!("{error:#}"))? {
            // A process that is gone already is what is wanted.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        remove_empty(subtree).map_err(|error| format!("{error:#}"))
    })
}

fn remove_empty(subtree: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let root = hierarchy.join(subtree.trim_start_matches('/'));
        if !root.exists() {
            continue;
        }
        let mut folders = Vec::new();
        folders_below(&root, &mut folders);
        for folder in folders {
            fs::remove_dir(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    Ok(())
}
