//! Which capabilities a container gets. PURE.

use std::collections::{BTreeSet, HashSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::ContainerSpec;
use crate::cgroup::Version;

/// Capability names with their prefix: `CAP_CHOWN`.
pub(crate) type Capabilities = BTreeSet<String>;

/// The capabilities `spec` names, with their prefix.
pub(crate) fn named_in(spec: &ContainerSpec) -> Capabilities {
    let with_prefix = |name: &String| {
        let name = name.to_ascii_uppercase();
        if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    spec.capabilities.iter().map(with_prefix).collect()
}

/// The capabilities `spec` gets: as far as the agent has them itself, since nobody can give away
/// more, and asking the kernel for it would fail the container.
///
/// Unlike upstream, `CAP_MKNOD` is left out on cgroup v2: there a program of the cgroup would have
/// to refuse devices that the container makes for itself, and libcontainer loads none.
pub(crate) fn granted(
    spec: &ContainerSpec,
    available: &Capabilities,
    version: Version,
) -> Capabilities {
    if spec.privileged {
        return available.clone();
    }
    named_in(spec)
        .into_iter()
        .filter(|name| available.contains(name))
        .filter(|name| version == Version::V1 || name != "CAP_MKNOD")
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
