//! PURE: what connecting a pod means.
//!
//! A veth, its far end `eth0` in the pod, its near end routed by the node: a host route to each of
//! the pod's addresses, no bridge. The pod sees one neighbour, the gateway, at link-local addresses
//! that are the same in every pod. All hardware addresses are known beforehand and entered as
//! permanent neighbours, so that nobody ever asks: no proxy ARP, no router advertisements, no delay
//! of the first packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The gateway of every pod's IPv4.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gateway of every pod's IPv6.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Name of the link in the pod.
pub(crate) const POD_LINK: &str = "eth0";
/// Beginning of the names of the links on the node.
pub const HOST_LINK_PREFIX: &str = "pod";

/// Locally administered, as all addresses here: the node's end of every veth.
const GATEWAY_MAC: [u8; 6] = [0x0a, 0x73, 0x6b, 0x00, 0x00, 0x01];

/// How a pod is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wiring {
    /// Link on the node.
    pub(crate) host_link: String,
    /// Its hardware address.
    pub(crate) host_mac: [u8; 6],
    /// Hardware address of the link in the pod.
    pub(crate) pod_mac: [u8; 6],
    /// Largest packet.
    pub(crate) mtu_bytes: u32,
    /// The pod's addresses, each alone in its network.
    pub(crate) addresses: Vec<IpNet>,
    /// The pod's gateways, one of each family it has.
    pub(crate) gateways: Vec<IpAddr>,
}

/// How to connect the pod `pod_uid` with these addresses.
pub(crate) fn wiring(pod_uid: &str, addresses: &[IpAddr], mtu_bytes: u32) -> Wiring {
    let hash = hash(pod_uid);
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    let mut gateways: Vec<IpAddr> = addresses.iter().map(gateway).collect();
    gateways.dedup();
    Wiring {
        host_link: host_link(pod_uid),
        host_mac: GATEWAY_MAC,
        pod_mac: [0x0e, a, b, c, d, e],
        mtu_bytes,
        addresses: addresses.iter().map(|ip| IpNet::from(*ip)).collect(),
        gateways,
    }
}

/// Name of the node's end of a pod's veth: 48 bits of the uid's hash, as many as a name has room.
pub(crate) fn host_link(pod_uid: &str) -> String {
    format!("{HOST_LINK_PREFIX}{:012x}", hash(pod_uid) >> 16)
}

fn gateway(ip: &IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

/// FNV-1a: the same in every version of this program, unlike the standard library's hash.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_fit() {
        let uid = "0b6a2f1e-6f0d-4b39-9a53-0b6a2f1e6f0d";
        assert_eq!(host_link(uid), host_link(uid));
        assert_ne!(host_link(uid), host_link("another"));
        assert!(host_link(uid).len() <= 15, "the kernel's limit");
        assert_eq!(host_link("a"), "podaf63dc4c8601", "renaming would orphan running pods");
    }

    #[test]
    fn each_family_has_its_gateway_once() {
        let ips = ["10.244.0.2", "fd00::2"].map(|ip| ip.parse().unwrap());
        let wiring = wiring("uid", &ips, 1450);
        assert_eq!(wiring.gateways, [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)]);
        let addresses: Vec<String> = wiring.addresses.iter().map(IpNet::to_string).collect();
        assert_eq!(addresses, ["10.244.0.2/32", "fd00::2/128"]);
        assert_eq!(wiring.pod_mac[0] & 3, 2, "locally administered, unicast");
        assert_eq!(wiring.host_mac[0] & 3, 2);
    }
}
