//! Links, addresses, routes and neighbours, by netlink. Every operation is idempotent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, State,
};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::NetworkError;
use crate::nodes::Hop;
use crate::plan::{POD_LINK, Wiring};

/// Marks the routes that are ours (`proto 83` in iproute2's listing); the number is free for use
/// (below 128 are the kernel's and well-known daemons', of which none has it).
const OURS: RouteProtocol = RouteProtocol::Other(83);

/// Time between two looks at something that the kernel is finishing.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// A link that does not come up in this time never will: the kernel looks at least once a second.
const PASSING_WAIT: Duration = Duration::from_secs(3);

/// A connection to the kernel's view of one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

/// A link, as far as the plan cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu_bytes: u32,
    pub(crate) is_loopback: bool,
    pub(crate) is_up: bool,
}

impl Netlink {
    /// Connects to the namespace of the calling thread. Needs a tokio runtime.
    pub(crate) fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| error("connect to", "netlink".to_owned(), source))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetworkError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| failure("list", "links", e))?;
        Ok(links.iter().map(link).collect())
    }

    /// The index of a link; `None` if there is no such link.
    pub(crate) async fn index(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(found) => Ok(found.map(|message| message.header.index)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(failure("look up link", name, error)),
        }
    }

    /// Makes a pod's veth, up, with its far end in `netns`, down: the kernel makes that end first
    /// and cannot set it up before it has the other.
    pub(crate) async fn add_veth(
        &self,
        wiring: &Wiring,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(POD_LINK.to_owned())
            .address(wiring.pod_mac.to_vec())
            .mtu(wiring.mtu_bytes)
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(wiring.host_link.clone())
            .address(wiring.host_mac.to_vec())
            .mtu(wiring.mtu_bytes)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        let added = self.handle.link().add(veth).execute().await;
        added.map_err(|e| failure("add link", &wiring.host_link, e))
    }

    /// Deletes a link; its routes, neighbours and far end go with it.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), NetworkError> {
        let Some(index) = self.index(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(index).execute().await {
            Err(error) if is_gone(&error) => Ok(()),
            deleted => deleted.map_err(|e| failure("delete link", name, e)),
        }
    }

    /// Sets a link up.
    pub(crate) async fn set_up(&self, index: u32) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|e| failure("set up link", &index.to_string(), e))
    }

    /// Waits until packets pass through a link whose two ends have been set up. The kernel notices
    /// that in the background, about a millisecond later, and drops what is sent until then.
    pub(crate) async fn wait_passing(&self, index: u32, name: &str) -> Result<(), NetworkError> {
        let passing = async {
            loop {
                let found = self.handle.link().get().match_index(index).execute().try_next().await;
                let found = found.map_err(|e| failure("look up link", name, e))?;
                let is_up = |attribute: &LinkAttribute| {
                    matches!(attribute, LinkAttribute::OperState(State::Up))
                };
                if found.is_some_and(|message| message.attributes.iter().any(is_up)) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PASSING_WAIT, passing).await.unwrap_or_else(|_| {
            Err(error("wait for link", name.to_owned(), io::ErrorKind::TimedOut.into()))
        })
    }

    /// Gives a link an address, usable at once. `Host` scope keeps it from being chosen as the
    /// source of connections to others.
    pub(crate) async fn add_address(
        &self,
        index: u32,
        address: IpNet,
        scope: AddressScope,
    ) -> Result<(), NetworkError> {
        let mut request =
            self.handle.address().add(index, address.addr(), address.prefix_len()).replace();
        let header = &mut request.message_mut().header;
        header.scope = scope;
        // Nobody else can have it: duplicate detection would only hold up the first connection.
        header.flags |= AddressHeaderFlags::Nodad;
        let added = request.execute().await;
        added.map_err(|e| failure("add address", &address.to_string(), e))
    }

    /// Waits until an address that was added works. The kernel finishes adding one of IPv6 in the
    /// background; until then, what the pod sends to itself is looked for on the link, and for
    /// three seconds not found there.
    pub(crate) async fn wait_local(&self, address: IpNet) -> Result<(), NetworkError> {
        let name = address.to_string();
        let local = async {
            loop {
                let query = destination(address);
                let found = self.handle.route().get(query).execute().try_next().await;
                let found = found.map_err(|e| failure("look up the route to", &name, e))?;
                if found.is_some_and(|route| route.header.kind == RouteType::Local) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PASSING_WAIT, local).await.unwrap_or_else(|_| {
            Err(error("wait for address", name.clone(), io::ErrorKind::TimedOut.into()))
        })
    }

    /// All addresses with the index of their link.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>, NetworkError> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| failure("list", "addresses", e))?;
        let address = |message: &rtnetlink::packet_route::address::AddressMessage| {
            let index = message.header.index;
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some((index, *ip)),
                _ => None,
            })
        };
        Ok(messages.iter().filter_map(address).collect())
    }

    /// Enters the hardware address of a neighbour for good.
    pub(crate) async fn add_neighbour(
        &self,
        index: u32,
        ip: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let added = self
            .handle
            .neighbours()
            .add(index, ip)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await;
        added.map_err(|e| failure("add neighbour", &ip.to_string(), e))
    }

    /// Adds or replaces the route to an address on a link.
    pub(crate) async fn add_host_route(&self, index: u32, ip: IpNet) -> Result<(), NetworkError> {
        let mut route = destination(ip);
        route.attributes.push(RouteAttribute::Oif(index));
        // Directly on the link, as far as IPv4 is concerned; IPv6 knows no scopes of routes.
        if ip.addr().is_ipv4() {
            route.header.scope = RouteScope::Link;
        }
        self.put_route(route, ip).await
    }

    /// Adds or replaces the default route of a pod.
    pub(crate) async fn add_default_route(
        &self,
        index: u32,
        gateway: IpAddr,
    ) -> Result<(), NetworkError> {
        let any = match gateway {
            IpAddr::V4(_) => IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddr::V6(_) => IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        let any = any.expect("0 is a valid prefix length");
        let mut route = destination(any);
        route.attributes.push(RouteAttribute::Gateway(gateway.into()));
        route.attributes.push(RouteAttribute::Oif(index));
        // The gateway is in no network of the pod's: it is declared to be on the link. A link-local
        // one of IPv6 is that by itself (declared, it would need the link's own address first).
        if gateway.is_ipv4() {
            route.header.flags |= RouteFlags::Onlink;
        }
        self.put_route(route, any).await
    }

    /// Adds or replaces a route between nodes.
    pub(crate) async fn add_route(&self, net: IpNet, hop: Hop) -> Result<(), NetworkError> {
        self.put_route(node_route(net, hop), net).await
    }

    /// Deletes a route between nodes.
    pub(crate) async fn delete_route(&self, net: IpNet, hop: Hop) -> Result<(), NetworkError> {
        match self.handle.route().del(node_route(net, hop)).execute().await {
            Err(error) if is_gone(&error) => Ok(()),
            deleted => deleted.map_err(|e| failure("delete route", &net.to_string(), e)),
        }
    }

    async fn put_route(&self, route: RouteMessage, net: IpNet) -> Result<(), NetworkError> {
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(|e| failure("add route", &net.to_string(), e))
    }

    /// Our routes between nodes.
    pub(crate) async fn routes(&self) -> Result<Vec<(IpNet, Hop)>, NetworkError> {
        let mut routes = Vec::new();
        for query in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let found: Vec<RouteMessage> = self
                .handle
                .route()
                .get(query)
                .execute()
                .try_collect()
                .await
                .map_err(|e| failure("list", "routes", e))?;
            routes.extend(found.iter().filter(|r| r.header.protocol == OURS).filter_map(hop));
        }
        Ok(routes)
    }

    /// The links that default routes lead to.
    pub(crate) async fn default_links(&self) -> Result<Vec<u32>, NetworkError> {
        let mut links = Vec::new();
        for query in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let mut found = self.handle.route().get(query).execute();
            while let Some(route) =
                found.try_next().await.map_err(|e| failure("list", "routes", e))?
            {
                let is_default = route.header.destination_prefix_length == 0
                    && route.header.kind == RouteType::Unicast;
                links.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) if is_default => Some(*index),
                    _ => None,
                }));
            }
        }
        Ok(links)
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu_bytes: 0,
        is_loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        is_up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu_bytes = *mtu,
            _ => {}
        }
    }
    link
}

fn destination(net: IpNet) -> RouteMessage {
    let mut route = match net {
        IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .build(),
    };
    route.header.protocol = OURS;
    route
}

fn node_route(net: IpNet, hop: Hop) -> RouteMessage {
    let mut route = destination(net);
    match hop {
        Hop::Via(gateway) => route.attributes.push(RouteAttribute::Gateway(gateway.into())),
        Hop::Unreachable => route.header.kind = RouteType::Unreachable,
    }
    route
}

/// Reads one of our routes; `None` for those of pods, which come and go with their links.
fn hop(route: &RouteMessage) -> Option<(IpNet, Hop)> {
    let mut hop = (route.header.kind == RouteType::Unreachable).then_some(Hop::Unreachable);
    let mut destination = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => hop = Some(Hop::Via(ip(gateway)?)),
            RouteAttribute::Destination(address) => destination = ip(address),
            _ => {}
        }
    }
    let net = IpNet::new(destination?, route.header.destination_prefix_length).ok()?;
    Some((net, hop?))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn cause(error: &rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn is_gone(error: &rtnetlink::Error) -> bool {
    matches!(cause(error).raw_os_error(), Some(libc::ENODEV | libc::ESRCH | libc::ENOENT))
}

fn failure(operation: &'static str, object: &str, source: rtnetlink::Error) -> NetworkError {
    error(operation, object.to_owned(), cause(&source))
}

fn error(operation: &'static str, object: String, source: io::Error) -> NetworkError {
    NetworkError::Netlink { operation, object, source }
}
