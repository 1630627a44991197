//! Cluster IPs and node ports in use.
//!
//! The table is filled from the stored Services and follows them by watch; a write reserves what it
//! takes, so that two writes at once cannot take the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use objects::ObjectExt;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::Value;

use crate::config::Config;

/// Why a given address or port cannot be had; the text is the API's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Somebody has it.
    #[error("provided {what} is already allocated")]
    Taken {
        /// `IP` or `port`.
        what: &'static str,
    },
    /// It is in no range of the cluster.
    #[error("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {ranges}")]
    OtherNetwork {
        /// The address.
        ip: IpAddr,
        /// The ranges, with commas.
        ranges: String,
    },
    /// It is the network's own address or another that nobody may have.
    #[error("the provided IP is not in the valid range")]
    NotUsable,
    /// The port is out of range.
    #[error("provided port is not in the valid range. The range of valid ports is {first}-{last}")]
    PortOutOfRange {
        /// First valid port.
        first: u16,
        /// Last valid port.
        last: u16,
    },
    /// There is nothing left.
    #[error("range is full")]
    Full,
}

#[derive(Debug, Default)]
struct Tables {
    ips: HashMap<IpAddr, Arc<str>>,
    ports: HashMap<u16, Arc<str>>,
    /// What each service has, by uid, to see what a change gave back.
    services: HashMap<Arc<str>, (Vec<IpAddr>, Vec<u16>)>,
}

/// Addresses and ports, each with the uid of its service.
pub struct Allocations {
    cidrs: Vec<IpNet>,
    node_ports: (u16, u16),
    tables: Mutex<Tables>,
}

/// Something taken for a write that may still fail. Dropping it gives it back.
pub struct Reservation<'a> {
    allocations: &'a Allocations,
    owner: Arc<str>,
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Reservation<'_> {
    /// The write is done.
    pub fn keep(mut self) {
        self.ips.clear();
        self.ports.clear();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut tables = self.allocations.tables.lock();
        for ip in &self.ips {
            remove_if_owned(&mut tables.ips, ip, &self.owner);
        }
        for port in &self.ports {
            remove_if_owned(&mut tables.ports, port, &self.owner);
        }
    }
}

fn remove_if_owned<K: Hash + Eq>(table: &mut HashMap<K, Arc<str>>, key: &K, owner: &Arc<str>) {
    if table.get(key) == Some(owner) {
        table.remove(key);
    }
}

/// The addresses and ports in a Service.
fn parts(service: &Value) -> (Vec<IpAddr>, Vec<u16>) {
    let texts = service.list_at(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    let ips = texts.filter_map(|text| text.parse().ok()).collect();
    let mut ports: Vec<u16> = service
        .list_at(&["spec", "ports"])
        .iter()
        .filter_map(|port| port.i64_at(&["nodePort"]))
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .collect();
    let check = service.i64_at(&["spec", "healthCheckNodePort"]).unwrap_or(0);
    ports.extend(u16::try_from(check).ok().filter(|port| *port > 0));
    (ips, ports)
}

impl Allocations {
    /// Nothing taken yet.
    pub fn new(config: &Config) -> Self {
        Self {
            cidrs: config.service_cidrs.clone(),
            node_ports: config.node_ports,
            tables: Mutex::default(),
        }
    }

    /// The ranges of cluster IPs, the primary first.
    pub fn cidrs(&self) -> &[IpNet] {
        &self.cidrs
    }

    /// Takes in a stored Service, or (`None`) that it is gone.
    pub fn observe(&self, _key: &str, service: Option<&Value>) {
        let Some(service) = service else { return };
        let owner: Arc<str> = service.uid().into();
        let (ips, ports) = parts(service);
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        if let Some((old_ips, old_ports)) = tables.services.remove(&owner) {
            for ip in old_ips.iter().filter(|ip| !ips.contains(ip)) {
                remove_if_owned(&mut tables.ips, ip, &owner);
            }
            for port in old_ports.iter().filter(|port| !ports.contains(port)) {
                remove_if_owned(&mut tables.ports, port, &owner);
            }
        }
        for ip in &ips {
            tables.ips.entry(*ip).or_insert_with(|| owner.clone());
        }
        for port in &ports {
            tables.ports.entry(*port).or_insert_with(|| owner.clone());
        }
        tables.services.insert(owner, (ips, ports));
    }

    /// Gives back everything that a deleted Service had.
    pub fn release(&self, service: &Value) {
        let owner: Arc<str> = service.uid().into();
        let (ips, ports) = parts(service);
        let mut tables = self.tables.lock();
        tables.services.remove(&owner);
        for ip in &ips {
            remove_if_owned(&mut tables.ips, ip, &owner);
        }
        for port in &ports {
            remove_if_owned(&mut tables.ports, port, &owner);
        }
    }

    /// An empty reservation for a Service.
    pub fn reserve(&self, owner: &str) -> Reservation<'_> {
        Reservation { allocations: self, owner: owner.into(), ips: Vec::new(), ports: Vec::new() }
    }
}

impl Reservation<'_> {
    /// Takes a given address.
    ///
    /// # Errors
    /// [`AllocateError`].
    pub fn take_ip(&mut self, ip: IpAddr) -> Result<(), AllocateError> {
        let cidr = self.allocations.cidrs.iter().find(|cidr| cidr.contains(&ip));
        let cidr = cidr.ok_or_else(|| {
            let ranges: Vec<String> =
                self.allocations.cidrs.iter().map(ToString::to_string).collect();
            AllocateError::OtherNetwork { ip, ranges: ranges.join(",") }
        })?;
        if ip == cidr.network() || (ip.is_ipv4() && ip == cidr.broadcast()) {
            return Err(AllocateError::NotUsable);
        }
        let mut tables = self.allocations.tables.lock();
        match tables.ips.get(&ip) {
            Some(owner) if *owner == self.owner => Ok(()),
            Some(_) => Err(AllocateError::Taken { what: "IP" }),
            None => {
                tables.ips.insert(ip, self.owner.clone());
                self.ips.push(ip);
                Ok(())
            }
        }
    }

    /// Takes any free address of a range. The lower part of a range (a sixteenth, at least 16 and
    /// at most 256 addresses) is used last, so that people can choose from it.
    ///
    /// # Errors
    /// [`AllocateError::Full`].
    pub fn any_ip(&mut self, cidr: &IpNet) -> Result<IpAddr, AllocateError> {
        let size = usable(cidr);
        let reserved = (size / 16).clamp(16, 256).min(size);
        let mut tables = self.allocations.tables.lock();
        for (from, to) in [(reserved, size), (0, reserved)] {
            if let Some(index) = pick(from, to, |index| {
                nth(cidr, index).is_some_and(|ip| !tables.ips.contains_key(&ip))
            }) && let Some(ip) = nth(cidr, index)
            {
                tables.ips.insert(ip, self.owner.clone());
                self.ips.push(ip);
                return Ok(ip);
            }
        }
        Err(AllocateError::Full)
    }

    /// Takes a given node port.
    ///
    /// # Errors
    /// [`AllocateError`].
    pub fn take_port(&mut self, port: u16) -> Result<(), AllocateError> {
        let (first, last) = self.allocations.node_ports;
        if !(first..=last).contains(&port) {
            return Err(AllocateError::PortOutOfRange { first, last });
        }
        let mut tables = self.allocations.tables.lock();
        match tables.ports.get(&port) {
            Some(owner) if *owner == self.owner => Ok(()),
            Some(_) => Err(AllocateError::Taken { what: "port" }),
            None => {
                tables.ports.insert(port, self.owner.clone());
                self.ports.push(port);
                Ok(())
            }
        }
    }

    /// Takes any free node port; the lower part is used last, as for addresses.
    ///
    /// # Errors
    /// [`AllocateError::Full`].
    pub fn any_port(&mut self) -> Result<u16, AllocateError> {
        let (first, last) = self.allocations.node_ports;
        let size = u64::from(last - first) + 1;
        let reserved = (size / 32).clamp(16, 128).min(size);
        let mut tables = self.allocations.tables.lock();
        let port_at = |index: u64| first + u16::try_from(index).unwrap_or(0);
        for (from, to) in [(reserved, size), (0, reserved)] {
            let free = |index: u64| !tables.ports.contains_key(&port_at(index));
            if let Some(index) = pick(from, to, free) {
                let port = port_at(index);
                tables.ports.insert(port, self.owner.clone());
                self.ports.push(port);
                return Ok(port);
            }
        }
        Err(AllocateError::Full)
    }
}

/// Addresses that services can have; of a huge range the first 2^32.
fn usable(cidr: &IpNet) -> u64 {
    match cidr {
        IpNet::V4(net) => (1_u64 << (32 - net.prefix_len())).saturating_sub(2),
        IpNet::V6(net) => (1_u64 << (128 - net.prefix_len()).min(32)) - 1,
    }
}

fn nth(cidr: &IpNet, index: u64) -> Option<IpAddr> {
    match cidr.network() {
        IpAddr::V4(network) => {
            let offset = u32::try_from(index + 1).ok()?;
            Some(IpAddr::V4(u32::from(network).checked_add(offset)?.into()))
        }
        IpAddr::V6(network) => {
            Some(IpAddr::V6(u128::from(network).checked_add(u128::from(index) + 1)?.into()))
        }
    }
}

/// A random free number of a range: a few tries, then the first from a random start.
fn pick(from: u64, to: u64, free: impl Fn(u64) -> bool) -> Option<u64> {
    if from >= to {
        return None;
    }
    let mut rng = rand::rng();
    for _ in 0..16 {
        let index = rng.random_range(from..to);
        if free(index) {
            return Some(index);
        }
    }
    let start = rng.random_range(from..to);
    (start..to).chain(from..start).find(|index| free(*index))
}

#[cfg(test)]
mod tests;
