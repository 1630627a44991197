//! PURE: the operations that turn what the maps hold into what they must hold.
//!
//! The order makes every prefix safe: backends before the slots that name them, slots before the
//! frontends whose ranges cover them, and all deletions after that, in the opposite order.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::state::{Backend, Frontend, FrontendKey, MapSet, NetworkKind, SlotKey};

/// One write to one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOp {
    /// Adds or replaces a backend.
    PutBackend(u32, Backend),
    /// Adds or replaces a slot.
    PutSlot(SlotKey, u32),
    /// Adds or replaces a frontend.
    PutFrontend(FrontendKey, Frontend),
    /// Adds or replaces a network.
    PutNetwork(IpNet, NetworkKind),
    /// Deletes a frontend.
    DeleteFrontend(FrontendKey),
    /// Deletes a slot.
    DeleteSlot(SlotKey),
    /// Deletes a backend.
    DeleteBackend(u32),
    /// Deletes a network.
    DeleteNetwork(IpNet),
}

/// The operations from `actual` to `desired`.
pub fn diff(actual: &MapSet, desired: &MapSet) -> Vec<MapOp> {
    let mut ops = Vec::new();
    let put = changed(&actual.backends, &desired.backends);
    ops.extend(put.map(|(id, backend)| MapOp::PutBackend(*id, *backend)));
    let put = changed(&actual.slots, &desired.slots);
    ops.extend(put.map(|(slot, id)| MapOp::PutSlot(*slot, *id)));
    let put = changed(&actual.frontends, &desired.frontends);
    ops.extend(put.map(|(key, frontend)| MapOp::PutFrontend(*key, *frontend)));
    // Networks depend on nothing here: when depends only on what is the lesser evil in between,
    // which is a pod's address where it means nothing.
    let put = changed(&actual.networks, &desired.networks);
    ops.extend(put.map(|(net, kind)| MapOp::PutNetwork(*net, *kind)));

    let delete = gone(&actual.frontends, &desired.frontends);
    ops.extend(delete.map(|key| MapOp::DeleteFrontend(*key)));
    let delete = gone(&actual.slots, &desired.slots);
    ops.extend(delete.map(|slot| MapOp::DeleteSlot(*slot)));
    let delete = gone(&actual.backends, &desired.backends);
    ops.extend(delete.map(|id| MapOp::DeleteBackend(*id)));
    let delete = gone(&actual.networks, &desired.networks);
    ops.extend(delete.map(|net| MapOp::DeleteNetwork(*net)));
    ops
}

impl MapSet {
    /// Carries out one operation.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutBackend(id, backend) => drop(self.backends.insert(*id, *backend)),
            MapOp::PutSlot(slot, id) => drop(self.slots.insert(*slot, *id)),
            MapOp::PutFrontend(key, frontend) => drop(self.frontends.insert(*key, *frontend)),
            MapOp::DeleteFrontend(key) => drop(self.frontends.remove(key)),
            MapOp::DeleteSlot(slot) => drop(self.slots.remove(slot)),
            MapOp::DeleteBackend(id) => drop(self.backends.remove(id)),
            MapOp::PutNetwork(net, kind) => drop(self.networks.insert(*net, *kind)),
            MapOp::DeleteNetwork(net) => drop(self.networks.remove(net)),
        }
    }
}

fn changed<'a, K: Ord, V: PartialEq>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    desired.iter().filter(|(key, value)| actual.get(key) != Some(value))
}

fn gone<'a, K: Ord, V>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    actual.keys().filter(|key| !desired.contains_key(key))
}

#[cfg(test)]
mod tests;
