//! The kernel's maps: the one place that knows their bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError};
use ebpf_maps as layout;
use ipnet::IpNet;
use tracing::warn;

use crate::Config;
use crate::diff::MapOp;
use crate::error::ServicesError;
use crate::programs;
use crate::state::{Backend, Frontend, FrontendKey, MapSet, NetworkKind, Protocol, Scope, SlotKey};

/// Where the contents go: the kernel, or memory in tests.
pub trait Maps: Send + 'static {
    /// Everything held.
    ///
    /// # Errors
    /// If the kernel refuses to read.
    fn read(&mut self) -> Result<MapSet, ServicesError>;
    /// Carries out one operation; deleting what is not there succeeds.
    ///
    /// # Errors
    /// If the kernel refuses, most likely because the map is full.
    fn apply(&mut self, op: &MapOp) -> Result<(), ServicesError>;
    /// Takes out the UDP sockets that are connected to a backend that is not in the maps.
    ///
    /// # Errors
    /// If the kernel refuses to read.
    fn take_orphans(&mut self, held: &MapSet) -> Result<Vec<Orphan>, ServicesError>;
    /// Whether the programs that use the maps are still at work.
    fn is_attached(&self) -> bool;
    /// Attaches the programs again, and makes the maps again if they have gone too.
    ///
    /// # Errors
    /// As when they were opened.
    fn attach_again(&mut self) -> Result<(), ServicesError>;
}

/// A connected UDP socket whose backend has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The kernel's number of the socket.
    pub socket_cookie: u64,
    /// The kernel's number of its network namespace.
    pub netns_cookie: u64,
}

/// The kernel's maps, pinned, with the programs attached that use them.
pub struct BpfMaps {
    frontends: HashMap<MapData, layout::FrontendKey, layout::Frontend>,
    slots: HashMap<MapData, layout::SlotKey, u32>,
    backends: HashMap<MapData, u32, layout::Backend>,
    networks: LpmTrie<MapData, layout::AddrBe, u32>,
    udp_connected: HashMap<MapData, u64, layout::ConnectedUdp>,
    config: Config,
    /// The agent is in its own cgroup, so that it notices when nothing is translated any more.
    can_probe: bool,
}

impl BpfMaps {
    /// Opens the pinned maps, or makes them, and attaches the programs of this agent in place of
    /// those of the last one, without a moment in which none is attached. Blocks for some 50 ms.
    ///
    /// # Errors
    /// If the kernel lacks a feature, or a path in `config` cannot be used.
    pub fn open(config: &Config) -> Result<Self, ServicesError> {
        let mut object = programs::load(config)?;
        let mut maps = Self {
            frontends: open(&mut object, FRONTENDS)?,
            slots: open(&mut object, SLOTS)?,
            backends: open(&mut object, BACKENDS)?,
            udp_connected: open(&mut object, UDP_CONNECTED)?,
            networks: LpmTrie::try_from(programs::take_map(&mut object, NETWORKS)?)
                .map_err(|source| map_error("open", NETWORKS, source))?,
            config: config.clone(),
            can_probe: false,
        };
        maps.apply(&MapOp::PutFrontend(PROBE, REFUSE))?;
        programs::attach(&mut object, config)?;
        maps.can_probe = is_refused();
        if !maps.can_probe {
            warn!(
                cgroup = %config.cgroup2_dir.display(),
                "the agent is not in its own cgroup: its connections to Services are not served"
            );
        }
        Ok(maps)
    }
}

/// A Service that refuses, at an address that nobody has (RFC 7600's dummy): connecting a UDP
/// socket to it, which sends nothing, tells whether the programs are at work.
const PROBE: FrontendKey = FrontendKey {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)),
    port: 1,
    protocol: Protocol::Udp,
    scope: Scope::Internal,
};
const REFUSE: Frontend = Frontend {
    service_id: 0,
    first_slot: 0,
    slot_count: 0,
    affinity_timeout_secs: 0,
    host_only: false,
    local: false,
};

fn is_refused() -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let connected = socket.and_then(|socket| socket.connect((PROBE.ip, PROBE.port)));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

const FRONTENDS: &str = "FRONTENDS";
const SLOTS: &str = "SLOTS";
const BACKENDS: &str = "BACKENDS";
const NETWORKS: &str = "NETWORKS";
const UDP_CONNECTED: &str = "UDP_CONNECTED";

fn open<K: aya::Pod, V: aya::Pod>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, K, V>, ServicesError> {
    let map: Map = programs::take_map(object, name)?;
    HashMap::try_from(map).map_err(|source| map_error("open", name, source))
}

fn map_error(operation: &'static str, name: &'static str, source: MapError) -> ServicesError {
    ServicesError::Map { operation, name, source: Box::new(source) }
}

impl Maps for BpfMaps {
    fn read(&mut self) -> Result<MapSet, ServicesError> {
        let mut held = MapSet {
            frontends: self
                .frontends
                .iter()
                .map(|entry| entry.map(|(key, value)| (decode_key(&key), decode_frontend(&value))))
                .collect::<Result<_, _>>()
                .map_err(|source| map_error("read", FRONTENDS, source))?,
            slots: self
                .slots
                .iter()
                .map(|entry| {
                    entry.map(|(layout::SlotKey { service_id, slot }, id)| {
                        (SlotKey { service_id, slot }, id)
                    })
                })
                .collect::<Result<_, _>>()
                .map_err(|source| map_error("read", SLOTS, source))?,
            backends: self
                .backends
                .iter()
                .map(|entry| entry.map(|(id, backend)| (id, decode_backend(&backend))))
                .collect::<Result<_, _>>()
                .map_err(|source| map_error("read", BACKENDS, source))?,
            networks: self
                .networks
                .iter()
                .map(|entry| entry.map(|(key, kind)| decode_network(&key, kind)))
                .collect::<Result<_, _>>()
                .map_err(|source| map_error("read", NETWORKS, source))?,
        };
        held.frontends.remove(&PROBE);
        Ok(held)
    }

    fn apply(&mut self, op: &MapOp) -> Result<(), ServicesError> {
        match op {
            MapOp::PutBackend(id, backend) => {
                let written = self.backends.insert(id, encode_backend(backend), 0);
                put(written, BACKENDS, "backends_max")
            }
            MapOp::PutSlot(slot, id) => {
                let written = self.slots.insert(encode_slot(slot), id, 0);
                put(written, SLOTS, "backends_max")
            }
            MapOp::PutFrontend(key, frontend) => {
                let written = self.frontends.insert(encode_key(key), encode_frontend(frontend), 0);
                put(written, FRONTENDS, "frontends_max")
            }
            MapOp::DeleteFrontend(key) => {
                deleted(self.frontends.remove(&encode_key(key)), FRONTENDS)
            }
            MapOp::DeleteSlot(slot) => deleted(self.slots.remove(&encode_slot(slot)), SLOTS),
            MapOp::DeleteBackend(id) => deleted(self.backends.remove(id), BACKENDS),
            MapOp::PutNetwork(net, kind) => {
                let written = self.networks.insert(&encode_net(*net), encode_kind(*kind), 0);
                put(written, NETWORKS, "nodes")
            }
            MapOp::DeleteNetwork(net) => deleted(self.networks.remove(&encode_net(*net)), NETWORKS),
        }
    }

    fn take_orphans(&mut self, held: &MapSet) -> Result<Vec<Orphan>, ServicesError> {
        let mut orphans = Vec::new();
        for entry in self.udp_connected.iter() {
            // An entry that has just been evicted is no reason to miss the others.
            let Ok((socket_cookie, connected)) = entry else { continue };
            if !held.backends.contains_key(&connected.backend_id) {
                orphans.push(Orphan { socket_cookie, netns_cookie: connected.netns_cookie });
            }
        }
        for orphan in &orphans {
            deleted(self.udp_connected.remove(&orphan.socket_cookie), UDP_CONNECTED)?;
        }
        Ok(orphans)
    }

    fn is_attached(&self) -> bool {
        programs::are_pinned(&self.config) && (!self.can_probe || is_refused())
    }

    fn attach_again(&mut self) -> Result<(), ServicesError> {
        *self = Self::open(&self.config)?;
        Ok(())
    }
}

fn put(
    written: Result<(), MapError>,
    name: &'static str,
    limit: &'static str,
) -> Result<(), ServicesError> {
    match written {
        Ok(()) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) =>
        {
            Err(ServicesError::Full { name, limit })
        }
        Err(source) => Err(map_error("write", name, source)),
    }
}

fn deleted(deleted: Result<(), MapError>, name: &'static str) -> Result<(), ServicesError> {
    match deleted {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) =>
        {
            Ok(())
        }
        Err(source) => Err(map_error("delete from", name, source)),
    }
}

pub(crate) fn encode_ip(ip: IpAddr) -> layout::AddrBe {
    let mapped = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let octets = mapped.octets();
    let (words, []) = octets.as_chunks::<4>() else { unreachable!("16 is 4 times 4") };
    std::array::from_fn(|word| u32::from_ne_bytes(words[word]))
}

pub(crate) fn decode_ip(addr_be: layout::AddrBe) -> IpAddr {
    let mut octets = [0; 16];
    for (word, bytes) in addr_be.iter().zip(octets.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = Ipv6Addr::from(octets);
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), |ip: Ipv4Addr| IpAddr::V4(ip))
}

/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

fn encode_net(net: IpNet) -> Key<layout::AddrBe> {
    let bits = match net {
        IpNet::V4(net) => MAPPED_BITS + net.prefix_len(),
        IpNet::V6(net) => net.prefix_len(),
    };
    Key::new(bits.into(), encode_ip(net.addr()))
}

fn decode_network(key: &Key<layout::AddrBe>, kind: u32) -> (IpNet, NetworkKind) {
    let ip = decode_ip(key.data());
    let bits = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
    let bits = if ip.is_ipv4() { bits.saturating_sub(MAPPED_BITS) } else { bits };
    // Only this agent writes the map: what does not decode is taken for the whole of nothing, and
    // then deleted.
    let net = IpNet::new(ip, bits).unwrap_or_default();
    let is_node = kind == layout::NETWORK_NODE;
    (net, if is_node { NetworkKind::Node } else { NetworkKind::Pods })
}

fn encode_kind(kind: NetworkKind) -> u32 {
    match kind {
        NetworkKind::Pods => layout::NETWORK_PODS,
        NetworkKind::Node => layout::NETWORK_NODE,
    }
}

fn encode_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn decode_protocol(number: u8) -> Protocol {
    if number == 17 { Protocol::Udp } else { Protocol::Tcp }
}

fn encode_key(key: &FrontendKey) -> layout::FrontendKey {
    layout::FrontendKey {
        addr_be: encode_ip(key.ip),
        port_be: key.port.to_be(),
        proto: encode_protocol(key.protocol),
        scope: match key.scope {
            Scope::Internal => layout::SCOPE_INTERNAL,
            Scope::External => layout::SCOPE_EXTERNAL,
        },
    }
}

fn decode_key(key: &layout::FrontendKey) -> FrontendKey {
    FrontendKey {
        ip: decode_ip(key.addr_be),
        port: u16::from_be(key.port_be),
        protocol: decode_protocol(key.proto),
        scope: if key.scope == layout::SCOPE_EXTERNAL { Scope::External } else { Scope::Internal },
    }
}

fn encode_frontend(frontend: &Frontend) -> layout::Frontend {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    layout::Frontend {
        service_id: frontend.service_id,
        first_slot: frontend.first_slot,
        slot_count: frontend.slot_count,
        affinity_timeout_secs: frontend.affinity_timeout_secs,
        flags: flag(frontend.host_only, layout::FRONTEND_HOST_ONLY)
            | flag(frontend.local, layout::FRONTEND_LOCAL),
    }
}

fn decode_frontend(frontend: &layout::Frontend) -> Frontend {
    Frontend {
        service_id: frontend.service_id,
        first_slot: frontend.first_slot,
        slot_count: frontend.slot_count,
        affinity_timeout_secs: frontend.affinity_timeout_secs,
        host_only: frontend.flags & layout::FRONTEND_HOST_ONLY != 0,
        local: frontend.flags & layout::FRONTEND_LOCAL != 0,
    }
}

fn encode_slot(slot: &SlotKey) -> layout::SlotKey {
    layout::SlotKey { service_id: slot.service_id, slot: slot.slot }
}

fn encode_backend(backend: &Backend) -> layout::Backend {
    layout::Backend {
        addr_be: encode_ip(backend.ip),
        port_be: backend.port.to_be(),
        proto: encode_protocol(backend.protocol),
        flags: if backend.local { layout::BACKEND_LOCAL } else { 0 },
        service_id: backend.service_id,
    }
}

fn decode_backend(backend: &layout::Backend) -> Backend {
    Backend {
        ip: decode_ip(backend.addr_be),
        port: u16::from_be(backend.port_be),
        service_id: backend.service_id,
        protocol: decode_protocol(backend.proto),
        local: backend.flags & layout::BACKEND_LOCAL != 0,
    }
}

#[cfg(test)]
mod tests;
