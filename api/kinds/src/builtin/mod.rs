//! Everything a default Kubernetes 1.36 server serves, as table rows.

mod core;
mod groups;
mod row;

use crate::kind::Kind;
use crate::registry::Registry;

/// The registry of the built-in kinds.
pub fn builtin() -> Registry {
    let core = core::ROWS.iter().map(|row| row.to_kind(""));
    let named = groups::GROUPS
        .iter()
        .flat_map(|(group, rows)| rows.iter().map(move |row| row.to_kind(group)));
    let kinds: Vec<Kind> = core.chain(named).collect();
    Registry::new(kinds)
}
