//! Loads the programs and attaches them so that they outlive the agent.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map};
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use ebpf_maps::{AddrBe, LAYOUT_VERSION, Settings};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Config;
use crate::error::ServicesError;
use crate::maps::encode_ip;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/services.bpf.o"));

/// Maps that are pinned: contents, and what keeps flows together over a restart of the agent.
const PINNED_MAPS: [&str; 11] = [
    "FRONTENDS",
    "SLOTS",
    "BACKENDS",
    "SETTINGS",
    "AFFINITY",
    "ORIGINS",
    "UDP_FLOWS",
    "UDP_REVERSE",
    "UDP_CONNECTED",
    "NAT",
    "NETWORKS",
];

/// Programs attached to the node's cgroup.
const SOCKET_PROGRAMS: [&str; 8] = [
    // Those that undo a translation first: in between, nothing is translated one way only.
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
];

/// Programs attached to every uplink, and to which side of it.
const UPLINK_PROGRAMS: [(&str, TcAttachType); 2] =
    [("to_outside", TcAttachType::Egress), ("from_outside", TcAttachType::Ingress)];

const LINKS: &str = "links";
/// Beginning of the names of the pin folders, one for each version of the layout.
const PIN_DIR_PREFIX: &str = "v";

/// Makes the maps, or opens those that are pinned, and readies the programs.
pub(crate) fn load(config: &Config) -> Result<Ebpf, ServicesError> {
    mount_bpffs(&config.bpffs_dir)?;
    let pins = pin_dir(config);
    fs::create_dir_all(pins.join(LINKS)).map_err(|e| io_error("create folder", &pins, e))?;

    let mut loader = EbpfLoader::new();
    for name in PINNED_MAPS {
        loader.map_pin_path(name, pins.join(name));
    }
    loader.map_max_entries("FRONTENDS", config.frontends_max);
    loader.map_max_entries("SLOTS", config.backends_max);
    loader.map_max_entries("BACKENDS", config.backends_max);
    let mut object = loader.load(OBJECT).map_err(|source| ServicesError::Load(Box::new(source)))?;
    write_settings(&mut object, config)?;
    Ok(object)
}

fn write_settings(object: &mut Ebpf, config: &Config) -> Result<(), ServicesError> {
    let error = |operation, source| ServicesError::Map {
        operation,
        name: "SETTINGS",
        source: Box::new(source),
    };
    let host_netns_cookie = network::netns_cookie()
        .map_err(|e| io_error("read the cookie of", Path::new("/proc/self/ns/net"), e))?;
    let settings = Settings {
        host_netns_cookie,
        masquerade_v4_be: own_address(config, IpAddr::is_ipv4),
        masquerade_v6_be: own_address(config, IpAddr::is_ipv6),
        masquerade_pods: u32::from(config.masquerade_pods),
        pad: 0,
    };
    // Not taken out: programs refer to the map by the descriptor that stays with the object.
    let map = object
        .map_mut("SETTINGS")
        .ok_or_else(|| ServicesError::Missing { what: "map", name: "SETTINGS".to_owned() })?;
    let mut array: Array<_, Settings> =
        Array::try_from(map).map_err(|source| error("open", source))?;
    array.set(0, settings, 0).map_err(|source| error("write", source))
}

/// The node's first address of a family, zero if it has none.
fn own_address(config: &Config, of_family: fn(&IpAddr) -> bool) -> AddrBe {
    let mut ips = config.node_addresses.iter().filter(|ip| of_family(ip) && !ip.is_loopback());
    ips.next().map_or([0; 4], |ip| encode_ip(*ip))
}

/// Attaches this agent's programs, then lets go of the last agent's. While both are attached
/// everything still works: what the first translates is no Service any more to the second.
pub(crate) fn attach(object: &mut Ebpf, config: &Config) -> Result<(), ServicesError> {
    let cgroup = File::open(&config.cgroup2_dir)
        .map_err(|e| io_error("open cgroup", &config.cgroup2_dir, e))?;
    let links = pin_dir(config).join(LINKS);
    for name in SOCKET_PROGRAMS {
        let link = attach_socket_program(object, name, &cgroup)?;
        pin_link(link, &links, name)?;
    }
    let mut pins: Vec<String> = SOCKET_PROGRAMS.map(str::to_owned).to_vec();
    for (name, side) in UPLINK_PROGRAMS {
        load_uplink_program(object, name)?;
        for uplink in &config.uplinks {
            let pin = pin_name(name, uplink);
            let link = attach_uplink_program(object, name, uplink, side)?;
            pin_link(link, &links, &pin)?;
            pins.push(pin);
        }
    }
    remove_all_but(&links, "", &pins);
    remove_all_but(&config.bpffs_dir, PIN_DIR_PREFIX, &[pin_dir_name()]);
    Ok(())
}

/// Whether everything that was attached is still pinned; what is not is detached.
pub(crate) fn are_pinned(config: &Config) -> bool {
    let links = pin_dir(config).join(LINKS);
    let uplinks = config.uplinks.iter();
    let on_uplinks =
        uplinks.flat_map(|uplink| UPLINK_PROGRAMS.map(|(name, _)| pin_name(name, uplink)));
    let mut names = SOCKET_PROGRAMS.map(str::to_owned).into_iter().chain(on_uplinks);
    names.all(|name| links.join(name).exists())
}

fn pin_name(program: &str, uplink: &str) -> String {
    format!("{program}-{uplink}")
}

fn uplink_program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, ServicesError> {
    let program = object
        .program_mut(name)
        .ok_or_else(|| ServicesError::Missing { what: "program", name: name.to_owned() })?;
    program.try_into().map_err(|e| program_error("load", name, e))
}

fn load_uplink_program(object: &mut Ebpf, name: &'static str) -> Result<(), ServicesError> {
    uplink_program(object, name)?.load().map_err(|e| program_error("load", name, e))
}

fn attach_uplink_program(
    object: &mut Ebpf,
    name: &'static str,
    uplink: &str,
    side: TcAttachType,
) -> Result<FdLink, ServicesError> {
    let program = uplink_program(object, name)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let attached = program
        .attach_with_options(uplink, side, options)
        .map_err(|e| program_error("attach", &format!("{name} (to {uplink})"), e))?;
    let link = program.take_link(attached).map_err(|e| program_error("attach", name, e))?;
    FdLink::try_from(link).map_err(|e| program_error("attach", name, e))
}

fn attach_socket_program(
    object: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
) -> Result<FdLink, ServicesError> {
    let program = object
        .program_mut(name)
        .ok_or_else(|| ServicesError::Missing { what: "program", name: name.to_owned() })?;
    let program: &mut CgroupSockAddr =
        program.try_into().map_err(|e| program_error("load", name, e))?;
    program.load().map_err(|e| program_error("load", name, e))?;
    // Links always join the programs that are there; a mode given with one is refused.
    let attached = program
        .attach(cgroup, CgroupAttachMode::Single)
        .map_err(|e| program_error("attach", name, e))?;
    let link = program.take_link(attached).map_err(|e| program_error("attach", name, e))?;
    FdLink::try_from(link).map_err(|e| program_error("attach", name, e))
}

/// Pins a link under `name`. What was pinned there is detached by that, after the new one works.
pub(crate) fn pin_link(link: FdLink, folder: &Path, name: &str) -> Result<(), ServicesError> {
    let fresh = folder.join(format!("{name}-new"));
    let path = folder.join(name);
    remove_if_there(&fresh)?;
    link.pin(&fresh).map_err(|e| program_error("pin", name, e))?;
    fs::rename(&fresh, &path).map_err(|e| io_error("rename", &fresh, e))
}

fn remove_if_there(path: &Path) -> Result<(), ServicesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn take_map(object: &mut Ebpf, name: &'static str) -> Result<Map, ServicesError> {
    object.take_map(name).ok_or_else(|| ServicesError::Missing { what: "map", name: name.into() })
}

pub(crate) fn pin_dir(config: &Config) -> PathBuf {
    config.bpffs_dir.join(pin_dir_name())
}

fn pin_dir_name() -> String {
    format!("{PIN_DIR_PREFIX}{LAYOUT_VERSION}")
}

fn mount_bpffs(dir: &Path) -> Result<(), ServicesError> {
    fs::create_dir_all(dir).map_err(|e| io_error("create folder", dir, e))?;
    let seen = statfs(dir).map_err(|e| io_error("look at", dir, e.into()))?;
    if seen.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), dir, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(|e| io_error("mount a BPF file system on", dir, e.into()))
}

/// Removes what earlier agents have pinned and this one has not: other layouts, uplinks that are
/// uplinks no more. Programs and maps go with their pins. What does not begin with `prefix` is the
/// kernel's.
fn remove_all_but(folder: &Path, prefix: &str, names: &[String]) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let is_old = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with(prefix) && !names.iter().any(|kept| *kept == name)
    };
    for path in entries.flatten().filter(|entry| is_old(&entry.file_name())).map(|e| e.path()) {
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "old BPF pins stay");
        }
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> ServicesError {
    ServicesError::Io { operation, path: path.to_owned(), source }
}

fn program_error(
    operation: &'static str,
    name: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ServicesError {
    ServicesError::Program { operation, name: name.to_owned(), source: source.into() }
}
