//! What this machine has and is: read once at start, usage on demand.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;

use crate::config::Reserved;

/// Facts that do not change while the agent runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) storage_bytes: i64,
    pub(crate) hostname: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) architecture: String,
    pub(crate) pids_max: i64,
    pub(crate) data_dir: PathBuf,
}

/// What pods may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocatable {
    pub(crate) cpu_millis: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) storage_bytes: i64,
}

/// What is free now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) memory_bytes: i64,
    pub(crate) storage_bytes: i64,
    pub(crate) inodes: i64,
    pub(crate) inodes_all: i64,
    pub(crate) pids: i64,
    /// Most process ids at a time.
    pub(crate) pids_max: i64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A field of `/proc/meminfo` in bytes.
fn meminfo(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: Option<i64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

impl Machine {
    /// Looks. What cannot be read is left empty: a container without `/sys` can be a node too.
    pub(crate) fn look(data_dir: &Path) -> Self {
        let names = uname().ok();
        let named = |get: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            names.as_ref().map(|names| get(names).to_string_lossy().into_owned())
        };
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let system_uuid = read("/sys/class/dmi/id/product_uuid");
        let machine_id = read("/etc/machine-id");
        let os_release = read("/etc/os-release");
        let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Self {
            cpus: i64::try_from(cpus).unwrap_or(1),
            memory_bytes: meminfo(&read("/proc/meminfo"), "MemTotal"),
            storage_bytes: disk(data_dir).map_or(0, |disk| disk.all_bytes),
            hostname: named(|names| names.nodename()).unwrap_or_default(),
            system_uuid: if system_uuid.is_empty() { machine_id.clone() } else { system_uuid },
            machine_id,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: named(|names| names.release()).unwrap_or_default(),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            pids_max: read("/proc/sys/kernel/pid_max").parse().unwrap_or(32_768),
            data_dir: data_dir.to_path_buf(),
        }
    }

    /// Capacity less what is reserved.
    pub(crate) fn allocatable(&self, reserved: Reserved) -> Allocatable {
        Allocatable {
            cpu_millis: (self.cpus * 1000 - reserved.cpu_millis).max(0),
            memory_bytes: (self.memory_bytes - reserved.memory_bytes).max(0),
            // Upstream keeps the tenth of the disk below which it evicts.
            storage_bytes: self.storage_bytes - self.storage_bytes / 10,
        }
    }

    /// What is free now. Blocking, but only for as long as the kernel looks.
    pub(crate) fn free(&self) -> Free {
        let disk = disk(&self.data_dir).unwrap_or_default();
        let loads = read("/proc/loadavg");
        // The fourth field is RUNNING/ALL threads.
        let threads = loads.split(' ').nth(3).and_then(|field| field.split('/').nth(1));
        let threads: i64 = threads.and_then(|text| text.parse().ok()).unwrap_or(0);
        Free {
            memory_bytes: meminfo(&read("/proc/meminfo"), "MemAvailable"),
            storage_bytes: disk.free_bytes,
            inodes: disk.free_inodes,
            inodes_all: disk.all_inodes,
            pids: self.pids_max - threads,
            pids_max: self.pids_max,
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    all_bytes: i64,
    free_bytes: i64,
    all_inodes: i64,
    free_inodes: i64,
}

fn disk(path: &Path) -> Option<Disk> {
    let stats = statvfs(path).ok()?;
    let unit = stats.fragment_size();
    Some(Disk {
        // What is reserved for root is nobody's to fill: it would look like pressure for ever.
        all_bytes: signed((stats.blocks() - stats.blocks_free() + stats.blocks_available()) * unit),
        free_bytes: signed(stats.blocks_available() * unit),
        all_inodes: signed(stats.files()),
        free_inodes: signed(stats.files_available()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:   8192 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), 16 << 20);
        assert_eq!(meminfo(text, "MemAvailable"), 8 << 20);
        assert_eq!(meminfo(text, "None"), 0);
    }

    #[test]
    fn reserved_is_not_allocatable() {
        let machine =
            Machine { cpus: 2, memory_bytes: 100, storage_bytes: 50, ..Machine::default() };
        let reserved = Reserved { cpu_millis: 500, memory_bytes: 200 };
        let wanted = Allocatable { cpu_millis: 1500, memory_bytes: 0, storage_bytes: 45 };
        assert_eq!(machine.allocatable(reserved), wanted);
    }
}
