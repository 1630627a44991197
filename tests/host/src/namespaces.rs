//! Namespaces of a host, kept alive by one sleeping process, and the switch that joins hosts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::run;
use crate::wait_for;

/// Starts the process that holds a host's network, mount and UTS namespace, and returns its pid.
/// The mount namespace is private: what a node mounts is never seen outside.
pub fn hold(hostname: &str) -> Result<i32> {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--uts", "--propagation", "private", "--", "sh", "-c"])
        .arg("hostname \"$0\" && ip link set lo up && exec sleep infinity")
        .arg(hostname)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Outlives the command that made it, and takes no terminal signals.
        .process_group(0);
    let child = command.spawn().context("start unshare (Debian package util-linux)")?;
    let pid = i32::try_from(child.id()).context("pid of unshare")?;
    wait_for(&format!("namespaces of {hostname}"), Duration::from_secs(10), || {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "sleep" { Ok(()) } else { Err(format!("it runs {name:?}")) }
    })?;
    Ok(pid)
}

/// A command that runs inside the namespaces held by `holder`.
pub fn enter(holder: i32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &holder.to_string(), "--net", "--mount", "--uts", "--", program]);
    command
}

/// Runs `ip` inside the namespaces held by `holder`.
pub fn ip(holder: i32, args: &[&str]) -> Result<String> {
    run(enter(holder, "ip").args(args))
}

/// Joins a host to the switch: a veth, `uplink` in the host with `address` (with its prefix
/// length), a port of the bridge `switch0` on the other side.
pub fn plug(switch: i32, host: i32, port: &str, address: &str) -> Result<()> {
    let host_pid = host.to_string();
    ip(
        switch,
        &["link", "add", port, "type", "veth", "peer", "name", "uplink", "netns", &host_pid],
    )?;
    ip(switch, &["link", "set", port, "master", "switch0", "up"])?;
    ip(host, &["addr", "add", address, "dev", "uplink"])?;
    ip(host, &["link", "set", "uplink", "up"])?;
    Ok(())
}

/// Makes the bridge inside the switch namespace.
pub fn make_switch(switch: i32) -> Result<()> {
    ip(switch, &["link", "add", "switch0", "type", "bridge"])?;
    ip(switch, &["link", "set", "switch0", "up"])?;
    Ok(())
}

/// Pids of all processes whose network or mount namespace is one of those held by `holder`.
pub fn members(holder: i32) -> BTreeSet<i32> {
    let link = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (net, mnt) = (link(holder, "net"), link(holder, "mnt"));
    let own = fs::read_link("/proc/self/ns/net").ok();
    if net.is_none() || net == own {
        return BTreeSet::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| link(*pid, "net") == net || (mnt.is_some() && link(*pid, "mnt") == mnt))
        .collect()
}

/// Kills every process in the namespaces held by `holder`, the holder last. Succeeds if it is gone.
pub fn end(holder: i32) -> Result<()> {
    wait_for(&format!("end the processes of namespace {holder}"), Duration::from_secs(20), || {
        let members = members(holder);
        if members.is_empty() {
            return Ok(());
        }
        for pid in members.iter().rev().filter(|pid| **pid != holder || members.len() == 1) {
            // A process that is gone already is what is wanted.
            let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            // Ours to reap if we started it.
            let _reaped = nix::sys::wait::waitpid(
                Pid::from_raw(*pid),
                Some(nix::sys::wait::WaitPidFlag::WNOHANG),
            );
        }
        Err(format!("left: {members:?}"))
    })
}
