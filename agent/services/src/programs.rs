//! Loads the programs and attaches them so that they outlive the agent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use aya::{Ebpf, EbpfLoader};
use ebpf_maps::{LAYOUT_VERSION, Settings};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Config;
use crate::error::ServicesError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/services.bpf.o"));

/// Maps that are pinned: contents, and what keeps flows together over a restart of the agent.
const PINNED_MAPS: [&str; 9] = [
    "FRONTENDS",
    "SLOTS",
    "BACKENDS",
    "SETTINGS",
    "AFFINITY",
    "ORIGINS",
    "UDP_FLOWS",
    "UDP_REVERSE",
    "UDP_CONNECTED",
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

const LINKS: &str = "links";

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
        masquerade_v4_be: [0; 4],
        masquerade_v6_be: [0; 4],
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

/// Attaches this agent's programs, then lets go of the last agent's. While both are attached
/// everything still works: what the first translates is no Service any more to the second.
pub(crate) fn attach(object: &mut Ebpf, config: &Config) -> Result<(), ServicesError> {
    let cgroup = File::open(&config.cgroup2_dir)
        .map_err(|e| io_error("open cgroup", &config.cgroup2_dir, e))?;
    for name in SOCKET_PROGRAMS {
        let link = attach_socket_program(object, name, &cgroup)?;
        pin_link(link, &pin_dir(config).join(LINKS), name)?;
    }
    remove_other_layouts(config);
    Ok(())
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
    config.bpffs_dir.join(format!("v{LAYOUT_VERSION}"))
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

/// Removes what agents with other layouts have pinned: programs and maps go with it.
fn remove_other_layouts(config: &Config) {
    let current = pin_dir(config);
    let Ok(entries) = fs::read_dir(&config.bpffs_dir) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.path() != current) {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "old BPF pins stay");
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
