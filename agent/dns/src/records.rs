//! The index that answers are looked up in. Look-ups only: nothing iterates over its maps.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::query::{Service, dashed};

/// What DNS knows of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Records {
    services: HashMap<Service, ServiceRecord>,
    /// Number of Services by namespace.
    namespaces: HashMap<String, usize>,
    /// Services by their cluster addresses.
    by_cluster_ip: HashMap<IpAddr, Service>,
    /// Endpoints of headless Services by their addresses.
    by_endpoint_ip: HashMap<IpAddr, BTreeSet<(Service, String)>>,
    /// Everything the API had at the start has been seen: what is missing does not exist.
    pub(crate) synced: bool,
}

/// What DNS knows of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceRecord {
    /// With addresses of its own.
    Cluster {
        /// Its addresses.
        ips: Vec<IpAddr>,
        /// Its ports.
        ports: Vec<PortRecord>,
    },
    /// Without: its endpoints answer for it.
    Headless(Vec<EndpointRecord>),
    /// Another name.
    External(String),
}

/// A named port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortRecord {
    /// Its name; empty for an only port without one.
    pub(crate) name: String,
    /// Protocol, in lower case.
    pub(crate) protocol: String,
    /// Its number.
    pub(crate) port: u16,
}

/// A ready endpoint of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointRecord {
    /// The host name asked for, else the address with dashes.
    pub(crate) hostname: String,
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its ports.
    pub(crate) ports: Vec<PortRecord>,
}

impl Records {
    /// A Service.
    pub(crate) fn service(&self, service: &Service) -> Option<&ServiceRecord> {
        self.services.get(service)
    }

    /// Whether there is something below the name of a namespace.
    pub(crate) fn has_services_in(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The Service that has this cluster address.
    pub(crate) fn cluster_ip(&self, ip: IpAddr) -> Option<&Service> {
        self.by_cluster_ip.get(&ip)
    }

    /// The endpoints of headless Services that have this address, with their host names.
    pub(crate) fn endpoints(&self, ip: IpAddr) -> impl Iterator<Item = &(Service, String)> {
        self.by_endpoint_ip.get(&ip).into_iter().flatten()
    }

    /// Every Service, sorted, for the dump.
    pub(crate) fn all(&self) -> Vec<(&Service, &ServiceRecord)> {
        let mut all: Vec<_> = self.services.iter().collect();
        all.sort_unstable_by_key(|(service, _)| *service);
        all
    }

    /// Takes in what a Service has become, or that it went.
    pub(crate) fn set_service(&mut self, service: &Service, record: Option<ServiceRecord>) {
        let old = self.services.remove(service);
        if old.is_some()
            && let Some(count) = self.namespaces.get_mut(&service.namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&service.namespace);
            }
        }
        match old {
            Some(ServiceRecord::Cluster { ips, .. }) => {
                for ip in ips {
                    // A Service that got the address meanwhile keeps it.
                    if self.by_cluster_ip.get(&ip) == Some(service) {
                        self.by_cluster_ip.remove(&ip);
                    }
                }
            }
            Some(ServiceRecord::Headless(endpoints)) => {
                for endpoint in endpoints {
                    self.forget_endpoint(service, endpoint);
                }
            }
            Some(ServiceRecord::External(_)) | None => {}
        }
        let Some(record) = record else {
            return;
        };
        match &record {
            ServiceRecord::Cluster { ips, .. } => {
                self.by_cluster_ip.extend(ips.iter().map(|ip| (*ip, service.clone())));
            }
            ServiceRecord::Headless(endpoints) => {
                for endpoint in endpoints {
                    let at = self.by_endpoint_ip.entry(endpoint.ip).or_default();
                    at.insert((service.clone(), endpoint.hostname.clone()));
                }
            }
            ServiceRecord::External(_) => {}
        }
        self.services.insert(service.clone(), record);
        *self.namespaces.entry(service.namespace.clone()).or_default() += 1;
    }

    fn forget_endpoint(&mut self, service: &Service, endpoint: EndpointRecord) {
        if let Some(at) = self.by_endpoint_ip.get_mut(&endpoint.ip) {
            at.remove(&(service.clone(), endpoint.hostname));
            if at.is_empty() {
                self.by_endpoint_ip.remove(&endpoint.ip);
            }
        }
    }
}

/// What DNS knows of a Service, given its slices; `None` if there is nothing to know.
pub(crate) fn record(service: &ServiceObject, slices: &[&EndpointSlice]) -> Option<ServiceRecord> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().map(ServiceRecord::External);
    }
    let ips = spec.cluster_ips.clone().or_else(|| Some(vec![spec.cluster_ip.clone()?]));
    let ips = ips.unwrap_or_default();
    if ips.first().is_some_and(|ip| ip == "None") {
        return Some(ServiceRecord::Headless(endpoints(slices)));
    }
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let ports =
        spec.ports.iter().flatten().filter_map(|port| {
            port_record(port.name.as_deref(), port.protocol.as_deref(), port.port)
        });
    (!ips.is_empty()).then(|| ServiceRecord::Cluster { ips, ports: ports.collect() })
}

fn endpoints(slices: &[&EndpointSlice]) -> Vec<EndpointRecord> {
    let mut records = BTreeSet::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            port_record(port.name.as_deref(), port.protocol.as_deref(), port.port?)
        });
        let ports: Vec<PortRecord> = ports.collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            for ip in endpoint.addresses.iter().filter(|_| ready).filter_map(|ip| ip.parse().ok()) {
                let hostname = endpoint.hostname.clone().unwrap_or_else(|| dashed(ip));
                let hostname = hostname.to_ascii_lowercase();
                records.insert(EndpointRecord { hostname, ip, ports: ports.clone() });
            }
        }
    }
    records.into_iter().collect()
}

fn port_record(name: Option<&str>, protocol: Option<&str>, port: i32) -> Option<PortRecord> {
    Some(PortRecord {
        name: name.unwrap_or_default().to_owned(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        port: u16::try_from(port).ok()?,
    })
}

/// The address that a name in the reverse domains stands for. Addresses that are IPv4 in IPv6's
/// clothes are never in use.
pub(crate) fn reverse(net: ipnet::IpNet) -> Option<IpAddr> {
    let whole = net.prefix_len() == net.max_prefix_len();
    whole.then_some(net.addr()).filter(|ip| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => Ipv6Addr::to_ipv4_mapped(ip).is_none(),
    })
}
