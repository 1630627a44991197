//! tc programs on the uplinks, for what sockets of this node do not see: clients outside that come
//! to node ports and external addresses, and pods' packets to the outside.
//!
//! A flow has an entry in `NAT` for each direction, keyed by what its packets look like on arrival.
//! There is no state machine and no window tracking: a packet that is out of order or late is
//! translated like any other.

use aya_ebpf::bindings::{BPF_NOEXIST, TC_ACT_SHOT};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use ebpf_maps::{
    AddrBe, BACKEND_LOCAL, Endpoint, FRONTEND_LOCAL, FlowKey, FrontendKey, MAPPED_PREFIX_BE,
    NETWORK_PODS, SCOPE_EXTERNAL, Settings, TRANSLATION_CLOSING, TRANSLATION_REDIRECT, Translation,
};

use crate::maps::{NAT, NETWORKS, SETTINGS};
use crate::packet::{self, Packet, TCP, TCP_FIN, TCP_RST, UDP};
use crate::select::{self, Chosen};

/// `TC_ACT_UNSPEC`: go on with whatever comes next.
const NEXT: i32 = -1;
const DROP: i32 = TC_ACT_SHOT as i32;

/// Ports of translated flows: above those that the kernel gives to sockets by default.
const PORT_FIRST: u32 = 61_000;
const PORTS: u32 = 65_536 - PORT_FIRST;
/// Attempts to find a free one.
const PORT_ATTEMPTS: u32 = 24;
/// After this an entry of a closed connection or of a silent UDP flow may be taken by another.
const IDLE_NANOS: u64 = 120_000_000_000;

#[classifier]
pub fn from_outside(ctx: TcContext) -> i32 {
    let Some(packet) = packet::read(&ctx) else {
        return NEXT;
    };
    if let Some(verdict) = known(&ctx, &packet) {
        return verdict;
    }
    new_client(&ctx, &packet).unwrap_or(NEXT)
}

#[classifier]
pub fn to_outside(ctx: TcContext) -> i32 {
    let Some(packet) = packet::read(&ctx) else {
        return NEXT;
    };
    if let Some(verdict) = known(&ctx, &packet) {
        return verdict;
    }
    masquerade(&ctx, &packet).unwrap_or(NEXT)
}

/// Translates a packet of a flow that has an entry.
#[inline(always)]
fn known(ctx: &TcContext, packet: &Packet) -> Option<i32> {
    let entry = NAT.get_ptr_mut(packet.flow)?;
    // SAFETY: the entry may be changed by another CPU at the same time; its fields are words, and
    // whichever value is seen was right a moment ago.
    let translation = unsafe { *entry };
    // A flow begins anew if its port is used again after a connection was closed, and, where it
    // may, if its backend is gone. (A first packet may just have been sent twice.)
    let may_move = packet.is_first() || packet.proto == UDP;
    let is_stale = packet.is_first() && translation.flags & TRANSLATION_CLOSING != 0
        || may_move
            && translation.backend_id != 0
            && select::backend(translation.backend_id).is_none();
    if is_stale {
        let _ = NAT.remove(packet.flow);
        return None;
    }
    // SAFETY: as above.
    unsafe {
        (*entry).used_at_nanos = bpf_ktime_get_boot_ns();
        if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
            (*entry).flags |= TRANSLATION_CLOSING;
        }
    }
    Some(carry_out(ctx, packet, &translation))
}

#[inline(always)]
fn carry_out(ctx: &TcContext, packet: &Packet, translation: &Translation) -> i32 {
    if packet.rewrite(ctx, &translation.source, &translation.destination).is_none() {
        // Half rewritten: nobody could make sense of it.
        return DROP;
    }
    if translation.flags & TRANSLATION_REDIRECT != 0 { packet::redirect(ctx) } else { NEXT }
}

/// A packet to a frontend without an entry: chooses a backend. `None` leaves it to the stack, which
/// refuses what goes to a port of the node that nobody listens on.
#[inline(always)]
fn new_client(ctx: &TcContext, packet: &Packet) -> Option<i32> {
    let FlowKey { source: client, destination: service, .. } = packet.flow;
    let key = FrontendKey {
        addr_be: service.addr_be,
        port_be: service.port_be,
        proto: packet.proto,
        scope: SCOPE_EXTERNAL,
    };
    let frontend = select::frontend(&key)?;
    let chosen = select::choose(&key, &frontend, &client.addr_be)?;
    let backend = endpoint(&chosen);
    let keeps_source =
        frontend.flags & FRONTEND_LOCAL != 0 || chosen.backend.flags & BACKEND_LOCAL != 0;
    let mut forward = Translation {
        source: client,
        destination: backend,
        backend_id: chosen.id,
        flags: 0,
        used_at_nanos: now(),
    };
    // What the backend's answers are made into.
    let mut back = Translation { source: service, destination: client, ..forward };
    if keeps_source {
        let answers = FlowKey { source: backend, destination: client, ..packet.flow };
        NAT.insert(answers, back, 0).ok()?;
    } else {
        // Through another node: answers must come back here.
        forward.flags = TRANSLATION_REDIRECT;
        back.flags = TRANSLATION_REDIRECT;
        forward.source = free_source(packet, &backend, &back)?;
    }
    NAT.insert(packet.flow, forward, 0).ok()?;
    Some(carry_out(ctx, packet, &forward))
}

/// Gives a pod's packet to a place outside of the cluster the node's address.
#[inline(always)]
fn masquerade(ctx: &TcContext, packet: &Packet) -> Option<i32> {
    if SETTINGS.get(0)?.masquerade_pods == 0 {
        return None;
    }
    let FlowKey { source: pod, destination: peer, .. } = packet.flow;
    if network(&pod.addr_be) != NETWORK_PODS || network(&peer.addr_be) != 0 {
        return None;
    }
    let back = Translation {
        source: peer,
        destination: pod,
        backend_id: 0,
        flags: 0,
        used_at_nanos: now(),
    };
    // A pod's address means nothing outside: without a free port there is no use in sending it.
    let Some(source) = free_source(packet, &peer, &back) else {
        return Some(DROP);
    };
    let forward = Translation { source, destination: peer, ..back };
    if NAT.insert(packet.flow, forward, 0).is_err() {
        return Some(DROP);
    }
    Some(carry_out(ctx, packet, &forward))
}

/// Finds a port of this node for a flow to `peer`, and enters what `peer`'s answers are made into.
#[inline(always)]
fn free_source(packet: &Packet, peer: &Endpoint, back: &Translation) -> Option<Endpoint> {
    let addr_be = own_address(SETTINGS.get(0)?, &peer.addr_be)?;
    for _ in 0..PORT_ATTEMPTS {
        // SAFETY: a plain kernel helper.
        let port = PORT_FIRST + unsafe { bpf_get_prandom_u32() } % PORTS;
        let source = Endpoint { addr_be, port_be: (port as u16).to_be(), pad: 0 };
        let answers = FlowKey { source: *peer, destination: source, ..packet.flow };
        if NAT.insert(answers, *back, BPF_NOEXIST.into()).is_ok() {
            return Some(source);
        }
        if is_over(&answers, packet.proto) && NAT.insert(answers, *back, 0).is_ok() {
            return Some(source);
        }
    }
    None
}

/// Whether an entry is of a flow that has ended.
#[inline(always)]
fn is_over(flow: &FlowKey, proto: u8) -> bool {
    let Some(entry) = NAT.get_ptr_mut(flow) else {
        return true;
    };
    // SAFETY: read at once; see `known`.
    let entry = unsafe { *entry };
    let is_idle = now().wrapping_sub(entry.used_at_nanos) > IDLE_NANOS;
    is_idle && (proto != TCP || entry.flags & TRANSLATION_CLOSING != 0)
}

/// The node's address of the same family as `peer`.
#[inline(always)]
fn own_address(settings: &Settings, peer: &AddrBe) -> Option<AddrBe> {
    let is_v4 = peer[0] == 0 && peer[1] == 0 && peer[2] == MAPPED_PREFIX_BE;
    let own = if is_v4 { settings.masquerade_v4_be } else { settings.masquerade_v6_be };
    if own == [0; 4] { None } else { Some(own) }
}

/// What an address is to the cluster; 0 for nothing.
#[inline(always)]
fn network(addr_be: &AddrBe) -> u32 {
    NETWORKS.get(&Key::new(128, *addr_be)).copied().unwrap_or(0)
}

#[inline(always)]
fn endpoint(chosen: &Chosen) -> Endpoint {
    Endpoint { addr_be: chosen.backend.addr_be, port_be: chosen.backend.port_be, pad: 0 }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a plain kernel helper.
    unsafe { bpf_ktime_get_boot_ns() }
}
