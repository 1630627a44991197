//! Which capabilities a container gets. PURE.

use std::collections::{BTreeSet, HashSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::ContainerSpec;

/// Capability names with their prefix: `CAP_CHOWN`.
pub(crate) type Capabilities = BTreeSet<String>;

/// The capabilities `spec` asks for, as far as the agent has them itself: nobody can give away
/// more, and asking the kernel for it would fail the container.
pub(crate) fn granted(spec: &ContainerSpec, available: &Capabilities) -> Capabilities {
    if spec.privileged {
        return available.clone();
    }
    spec.capabilities
        .iter()
        .map(|name| {
            let name = name.to_ascii_uppercase();
            if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
        })
        .filter(|name| available.contains(name))
        .collect()
}

/// The same set for bounding, effective and permitted; nothing inheritable or ambient, as upstream
/// since CVE-2022-24769.
pub(crate) fn oci(granted: &Capabilities) -> Result<LinuxCapabilities, OciSpecError> {
    let set: HashSet<Capability> = granted.iter().filter_map(|name| named(name)).collect();
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
}

/// The capability of a name with prefix, if it is known.
pub(crate) fn named(name: &str) -> Option<Capability> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}
