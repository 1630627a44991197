//! Limits as the files that set them. PURE.

use crate::Resources;

/// One file of a control group to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller the file belongs to.
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// The kernel may lack the file.
    pub(super) optional: bool,
}

fn setting(controller: &'static str, file: &str, value: impl ToString) -> Setting {
    Setting { controller, file: file.to_owned(), value: value.to_string(), optional: false }
}

fn optional(controller: &'static str, file: &str, value: impl ToString) -> Setting {
    Setting { optional: true, ..setting(controller, file, value) }
}

/// Limits as cgroup v1 files.
pub(super) fn settings_v1(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        settings.push(setting("cpu", "cpu.shares", shares));
    }
    if let Some(period) = resources.cpu_period_micros {
        settings.push(setting("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = resources.cpu_quota_micros {
        settings.push(setting("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(bytes) = resources.memory_bytes {
        settings.push(setting("memory", "memory.limit_in_bytes", bytes));
        // No swap beyond the limit, as with the kubelet's NoSwap.
        settings.push(optional("memory", "memory.memsw.limit_in_bytes", bytes));
    }
    if let Some(pids) = resources.pids {
        settings.push(setting("pids", "pids.max", v2_max(pids)));
    }
    for (size, bytes) in &resources.hugepages_bytes {
        settings.push(optional("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes));
    }
    settings
}

/// Limits as cgroup v2 files.
pub(super) fn settings_v2(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        settings.push(setting("cpu", "cpu.weight", weight(shares)));
    }
    if resources.cpu_quota_micros.is_some() || resources.cpu_period_micros.is_some() {
        let quota = resources.cpu_quota_micros.unwrap_or(-1);
        let period = resources.cpu_period_micros.unwrap_or(100_000);
        settings.push(setting("cpu", "cpu.max", format!("{} {period}", v2_max(quota))));
    }
    if let Some(bytes) = resources.memory_bytes {
        settings.push(setting("memory", "memory.max", v2_max(bytes)));
        settings.push(optional("memory", "memory.swap.max", 0));
    }
    if let Some(pids) = resources.pids {
        settings.push(setting("pids", "pids.max", v2_max(pids)));
    }
    for (size, bytes) in &resources.hugepages_bytes {
        settings.push(optional("hugetlb", &format!("hugetlb.{size}.max"), bytes));
    }
    settings
}

/// v1 shares (2..=262144) as a v2 weight (1..=10000), on a straight line.
///
/// Source: kubernetes pkg/kubelet/cm/cgroup_manager_linux.go, `getCPUWeight`.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn v2_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}
