//! The maps as text: for `skeg debug services`, and for tests to compare.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::state::{Backend, Frontend, FrontendKey, MapSet, Scope, SlotKey};

/// One line per frontend with its backends in slot order, numbers of the kernel left out:
/// `10.96.0.1:443/TCP internal -> 10.244.0.2:6443 local, 10.244.1.2:6443`.
pub fn dump(maps: &MapSet) -> String {
    let mut text = String::new();
    for (key, frontend) in &maps.frontends {
        let backends: Vec<String> = (0..frontend.slot_count)
            .map(|offset| {
                let slot = frontend.first_slot + offset;
                let slot = SlotKey { service_id: frontend.service_id, slot };
                let backend = maps.slots.get(&slot).and_then(|id| maps.backends.get(id));
                backend.map_or_else(|| "MISSING".to_owned(), place)
            })
            .collect();
        let backends = if backends.is_empty() { "refuse".to_owned() } else { backends.join(", ") };
        // Writing to a String cannot fail.
        _ = writeln!(text, "{}{} -> {backends}", name(key), options(frontend));
    }
    text
}

fn name(key: &FrontendKey) -> String {
    let scope = match key.scope {
        Scope::Internal => "internal",
        Scope::External => "external",
    };
    format!("{}/{} {scope}", SocketAddr::new(key.ip, key.port), key.protocol)
}

fn options(frontend: &Frontend) -> String {
    let mut text = String::new();
    if frontend.host_only {
        text.push_str(" host-only");
    }
    if frontend.local {
        text.push_str(" local");
    }
    if frontend.affinity_timeout_secs != 0 {
        _ = write!(text, " affinity={}s", frontend.affinity_timeout_secs);
    }
    text
}

fn place(backend: &Backend) -> String {
    let local = if backend.local { " local" } else { "" };
    format!("{}{local}", SocketAddr::new(backend.ip, backend.port))
}
