//! Connects pods: addresses from the allocator, the wiring from the plan, the rest by netlink.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::IpNet;
use parking_lot::Mutex;
use rtnetlink::packet_route::address::AddressScope;
use tokio::sync::watch;
use tracing::debug;

use crate::ipam::Ipam;
use crate::netlink::Netlink;
use crate::netns::{in_namespace, io_error};
use crate::plan::{HOST_LINK_PREFIX, POD_LINK, Wiring, host_link, wiring};
use crate::records::{Record, Records};
use crate::{Config, NetworkError, PodNetwork};

/// How long a pod waits for the node to be given its range: as long as registering takes on a slow
/// start; the kubelet tries again after that.
const RANGES_WAIT: Duration = Duration::from_secs(10);
/// Ethernet's, for a node without any uplink.
const MTU_DEFAULT_BYTES: u32 = 1500;
/// The loopback's index is 1 in every namespace.
const LOOPBACK: u32 = 1;

/// The pod network of this node. Clones share it.
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) netlink: Netlink,
    records: Records,
    mtu_bytes: u32,
    uplinks: Vec<String>,
    pods: Mutex<Pods>,
    /// Whether the node has been given ranges.
    has_ranges: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Pods {
    ipam: Ipam,
    attached: BTreeMap<String, Record>,
}

impl Network {
    /// Takes over what the last agent left: pods that are connected stay so. Sets the node's own
    /// addresses and, if the configuration says so, lets the node forward.
    ///
    /// # Errors
    /// If the kernel refuses netlink, or the records cannot be read.
    pub async fn open(config: Config) -> Result<Self, NetworkError> {
        let (records, seen) = Records::open(&config.state_dir)?;
        let netlink = Netlink::connect()?;
        if config.set_sysctls {
            allow_forwarding()?;
        }
        netlink.set_up(LOOPBACK).await?;
        for ip in &config.own_addresses {
            netlink.add_address(LOOPBACK, IpNet::from(*ip), AddressScope::Host).await?;
        }
        let uplinks = uplinks(&netlink, &config).await?;
        let mtu_bytes = config.mtu_bytes.unwrap_or_else(|| {
            uplinks.iter().map(|(_, mtu)| *mtu).min().unwrap_or(MTU_DEFAULT_BYTES)
        });
        let mut pods = Pods::default();
        for record in seen {
            record.addresses.iter().for_each(|ip| pods.ipam.claim(*ip));
            pods.attached.insert(record.pod_uid.clone(), record);
        }
        debug!(pods = pods.attached.len(), mtu_bytes, ?uplinks, "opened the pod network");
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                netlink,
                records,
                mtu_bytes,
                uplinks: uplinks.into_iter().map(|(name, _)| name).collect(),
                pods: Mutex::new(pods),
                has_ranges: watch::Sender::new(false),
            }),
        })
    }

    /// Sets the ranges of this node's pods, the primary family first. Pods wait for the first call.
    pub fn set_pod_cidrs(&self, cidrs: &[IpNet]) {
        let mut pods = self.inner.pods.lock();
        pods.ipam.set_ranges(cidrs);
        self.inner.has_ranges.send_replace(pods.ipam.has_ranges());
    }

    /// Links by which this node reaches others.
    pub fn uplinks(&self) -> &[String] {
        &self.inner.uplinks
    }

    /// Network namespaces of the attached pods.
    pub fn namespaces(&self) -> Vec<PathBuf> {
        self.inner.pods.lock().attached.values().map(|record| record.netns.clone()).collect()
    }

    /// UIDs of the attached pods; what the kubelet no longer knows, it detaches.
    pub fn attached(&self) -> Vec<String> {
        self.inner.pods.lock().attached.keys().cloned().collect()
    }

    async fn attach_pod(&self, pod_uid: &str, netns: &Path) -> Result<Vec<IpAddr>, NetworkError> {
        let record = self.record(pod_uid, netns).await?;
        let wiring = wiring(pod_uid, &record.addresses, self.inner.mtu_bytes);
        self.connect(&wiring, netns).await?;
        Ok(record.addresses)
    }

    /// The pod's record, with new addresses if it has none. It is on disk before anything is
    /// connected: a crash in between costs an address until the pod is detached, never two pods
    /// with one address.
    async fn record(&self, pod_uid: &str, netns: &Path) -> Result<Record, NetworkError> {
        let known = self.inner.pods.lock().attached.get(pod_uid).cloned();
        let record = match known {
            Some(record) if record.netns == netns => return Ok(record),
            Some(record) => Record { netns: netns.to_owned(), ..record },
            None => Record {
                pod_uid: pod_uid.to_owned(),
                netns: netns.to_owned(),
                addresses: self.allocate().await?,
            },
        };
        let put = self.on_disk({
            let record = record.clone();
            move |records| records.put(&record)
        });
        if let Err(error) = put.await {
            let mut pods = self.inner.pods.lock();
            if !pods.attached.contains_key(pod_uid) {
                record.addresses.iter().for_each(|ip| pods.ipam.release(*ip));
            }
            return Err(error);
        }
        self.inner.pods.lock().attached.insert(pod_uid.to_owned(), record.clone());
        Ok(record)
    }

    async fn allocate(&self) -> Result<Vec<IpAddr>, NetworkError> {
        let mut has_ranges = self.inner.has_ranges.subscribe();
        let waited = tokio::time::timeout(RANGES_WAIT, has_ranges.wait_for(|has| *has)).await;
        if waited.is_err() {
            return Err(NetworkError::NoRange);
        }
        self.inner
            .pods
            .lock()
            .ipam
            .allocate()
            .map_err(|range| NetworkError::Exhausted { cidr: range.to_string() })
    }

    async fn on_disk(
        &self,
        body: impl FnOnce(&Records) -> Result<(), NetworkError> + Send + 'static,
    ) -> Result<(), NetworkError> {
        let records = self.inner.records.clone();
        let done = tokio::task::spawn_blocking(move || body(&records)).await;
        done.expect("writing a record neither panics nor is it cancelled")
    }

    async fn connect(&self, wiring: &Wiring, netns: &Path) -> Result<(), NetworkError> {
        let netlink = &self.inner.netlink;
        if netlink.index(&wiring.host_link).await?.is_some() && !has_pod_link(netns).await? {
            // The far end is in a namespace that the pod has no more.
            netlink.delete_link(&wiring.host_link).await?;
        }
        if netlink.index(&wiring.host_link).await?.is_none() {
            let namespace = File::open(netns).map_err(|e| io_error("open namespace", netns, e))?;
            netlink.add_veth(wiring, namespace.as_fd()).await?;
        }
        let pod_side = {
            let wiring = wiring.clone();
            in_namespace(netns, move || async move { connect_pod_side(&wiring).await })
        };
        let (index, ()) = tokio::try_join!(self.connect_host_side(wiring), pod_side)?;
        netlink.wait_passing(index, &wiring.host_link).await
    }

    async fn connect_host_side(&self, wiring: &Wiring) -> Result<u32, NetworkError> {
        let netlink = &self.inner.netlink;
        let index = index_of(netlink, &wiring.host_link).await?;
        for address in &wiring.addresses {
            netlink.add_neighbour(index, address.addr(), wiring.pod_mac).await?;
            netlink.add_host_route(index, *address).await?;
        }
        Ok(index)
    }

    async fn detach_pod(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.inner.netlink.delete_link(&host_link(pod_uid)).await?;
        let gone = pod_uid.to_owned();
        self.on_disk(move |records| records.delete(&gone)).await?;
        let mut pods = self.inner.pods.lock();
        for ip in pods.attached.remove(pod_uid).into_iter().flat_map(|record| record.addresses) {
            pods.ipam.release(ip);
        }
        Ok(())
    }
}

impl PodNetwork for Network {
    fn attach<'a>(
        &'a self,
        pod_uid: &'a str,
        netns: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        Box::pin(self.attach_pod(pod_uid, netns))
    }

    fn detach<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(self.detach_pod(pod_uid))
    }

    fn addresses(&self, pod_uid: &str) -> Option<Vec<IpAddr>> {
        self.inner.pods.lock().attached.get(pod_uid).map(|record| record.addresses.clone())
    }
}

async fn connect_pod_side(wiring: &Wiring) -> Result<(), NetworkError> {
    let netlink = Netlink::connect()?;
    netlink.set_up(LOOPBACK).await?;
    let index = index_of(&netlink, POD_LINK).await?;
    netlink.set_up(index).await?;
    for address in &wiring.addresses {
        netlink.add_address(index, *address, AddressScope::Universe).await?;
    }
    for gateway in &wiring.gateways {
        netlink.add_neighbour(index, *gateway, wiring.host_mac).await?;
        netlink.add_default_route(index, *gateway).await?;
    }
    for address in &wiring.addresses {
        netlink.wait_local(*address).await?;
    }
    Ok(())
}

async fn has_pod_link(netns: &Path) -> Result<bool, NetworkError> {
    in_namespace(netns, || async { Ok(Netlink::connect()?.index(POD_LINK).await?.is_some()) }).await
}

async fn index_of(netlink: &Netlink, name: &str) -> Result<u32, NetworkError> {
    netlink.index(name).await?.ok_or_else(|| NetworkError::Netlink {
        operation: "look up link",
        object: name.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })
}

/// The links to other nodes with their MTU: those with an address of the node; without any, those
/// with a default route; without any, every link that is up and not a pod's.
async fn uplinks(netlink: &Netlink, config: &Config) -> Result<Vec<(String, u32)>, NetworkError> {
    let mut links = netlink.links().await?;
    links
        .retain(|link| link.is_up && !link.is_loopback && !link.name.starts_with(HOST_LINK_PREFIX));
    let with_address: Vec<u32> = netlink
        .addresses()
        .await?
        .into_iter()
        .filter_map(|(index, ip)| config.node_addresses.contains(&ip).then_some(index))
        .collect();
    let with_default = netlink.default_links().await?;
    for wanted in [with_address, with_default] {
        if links.iter().any(|link| wanted.contains(&link.index)) {
            links.retain(|link| wanted.contains(&link.index));
            break;
        }
    }
    Ok(links.into_iter().map(|link| (link.name, link.mtu_bytes)).collect())
}

/// In the node's own namespace only: these files show that of whoever opens them.
fn allow_forwarding() -> Result<(), NetworkError> {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        let path = Path::new(path);
        match std::fs::write(path, "1") {
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            written => written.map_err(|e| io_error("write", path, e))?,
        }
    }
    Ok(())
}
