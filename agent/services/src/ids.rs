//! Numbers for Service ports and their endpoints, as the maps know them.
//!
//! A number is never given twice: flow and affinity entries in the kernel hold backend ids, and an
//! id that is in the map again must mean the same endpoint of the same Service port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::state::{FrontendKey, MapSet};

/// An endpoint of a Service port.
type BackendKey = (u32, IpAddr, u16);

/// The numbers in use.
#[derive(Debug, Default)]
pub struct Ids {
    services: BTreeMap<FrontendKey, u32>,
    backends: BTreeMap<BackendKey, u32>,
    last_service: u32,
    last_backend: u32,
}

impl Ids {
    /// The numbers found in the kernel's maps.
    pub fn recover(seen: &MapSet) -> Self {
        let mut ids = Self::default();
        ids.keep(seen);
        let services = seen.frontends.values().map(|frontend| frontend.service_id);
        let of_slots = seen.slots.keys().map(|slot| slot.service_id);
        let of_backends = seen.backends.values().map(|backend| backend.service_id);
        ids.last_service = services.chain(of_slots).chain(of_backends).max().unwrap_or(0);
        let of_slots = seen.slots.values().copied();
        ids.last_backend = seen.backends.keys().copied().chain(of_slots).max().unwrap_or(0);
        ids
    }

    /// The number of the Service port whose first frontend is `frontend`.
    pub fn service(&mut self, frontend: FrontendKey) -> u32 {
        let last = &mut self.last_service;
        *self.services.entry(frontend).or_insert_with(|| next(last))
    }

    /// The number of an endpoint of a Service port.
    pub fn backend(&mut self, service_id: u32, ip: IpAddr, port: u16) -> u32 {
        let last = &mut self.last_backend;
        *self.backends.entry((service_id, ip, port)).or_insert_with(|| next(last))
    }

    /// Forgets the numbers of everything that is not in `wanted`.
    pub fn keep(&mut self, wanted: &MapSet) {
        self.services = wanted.frontends.iter().map(|(key, f)| (*key, f.service_id)).collect();
        let backends = wanted.backends.iter();
        self.backends = backends.map(|(id, b)| ((b.service_id, b.ip, b.port), *id)).collect();
    }
}

/// At a thousand new endpoints a second, the numbers last for 49 days of that; then they start
/// over, far from anything that still lives. 0 is never given.
fn next(last: &mut u32) -> u32 {
    *last = last.checked_add(1).unwrap_or(1);
    *last
}
