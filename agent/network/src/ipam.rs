//! PURE: which addresses of the node's pod ranges are in use.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Most addresses used of one range: far more than pods fit on a node, and a bound on what is kept
/// in memory of an IPv6 range.
const ADDRESSES_MAX: u32 = 1 << 16;
/// The network's own address and the one after it, which is by custom the node's.
const RESERVED_FIRST: u32 = 2;

/// Gives out addresses, one of each range at a time. An address that was freed comes again only
/// when all others have been used: peers may still be talking to the pod that had it.
#[derive(Debug, Default)]
pub(crate) struct Ipam {
    ranges: Vec<Range>,
    used: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Range {
    net: IpNet,
    /// Offset of the first address that has never been given out.
    next: u32,
    /// Addresses that were, the longest free first.
    freed: VecDeque<IpAddr>,
}

impl Ipam {
    /// Sets the ranges, the primary family first. Addresses in use stay so, whatever their range.
    pub(crate) fn set_ranges(&mut self, nets: &[IpNet]) {
        let mut old = std::mem::take(&mut self.ranges);
        self.ranges = nets
            .iter()
            .map(|net| {
                let known = old.iter().position(|range| range.net == *net);
                known.map_or_else(|| Range::new(*net, &self.used), |known| old.swap_remove(known))
            })
            .collect();
    }

    /// Whether there are ranges.
    pub(crate) fn has_ranges(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// One address of each range, in the order of the ranges; the range that has none left, if
    /// there is one.
    pub(crate) fn allocate(&mut self) -> Result<Vec<IpAddr>, IpNet> {
        let mut given = Vec::with_capacity(self.ranges.len());
        for range in &mut self.ranges {
            match range.take(&self.used) {
                Some(ip) => given.push(ip),
                None => {
                    let exhausted = range.net;
                    given.into_iter().for_each(|ip| self.release(ip));
                    return Err(exhausted);
                }
            }
        }
        self.used.extend(&given);
        Ok(given)
    }

    /// Marks an address as used: one that a pod had before a restart.
    pub(crate) fn claim(&mut self, ip: IpAddr) {
        self.used.insert(ip);
    }

    /// Frees an address.
    pub(crate) fn release(&mut self, ip: IpAddr) {
        self.used.remove(&ip);
        if let Some(range) = self.ranges.iter_mut().find(|range| range.net.contains(&ip))
            && !range.freed.contains(&ip)
        {
            range.freed.push_back(ip);
        }
    }
}

impl Range {
    fn new(net: IpNet, used: &BTreeSet<IpAddr>) -> Self {
        let mut range = Self { net, next: 0, freed: VecDeque::new() };
        range.next = range.first();
        // Goes on after the highest address in use; what is free below it was used before.
        let highest = (range.first()..range.end()).rev().find(|at| used.contains(&range.at(*at)));
        if let Some(highest) = highest {
            let free = (range.first()..highest).map(|offset| range.at(offset));
            range.freed = free.filter(|ip| !used.contains(ip)).collect();
            range.next = highest + 1;
        }
        range
    }

    fn take(&mut self, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        while self.next < self.end() {
            let ip = self.at(self.next);
            self.next += 1;
            if !used.contains(&ip) {
                return Some(ip);
            }
        }
        self.freed.pop_front()
    }

    fn host_bits(&self) -> u8 {
        self.net.max_prefix_len() - self.net.prefix_len()
    }

    fn first(&self) -> u32 {
        if self.host_bits() < 2 { 0 } else { RESERVED_FIRST }
    }

    /// Offset after the last address; IPv4's broadcast address is left out.
    fn end(&self) -> u32 {
        let size = 1_u32.checked_shl(self.host_bits().into()).unwrap_or(ADDRESSES_MAX);
        let broadcast = u32::from(matches!(self.net, IpNet::V4(_)) && self.host_bits() >= 2);
        size.min(ADDRESSES_MAX) - broadcast
    }

    fn at(&self, offset: u32) -> IpAddr {
        match self.net {
            IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()) + offset).into(),
            IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) + u128::from(offset)).into(),
        }
    }
}

#[cfg(test)]
mod tests;
