//! A pod network in memory, for tests of what is above it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use futures::future::BoxFuture;
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::ipam::Ipam;
use crate::{NetworkError, PodNetwork};

/// Gives addresses of a range and connects nothing.
#[derive(Debug)]
pub struct FakeNetwork {
    pods: Mutex<(Ipam, BTreeMap<String, Vec<IpAddr>>)>,
}

impl FakeNetwork {
    /// A network with these ranges, the primary family first.
    pub fn new(cidrs: &[IpNet]) -> Self {
        let mut ipam = Ipam::default();
        ipam.set_ranges(cidrs);
        Self { pods: Mutex::new((ipam, BTreeMap::new())) }
    }
}

impl PodNetwork for FakeNetwork {
    fn attach<'a>(
        &'a self,
        pod_uid: &'a str,
        _netns: &'a Path,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        let (ipam, attached) = &mut *self.pods.lock();
        let known = attached.get(pod_uid).cloned();
        let addresses = known.map_or_else(|| ipam.allocate(), Ok);
        if let Ok(addresses) = &addresses {
            attached.insert(pod_uid.to_owned(), addresses.clone());
        }
        let addresses =
            addresses.map_err(|range| NetworkError::Exhausted { cidr: range.to_string() });
        Box::pin(async move { addresses })
    }

    fn detach<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        let (ipam, attached) = &mut *self.pods.lock();
        for ip in attached.remove(pod_uid).into_iter().flatten() {
            ipam.release(ip);
        }
        Box::pin(async { Ok(()) })
    }

    fn addresses(&self, pod_uid: &str) -> Option<Vec<IpAddr>> {
        self.pods.lock().1.get(pod_uid).cloned()
    }
}
