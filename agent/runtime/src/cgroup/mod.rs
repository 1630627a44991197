//! Control groups: finding the hierarchies, making groups with limits, killing, reading, removing.
//!
//! Three layouts exist: pure v2 (real nodes); v1 controllers with an empty v2 hierarchy beside them
//! (*hybrid*); v1 alone. In the hybrid layout every group also exists in the v2 hierarchy: BPF
//! socket programs are attached there, and `cgroup.kill` works there. Everything here is files in
//! a file system; nothing waits except [`Group::remove`], which says so.

mod remove;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use crate::{Resources, Usage};
pub(crate) use remove::remove_folder;
use settings::{Setting, settings_v1, settings_v2};

/// Where hierarchies are mounted; libcontainer knows no other place.
const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers of cgroup v2 that children get, where the kernel has them.
const V2_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Pure cgroup v2, mounted here.
    Unified(PathBuf),
    /// cgroup v1.
    Legacy {
        /// Controller name to the mount point of its hierarchy.
        controllers: BTreeMap<String, PathBuf>,
        /// The v2 hierarchy beside them, if there is one.
        unified: Option<PathBuf>,
    },
}

impl Layout {
    /// Looks at what is mounted.
    pub fn detect() -> io::Result<Self> {
        let root = Path::new(MOUNT);
        if statfs(root)?.filesystem_type() == CGROUP2_SUPER_MAGIC {
            return Ok(Self::Unified(root.to_path_buf()));
        }
        let mut controllers = BTreeMap::new();
        let mut unified = None;
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            let Some((place, kind, options)) = parse_mount(line) else { continue };
            if !place.starts_with(root) {
                continue;
            }
            match kind {
                "cgroup2" => unified = unified.or(Some(place)),
                "cgroup" => {
                    for option in options.split(',') {
                        if is_controller(option) {
                            controllers.entry(option.to_owned()).or_insert(place.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        if controllers.is_empty() {
            return Err(io::Error::other(format!("no cgroup controllers are mounted at {MOUNT}")));
        }
        Ok(Self::Legacy { controllers, unified })
    }

    /// In words, for the log and for `skeg check`.
    pub fn describe(&self) -> String {
        match self {
            Self::Unified(_) => "cgroup v2".to_owned(),
            Self::Legacy { controllers, unified } => format!(
                "cgroup v1 ({}){}",
                controllers.keys().cloned().collect::<Vec<_>>().join(", "),
                if unified.is_some() { " with a v2 hierarchy beside it" } else { "" }
            ),
        }
    }
}

/// Mount point, file system type and super-block options of a line of mountinfo.
fn parse_mount(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    let place = mount.split(' ').nth(4)?;
    let mut source = source.split(' ');
    let kind = source.next()?;
    let options = source.nth(1)?;
    Some((PathBuf::from(place), kind, options))
}

fn is_controller(option: &str) -> bool {
    const KNOWN: [&str; 12] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "perf_event",
        "net_cls",
        "net_prio",
    ];
    KNOWN.contains(&option)
}

/// The node's subtree.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    layout: Layout,
    /// Relative to the hierarchies' roots: `/skeg-NODE`.
    root: PathBuf,
    /// The node's folder in the v2 hierarchy of a hybrid layout.
    unified_root: Option<PathBuf>,
}

impl Tree {
    pub(crate) fn new(layout: Layout, root: PathBuf, unified_root: Option<PathBuf>) -> Self {
        let unified_root = match &layout {
            Layout::Unified(_) => None,
            Layout::Legacy { unified, .. } => unified_root
                .or_else(|| unified.as_ref().map(|mount| mount.join(relative(&root))))
                .filter(|folder| unified.as_ref().is_some_and(|mount| folder.starts_with(mount))),
        };
        Self { layout, root, unified_root }
    }

    /// The group at `path`, relative to the node's root. Makes nothing.
    pub(crate) fn group(&self, path: &str) -> Group {
        let full = self.root.join(relative(Path::new(path)));
        match &self.layout {
            Layout::Unified(mount) => Group {
                controllers: BTreeMap::new(),
                unified: Some(mount.join(relative(&full))),
                mount: mount.clone(),
                version: Version::V2,
                path: full,
            },
            Layout::Legacy { controllers, .. } => Group {
                controllers: controllers
                    .iter()
                    .map(|(name, mount)| (name.clone(), mount.join(relative(&full))))
                    .collect(),
                unified: self
                    .unified_root
                    .as_ref()
                    .map(|folder| folder.join(relative(Path::new(path)))),
                mount: PathBuf::from(MOUNT),
                version: Version::V1,
                path: full,
            },
        }
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Which interface files a group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    V1,
    V2,
}

/// One control group, in all hierarchies it has to be in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Relative to the hierarchies' roots, as libcontainer wants it.
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    mount: PathBuf,
    /// v1 controller to folder.
    controllers: BTreeMap<String, PathBuf>,
    /// Folder in the v2 hierarchy.
    pub(crate) unified: Option<PathBuf>,
}

impl Group {
    /// Makes the group and sets its limits. What exists already stays.
    pub(crate) fn create(&self, resources: &Resources) -> io::Result<()> {
        for (controller, folder) in &self.controllers {
            fs::create_dir_all(folder).map_err(|error| at("make cgroup", folder, &error))?;
            if controller == "cpuset" {
                self.inherit_cpuset(folder)?;
            }
        }
        if let Some(folder) = &self.unified {
            fs::create_dir_all(folder).map_err(|error| at("make cgroup", folder, &error))?;
            if self.version == Version::V2 {
                self.enable_controllers(folder);
            }
        }
        self.set(resources)
    }

    /// Changes the limits.
    pub(crate) fn set(&self, resources: &Resources) -> io::Result<()> {
        match self.version {
            Version::V1 => self.apply(&settings_v1(resources)),
            Version::V2 => self.apply(&settings_v2(resources)),
        }
    }

    /// Folder of the group holding `controller`'s files.
    fn folder(&self, controller: &str) -> Option<&Path> {
        match self.version {
            Version::V1 => self.controllers.get(controller),
            Version::V2 => self.unified.as_ref(),
        }
        .map(PathBuf::as_path)
    }

    fn apply(&self, settings: &[Setting]) -> io::Result<()> {
        let mut again = Vec::new();
        for setting in settings {
            let Some(folder) = self.folder(setting.controller) else { continue };
            let file = folder.join(&setting.file);
            match fs::write(&file, &setting.value) {
                Ok(()) => {}
                // Swap accounting and huge page sizes may be missing: nothing to limit there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && setting.optional => {}
                // Memory and memory+swap limits bound each other: which one may move first
                // depends on the direction. The second pass succeeds in the other order.
                Err(error) if setting.controller == "memory" => again.push((setting, error)),
                Err(error) => return Err(at("write", &file, &error)),
            }
        }
        for (setting, _first) in again {
            let Some(folder) = self.folder(setting.controller) else { continue };
            let file = folder.join(&setting.file);
            fs::write(&file, &setting.value).map_err(|error| at("write", &file, &error))?;
        }
        Ok(())
    }

    /// A v1 cpuset group takes no process before its CPUs and memory nodes are set.
    fn inherit_cpuset(&self, folder: &Path) -> io::Result<()> {
        let mut chain: Vec<&Path> =
            folder.ancestors().take_while(|parent| parent.join("cpuset.cpus").exists()).collect();
        chain.reverse();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            for step in chain.windows(2) {
                let child = step[1].join(file);
                if fs::read_to_string(&child)?.trim().is_empty() {
                    let value = fs::read_to_string(step[0].join(file))?;
                    fs::write(&child, value.trim()).map_err(|error| at("write", &child, &error))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the group's parents their controllers. What the kernel lacks is left out: a limit
    /// that needs it fails when it is set.
    fn enable_controllers(&self, folder: &Path) {
        let mut parents: Vec<&Path> = folder
            .ancestors()
            .skip(1)
            .take_while(|parent| parent.starts_with(&self.mount))
            .collect();
        parents.reverse();
        for parent in parents {
            for controller in V2_CONTROLLERS {
                let _missing =
                    fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }

    /// Puts a process into the group.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        for folder in self.folders() {
            let file = folder.join("cgroup.procs");
            fs::write(&file, pid.to_string()).map_err(|error| at("write", &file, &error))?;
        }
        Ok(())
    }

    /// Allows these devices and no others (v1; the v2 hierarchy has no such files).
    pub(crate) fn restrict_devices(&self, allowed: &[String]) -> io::Result<()> {
        let Some(folder) = self.controllers.get("devices") else { return Ok(()) };
        let (deny, allow) = (folder.join("devices.deny"), folder.join("devices.allow"));
        fs::write(&deny, "a").map_err(|error| at("write", &deny, &error))?;
        for rule in allowed {
            fs::write(&allow, rule).map_err(|error| at("write", &allow, &error))?;
        }
        Ok(())
    }

    /// Puts the calling process, which has one thread, into the v1 groups.
    ///
    /// A thread that moves itself does not have to wait for a grace period of some 12 ms, as
    /// everybody who moves a whole process has to.
    pub(crate) fn join_by_thread(&self) -> io::Result<()> {
        for folder in self.controllers.values() {
            let file = folder.join("tasks");
            fs::write(&file, "0").map_err(|error| at("write", &file, &error))?;
        }
        Ok(())
    }

    /// Processes in the group and below.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for folder in self.folders() {
            collect_processes(folder, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(self.controllers.values())
    }

    /// How often the kernel's OOM killer has struck in the group.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.folder("memory")
            .and_then(|folder| read_key(&folder.join(file), "oom_kill"))
            .unwrap_or(0)
    }

    /// What the group uses now.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let number = |controller: &str, file: &str| {
            self.folder(controller)
                .and_then(|folder| fs::read_to_string(folder.join(file)).ok())
                .and_then(|text| text.trim().parse::<u64>().ok())
        };
        let key = |controller: &str, file: &str, name: &str| {
            self.folder(controller).and_then(|folder| read_key(&folder.join(file), name))
        };
        let usage = match self.version {
            Version::V1 => Usage {
                cpu_nanos: number("cpuacct", "cpuacct.usage").unwrap_or(0),
                working_set_bytes: number("memory", "memory.usage_in_bytes")
                    .unwrap_or(0)
                    .saturating_sub(
                        key("memory", "memory.stat", "total_inactive_file").unwrap_or(0),
                    ),
                pids: number("pids", "pids.current").unwrap_or(0),
            },
            Version::V2 => Usage {
                cpu_nanos: key("cpu", "cpu.stat", "usage_usec").unwrap_or(0).saturating_mul(1000),
                working_set_bytes: number("memory", "memory.current")
                    .unwrap_or(0)
                    .saturating_sub(key("memory", "memory.stat", "inactive_file").unwrap_or(0)),
                pids: number("pids", "pids.current").unwrap_or(0),
            },
        };
        if self.folders().any(|folder| folder.exists()) {
            Ok(usage)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "the cgroup is gone"))
        }
    }
}

fn collect_processes(folder: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), pids);
        }
    }
}

/// The number after `name` in a flat keyed file.
fn read_key(file: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}

fn at(operation: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}
