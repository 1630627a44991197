//! Socket hooks: a process asks for a Service and its socket is given a backend. Translated once,
//! at `connect` (or per datagram of an unconnected socket); packets are never touched.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use ebpf_maps::{
    AddrBe, ConnectedUdp, Endpoint, FRONTEND_HOST_ONLY, Frontend, FrontendKey, MAPPED_PREFIX_BE,
    Origin, SCOPE_INTERNAL, SocketPeer,
};

use crate::maps::{ORIGINS, SETTINGS, UDP_CONNECTED, UDP_FLOWS, UDP_REVERSE};
use crate::select::{self, Chosen};

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const ECONNREFUSED: i32 = 111;
const UDP: u8 = 17;

/// The address family of the hook's sockaddr, which decides the fields to read and write.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

#[inline(always)]
fn peer(ctx: &SockAddrContext, family: Family) -> Endpoint {
    let sa = ctx.sock_addr;
    // SAFETY: the kernel hands a valid context; its fields are read one by one at constant offsets,
    // as the verifier demands.
    let (addr_be, port_be) = unsafe {
        let addr_be: AddrBe = match family {
            Family::V4 => [0, 0, MAPPED_PREFIX_BE, (*sa).user_ip4],
            Family::V6 => {
                [(*sa).user_ip6[0], (*sa).user_ip6[1], (*sa).user_ip6[2], (*sa).user_ip6[3]]
            }
        };
        (addr_be, (*sa).user_port as u16)
    };
    Endpoint { addr_be, port_be, pad: 0 }
}

#[inline(always)]
fn set_peer(sa: *mut bpf_sock_addr, family: Family, peer: &Endpoint) {
    // SAFETY: as in `peer`.
    unsafe {
        match family {
            Family::V4 => (*sa).user_ip4 = peer.addr_be[3],
            Family::V6 => {
                (*sa).user_ip6[0] = peer.addr_be[0];
                (*sa).user_ip6[1] = peer.addr_be[1];
                (*sa).user_ip6[2] = peer.addr_be[2];
                (*sa).user_ip6[3] = peer.addr_be[3];
            }
        }
        (*sa).user_port = u32::from(peer.port_be);
    }
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u8 {
    // Truncation makes IPPROTO_MPTCP (262) what it looks like from outside: TCP (6).
    // SAFETY: a valid context.
    unsafe { (*ctx.sock_addr).protocol as u8 }
}

#[inline(always)]
fn netns_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: a valid context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn socket_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: a valid context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Fails the system call the way a closed port would, at once.
#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: a plain kernel helper, allowed in connect and sendmsg hooks.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    DENY
}

/// The frontend this socket asks for, if any.
#[inline(always)]
fn wanted(ctx: &SockAddrContext, key: &FrontendKey) -> Option<Frontend> {
    let frontend = select::frontend(key)?;
    if frontend.flags & FRONTEND_HOST_ONLY != 0 {
        let host = SETTINGS.get(0)?.host_netns_cookie;
        if netns_cookie(ctx) != host {
            return None;
        }
    }
    Some(frontend)
}

#[inline(always)]
fn choose(ctx: &SockAddrContext, key: &FrontendKey, frontend: &Frontend) -> Option<Chosen> {
    let mut client: AddrBe = [0; 4];
    if frontend.affinity_timeout_secs != 0 {
        let cookie = netns_cookie(ctx);
        client[0] = cookie as u32;
        client[1] = (cookie >> 32) as u32;
    }
    select::choose(key, frontend, &client)
}

#[inline(always)]
fn frontend_key(service: &Endpoint, proto: u8) -> FrontendKey {
    FrontendKey { addr_be: service.addr_be, port_be: service.port_be, proto, scope: SCOPE_INTERNAL }
}

#[inline(always)]
fn endpoint(chosen: &Chosen) -> Endpoint {
    Endpoint { addr_be: chosen.backend.addr_be, port_be: chosen.backend.port_be, pad: 0 }
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let service = peer(ctx, family);
    let proto = protocol(ctx);
    let key = frontend_key(&service, proto);
    let Some(frontend) = wanted(ctx, &key) else {
        return ALLOW;
    };
    let Some(chosen) = choose(ctx, &key, &frontend) else {
        return refuse();
    };
    let backend = endpoint(&chosen);
    let mut origin = Origin { service, backend };
    // Without memory for it the connection still works; only getpeername shows the backend.
    // SAFETY: `ctx` holds a socket, and a storage that was just found or made is valid here.
    unsafe {
        let stored = ORIGINS.get_or_insert_ptr_mut(ctx, Some(&mut origin));
        if proto == UDP && !stored.is_null() {
            // A UDP socket may be connected again and again.
            *stored = origin;
        }
    }
    if proto == UDP {
        remember_connected(ctx, &service, &backend, chosen.id);
    }
    set_peer(ctx.sock_addr, family, &backend);
    ALLOW
}

#[inline(always)]
fn remember_connected(ctx: &SockAddrContext, service: &Endpoint, backend: &Endpoint, id: u32) {
    let cookie = socket_cookie(ctx);
    let connected = ConnectedUdp { netns_cookie: netns_cookie(ctx), backend_id: id, pad: 0 };
    // Full tables evict; what is lost is convenience (see the maps' descriptions), not traffic.
    let _ = UDP_CONNECTED.insert(cookie, connected, 0);
    let reverse = SocketPeer { socket_cookie: cookie, peer: *backend, pad: 0 };
    let _ = UDP_REVERSE.insert(reverse, service, 0);
}

/// Datagrams of one socket to one Service stay with one backend for as long as it is one.
#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let service = peer(ctx, family);
    let key = frontend_key(&service, protocol(ctx));
    let Some(frontend) = wanted(ctx, &key) else {
        return ALLOW;
    };
    let flow = SocketPeer { socket_cookie: socket_cookie(ctx), peer: service, pad: 0 };
    // SAFETY: copied before anything else is done with the map.
    let known = unsafe { UDP_FLOWS.get(flow) }.copied().and_then(select::backend);
    let chosen = match known {
        Some(chosen) if frontend.slot_count != 0 => chosen,
        _ => {
            let Some(chosen) = choose(ctx, &key, &frontend) else {
                return refuse();
            };
            let _ = UDP_FLOWS.insert(flow, chosen.id, 0);
            chosen
        }
    };
    let backend = endpoint(&chosen);
    let reverse = SocketPeer { socket_cookie: flow.socket_cookie, peer: backend, pad: 0 };
    // SAFETY: only whether it is there matters.
    if unsafe { UDP_REVERSE.get(reverse) }.is_none() {
        let _ = UDP_REVERSE.insert(reverse, service, 0);
    }
    set_peer(ctx.sock_addr, family, &backend);
    ALLOW
}

/// A datagram from a backend looks as if it came from the Service it was sent to.
#[inline(always)]
fn recvmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let key = SocketPeer { socket_cookie: socket_cookie(ctx), peer: peer(ctx, family), pad: 0 };
    // SAFETY: copied before anything else is done with the map.
    if let Some(service) = unsafe { UDP_REVERSE.get(key) }.copied() {
        set_peer(ctx.sock_addr, family, &service);
    }
    ALLOW
}

#[inline(always)]
fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: `ctx` holds a socket; the pointer is checked before use.
    let Some(origin) = (unsafe { ORIGINS.get_ptr_mut(ctx).as_ref() }) else {
        return ALLOW;
    };
    if origin.backend == peer(ctx, family) {
        set_peer(ctx.sock_addr, family, &origin.service);
    }
    ALLOW
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V6)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, Family::V6)
}
