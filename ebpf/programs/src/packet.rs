//! Packets: reading addresses and ports, and rewriting them with their checksums.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::programs::TcContext;
use ebpf_maps::{AddrBe, Endpoint, FlowKey, MAPPED_PREFIX_BE};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

const ETH_BYTES: usize = 14;
const ETH_P_IP_BE: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6_BE: u32 = 0x86dd_u16.to_be() as u32;
const V4_BYTES: usize = 20;
const V4_CHECKSUM: usize = ETH_BYTES + 10;
const V4_ADDRESSES: usize = ETH_BYTES + 12;
const V6_BYTES: usize = 40;
const V6_ADDRESSES: usize = ETH_BYTES + 8;
/// Version 4, five words: a header without options.
const V4_PLAIN: u8 = 0x45;
/// Offset and the more-fragments flag: anything but a whole packet.
const V4_FRAGMENT_BE: u16 = 0x3fff_u16.to_be();
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// A whole TCP or UDP packet.
#[derive(Clone, Copy)]
pub struct Packet {
    pub flow: FlowKey,
    pub proto: u8,
    /// Zero for UDP.
    pub tcp_flags: u8,
    is_v6: bool,
}

/// Reads a packet; `None` for what is not translated: other protocols, fragments, and headers with
/// options, which hosts have not sent for decades.
#[inline(always)]
pub fn read(ctx: &TcContext) -> Option<Packet> {
    // SAFETY: a valid context.
    let ethertype = unsafe { (*ctx.skb.skb).protocol };
    let (proto, source, destination, is_v6) = if ethertype == ETH_P_IP_BE {
        read_v4(ctx)?
    } else if ethertype == ETH_P_IPV6_BE {
        read_v6(ctx)?
    } else {
        return None;
    };
    if proto != TCP && proto != UDP {
        return None;
    }
    let l4 = l4_offset(is_v6);
    let ports: [u16; 2] = ctx.load(l4).ok()?;
    let tcp_flags = if proto == TCP { ctx.load(l4 + TCP_FLAGS).ok()? } else { 0 };
    let flow = FlowKey {
        source: Endpoint { addr_be: source, port_be: ports[0], pad: 0 },
        destination: Endpoint { addr_be: destination, port_be: ports[1], pad: 0 },
        proto: u32::from(proto),
    };
    Some(Packet { flow, proto, tcp_flags, is_v6 })
}

#[inline(always)]
fn read_v4(ctx: &TcContext) -> Option<(u8, AddrBe, AddrBe, bool)> {
    let version: u8 = ctx.load(ETH_BYTES).ok()?;
    let fragment: u16 = ctx.load(ETH_BYTES + 6).ok()?;
    if version != V4_PLAIN || fragment & V4_FRAGMENT_BE != 0 {
        return None;
    }
    let proto: u8 = ctx.load(ETH_BYTES + 9).ok()?;
    let addresses: [u32; 2] = ctx.load(V4_ADDRESSES).ok()?;
    let mapped = |ip| [0, 0, MAPPED_PREFIX_BE, ip];
    Some((proto, mapped(addresses[0]), mapped(addresses[1]), false))
}

#[inline(always)]
fn read_v6(ctx: &TcContext) -> Option<(u8, AddrBe, AddrBe, bool)> {
    let proto: u8 = ctx.load(ETH_BYTES + 6).ok()?;
    let source: AddrBe = ctx.load(V6_ADDRESSES).ok()?;
    let destination: AddrBe = ctx.load(V6_ADDRESSES + 16).ok()?;
    Some((proto, source, destination, true))
}

#[inline(always)]
fn l4_offset(is_v6: bool) -> usize {
    ETH_BYTES + if is_v6 { V6_BYTES } else { V4_BYTES }
}

impl Packet {
    pub fn is_first(&self) -> bool {
        self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// Writes new addresses and ports, of the same family, and makes the checksums right again.
    #[inline(always)]
    pub fn rewrite(
        &self,
        ctx: &TcContext,
        source: &Endpoint,
        destination: &Endpoint,
    ) -> Option<()> {
        let old = [self.flow.source.addr_be, self.flow.destination.addr_be];
        let new = [source.addr_be, destination.addr_be];
        let old_ports = [self.flow.source.port_be, self.flow.destination.port_be];
        let new_ports = [source.port_be, destination.port_be];
        let l4 = l4_offset(self.is_v6);
        // A UDP checksum of zero means that there is none, and must go on meaning that.
        let (checksum, mangled) = if self.proto == TCP {
            (l4 + TCP_CHECKSUM, 0)
        } else {
            (l4 + UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
        };
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | mangled;
        // The words that all mapped addresses share cancel out, so this is IPv4's difference too.
        let difference = difference(&old, &new);
        ctx.l4_csum_replace(checksum, 0, difference, pseudo).ok()?;
        let (from, to) = (word(old_ports), word(new_ports));
        ctx.l4_csum_replace(checksum, from, to, mangled | 4).ok()?;
        ctx.store(l4, &new_ports, 0).ok()?;
        if self.is_v6 {
            return ctx.store(V6_ADDRESSES, &new, 0).ok();
        }
        ctx.l3_csum_replace(V4_CHECKSUM, 0, difference, 0).ok()?;
        ctx.store(V4_ADDRESSES, &[source.addr_be[3], destination.addr_be[3]], 0).ok()
    }
}

#[inline(always)]
fn word(ports: [u16; 2]) -> u64 {
    // In memory order, as the ports lie in the packet.
    u64::from(u32::from(ports[0]) | u32::from(ports[1]) << 16)
}

#[inline(always)]
fn difference(old: &[AddrBe; 2], new: &[AddrBe; 2]) -> u64 {
    let bytes = size_of::<[AddrBe; 2]>() as u32;
    // SAFETY: both are live arrays of that many bytes, which the helper only reads.
    let difference = unsafe {
        bpf_csum_diff(
            old.as_ptr().cast_mut().cast(),
            bytes,
            new.as_ptr().cast_mut().cast(),
            bytes,
            0,
        )
    };
    difference as u64
}

/// Sends the packet out of the link that the context belongs to, to its next hop by the routes.
#[inline(always)]
pub fn redirect(ctx: &TcContext) -> i32 {
    // SAFETY: a valid context, and no parameters.
    unsafe {
        let link = (*ctx.skb.skb).ifindex;
        aya_ebpf::helpers::bpf_redirect_neigh(link, core::ptr::null_mut(), 0, 0) as i32
    }
}
