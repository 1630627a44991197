//! From a frontend to a backend.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use ebpf_maps::{
    AddrBe, Affinity, AffinityKey, Backend, FRONTEND_LOCAL, Frontend, FrontendKey, SlotKey,
};

use crate::maps::{AFFINITY, BACKENDS, FRONTENDS, SLOTS};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A backend and its id.
#[derive(Clone, Copy)]
pub struct Chosen {
    pub id: u32,
    pub backend: Backend,
}

/// The backend with this id, if it still is one.
#[inline(always)]
pub fn backend(id: u32) -> Option<Chosen> {
    // SAFETY: copied before anything else is done with the map.
    let backend = unsafe { BACKENDS.get(id) }?;
    Some(Chosen { id, backend: *backend })
}

#[inline(always)]
pub fn frontend(key: &FrontendKey) -> Option<Frontend> {
    // SAFETY: copied before anything else is done with the map.
    unsafe { FRONTENDS.get(key) }.copied()
}

/// Chooses a backend: the one the client is pinned to, else any.
#[inline(always)]
pub fn choose(key: &FrontendKey, frontend: &Frontend, client: &AddrBe) -> Option<Chosen> {
    if frontend.affinity_timeout_secs == 0 {
        return any(key, frontend);
    }
    let pin = AffinityKey {
        client: *client,
        service_id: frontend.service_id,
        policy: frontend.flags & FRONTEND_LOCAL,
    };
    // SAFETY: a plain kernel helper.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let chosen = match pinned(&pin, frontend, now) {
        Some(chosen) => chosen,
        None => any(key, frontend)?,
    };
    let pinned_now = Affinity { used_at_nanos: now, backend_id: chosen.id, pad: 0 };
    // A full table evicts, it does not fail; if the insert fails all the same, the client is
    // served.
    let _ = AFFINITY.insert(pin, pinned_now, 0);
    Some(chosen)
}

#[inline(always)]
fn pinned(pin: &AffinityKey, frontend: &Frontend, now: u64) -> Option<Chosen> {
    // SAFETY: copied before anything else is done with the map.
    let affinity = *unsafe { AFFINITY.get(pin) }?;
    let timeout_nanos = u64::from(frontend.affinity_timeout_secs) * NANOS_PER_SEC;
    if now.wrapping_sub(affinity.used_at_nanos) > timeout_nanos {
        return None;
    }
    backend(affinity.backend_id)
}

#[inline(always)]
fn any(key: &FrontendKey, frontend: &Frontend) -> Option<Chosen> {
    if let Some(chosen) = at_random(frontend) {
        return Some(chosen);
    }
    // The agent may have shortened the list between our lookups; then the frontend says so already.
    at_random(&crate::select::frontend(key)?)
}

#[inline(always)]
fn at_random(frontend: &Frontend) -> Option<Chosen> {
    if frontend.slot_count == 0 {
        return None;
    }
    // SAFETY: a plain kernel helper.
    let offset = unsafe { bpf_get_prandom_u32() } % frontend.slot_count;
    let key =
        SlotKey { service_id: frontend.service_id, slot: frontend.first_slot.wrapping_add(offset) };
    // SAFETY: copied before anything else is done with the map.
    let id = *unsafe { SLOTS.get(key) }?;
    backend(id)
}
