//! The maps. Sizes here are defaults: the agent sets them from its configuration.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, SkStorage};
use aya_ebpf::macros::btf_map;
use ebpf_maps::{
    AddrBe, Affinity, AffinityKey, Backend, ConnectedUdp, Endpoint, FlowKey, Frontend, FrontendKey,
    Origin, Settings, SlotKey, SocketPeer, Translation,
};

/// Entries are allocated as they come, so that a small cluster pays for a small table.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, 65536, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SLOTS: HashMap<SlotKey, u32, 262_144, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static BACKENDS: HashMap<u32, Backend, 262_144, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity, 16384> = LruHashMap::new();
/// Freed with its socket: nothing is evicted, nothing is left over.
#[btf_map]
pub static ORIGINS: SkStorage<Origin> = SkStorage::new();
#[btf_map]
pub static UDP_FLOWS: LruHashMap<SocketPeer, u32, 16384> = LruHashMap::new();
#[btf_map]
pub static UDP_REVERSE: LruHashMap<SocketPeer, Endpoint, 16384> = LruHashMap::new();
#[btf_map]
pub static UDP_CONNECTED: LruHashMap<u64, ConnectedUdp, 16384> = LruHashMap::new();
#[btf_map]
pub static NAT: LruHashMap<FlowKey, Translation, 32768> = LruHashMap::new();
#[btf_map]
pub static NETWORKS: LpmTrie<AddrBe, u32, 16384> = LpmTrie::new();
