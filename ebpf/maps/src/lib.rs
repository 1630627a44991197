//! Key and value layouts of the BPF maps, shared by the programs and the agent.
//!
//! Every address is 16 bytes in network byte order; IPv4 is IPv4-mapped (`::ffff:a.b.c.d`), so that
//! one set of maps and one set of programs serve both families and IPv4-mapped sockets alike.
//! Fields in network byte order say so in their name (`_be`). Every layout is free of implicit
//! padding: the kernel compares keys byte by byte.
//!
//! Changing a layout means raising [`LAYOUT_VERSION`]: pinned maps of another version are replaced.
#![no_std]

/// Version of all layouts in this file; part of the pin folder's name.
pub const LAYOUT_VERSION: u32 = 2;

/// An IPv6 or IPv4-mapped address, in network byte order, as four words in memory order.
pub type AddrBe = [u32; 4];

/// The third word of every IPv4-mapped address.
pub const MAPPED_PREFIX_BE: u32 = 0x0000_ffff_u32.to_be();

/// Where a client is, as far as the choice of a frontend goes: a process on this node.
pub const SCOPE_INTERNAL: u8 = 0;
/// Where a client is: outside of this node, its packets arriving on an uplink.
pub const SCOPE_EXTERNAL: u8 = 1;

/// [`Frontend::flags`]: only for sockets in the node's own network namespace. Set for loopback
/// addresses, which every pod has too.
pub const FRONTEND_HOST_ONLY: u32 = 1;
/// [`Frontend::flags`]: all backends are on this node (a `Local` traffic policy), so that a client
/// from outside keeps its address.
pub const FRONTEND_LOCAL: u32 = 2;

/// [`Backend::flags`]: runs on this node.
pub const BACKEND_LOCAL: u8 = 1;

/// An address and port at which a Service is reached. Key of the map `FRONTENDS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// The Service's address.
    pub addr_be: AddrBe,
    /// The Service's port.
    pub port_be: u16,
    /// IP protocol number.
    pub proto: u8,
    /// [`SCOPE_INTERNAL`] or [`SCOPE_EXTERNAL`].
    pub scope: u8,
}

/// Which backends a frontend leads to: `slot_count` slots of `service_id`, from `first_slot`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The Service port; never reused for another.
    pub service_id: u32,
    /// First slot of this frontend's range.
    pub first_slot: u32,
    /// Slots in the range; 0 refuses the connection.
    pub slot_count: u32,
    /// Session affinity by client; 0 for none.
    pub affinity_timeout_secs: u32,
    /// `FRONTEND_*`.
    pub flags: u32,
}

/// Key of the map `SLOTS`, whose value is a backend's id.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The Service port.
    pub service_id: u32,
    /// Position in its list of backends.
    pub slot: u32,
}

/// One endpoint of one Service port. Value of the map `BACKENDS`, whose key is the id. An id is
/// never reused, so that one found in a flow or affinity entry is valid exactly if it is in the
/// map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub addr_be: AddrBe,
    /// The endpoint's port.
    pub port_be: u16,
    /// IP protocol number.
    pub proto: u8,
    /// `BACKEND_*`.
    pub flags: u8,
    /// The Service port it belongs to.
    pub service_id: u32,
}

/// An address and port. Value of `UDP_REVERSE`: the Service address a datagram was sent to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr_be: AddrBe,
    /// The port.
    pub port_be: u16,
    /// Zero.
    pub pad: u16,
}

/// Key of `UDP_FLOWS` (the peer is a Service) and `UDP_REVERSE` (the peer is a backend).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketPeer {
    /// The kernel's cookie of the socket.
    pub socket_cookie: u64,
    /// The peer.
    pub peer: Endpoint,
    /// Zero.
    pub pad: u32,
}

/// What a socket asked for and what it got. Value of the socket storage `ORIGINS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The Service's address, as given to `connect`.
    pub service: Endpoint,
    /// The backend it was connected to.
    pub backend: Endpoint,
}

/// A UDP socket connected to a backend. Value of `UDP_CONNECTED`, whose key is the socket's cookie:
/// when the backend goes, the agent destroys the socket, for nothing translates its sends again.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedUdp {
    /// The network namespace the socket is in.
    pub netns_cookie: u64,
    /// The backend.
    pub backend_id: u32,
    /// Zero.
    pub pad: u32,
}

/// A client of a Service with session affinity. Key of `AFFINITY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffinityKey {
    /// A client outside: its address. A process here: the cookie of its network namespace in the
    /// first two words, the others zero (no such address exists).
    pub client: AddrBe,
    /// The Service port.
    pub service_id: u32,
    /// [`FRONTEND_LOCAL`] or 0: frontends of different policies are pinned separately.
    pub policy: u32,
}

/// The backend a client is pinned to. Value of `AFFINITY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    /// Last use, nanoseconds since boot.
    pub used_at_nanos: u64,
    /// The backend.
    pub backend_id: u32,
    /// Zero.
    pub pad: u32,
}

/// Facts about the node. Only element of the array `SETTINGS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the node's own network namespace.
    pub host_netns_cookie: u64,
    /// IPv4 source address for clients passed on to other nodes; zero if there is none.
    pub masquerade_v4_be: AddrBe,
    /// IPv6 source address for clients passed on to other nodes; zero if there is none.
    pub masquerade_v6_be: AddrBe,
    /// 1: pods' packets to the outside leave with the node's address.
    pub masquerade_pods: u32,
    /// Zero.
    pub pad: u32,
}

/// One direction of a translated flow, as its packets arrive. Key of `NAT`. (`NETWORKS`, a trie of
/// address prefixes, is keyed by [`AddrBe`].)
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Source of the packet.
    pub source: Endpoint,
    /// Destination of the packet.
    pub destination: Endpoint,
    /// IP protocol number.
    pub proto: u32,
}

/// What to make of a packet of a translated flow. Value of `NAT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Source after translation.
    pub source: Endpoint,
    /// Destination after translation.
    pub destination: Endpoint,
    /// The backend, to find out that it has gone; 0 for a masqueraded flow.
    pub backend_id: u32,
    /// `TRANSLATION_*`.
    pub flags: u32,
    /// Last packet seen, nanoseconds since boot.
    pub used_at_nanos: u64,
}

/// [`Translation::flags`]: send it straight back out of the link it came by. Its source is an
/// address of this node, which the stack would not accept from outside.
pub const TRANSLATION_REDIRECT: u32 = 1;
/// [`Translation::flags`]: a side has closed the connection.
pub const TRANSLATION_CLOSING: u32 = 2;

/// Value of `NETWORKS`: pods, of any node.
pub const NETWORK_PODS: u32 = 1;
/// Value of `NETWORKS`: a node's own address.
pub const NETWORK_NODE: u32 = 2;

const _: () = {
    assert!(size_of::<FrontendKey>() == 20);
    assert!(size_of::<Frontend>() == 20);
    assert!(size_of::<SlotKey>() == 8);
    assert!(size_of::<Backend>() == 24);
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<SocketPeer>() == 32);
    assert!(size_of::<Origin>() == 40);
    assert!(size_of::<ConnectedUdp>() == 16);
    assert!(size_of::<AffinityKey>() == 24);
    assert!(size_of::<Affinity>() == 16);
    assert!(size_of::<Settings>() == 48);
    assert!(size_of::<FlowKey>() == 44);
    assert!(size_of::<Translation>() == 56);
};

#[cfg(feature = "user")]
#[allow(unsafe_code, reason = "aya's marker trait for plain data is unsafe to implement")]
mod pod {
    use super::{
        Affinity, AffinityKey, Backend, ConnectedUdp, Endpoint, FlowKey, Frontend, FrontendKey,
        Origin, Settings, SlotKey, SocketPeer, Translation,
    };

    macro_rules! pod {
        ($($layout:ty),* $(,)?) => {$(
            // SAFETY: `repr(C)`, made of integers only, without padding (asserted above), so that
            // every bit pattern is a value and every byte is initialised.
            unsafe impl aya::Pod for $layout {}
        )*};
    }
    pod!(
        Affinity,
        AffinityKey,
        Backend,
        ConnectedUdp,
        Endpoint,
        FlowKey,
        Frontend,
        FrontendKey,
        Origin,
        Settings,
        SlotKey,
        SocketPeer,
        Translation,
    );
}
