//! The registry: a value that says what is served now.

use std::sync::Arc;

use base64::Engine as _;
use objects::GroupVersionKind;
use sha2::{Digest, Sha256};

use crate::kind::Kind;

/// Every kind that is served. Cloning is cheap; a change makes a new value, so that a request sees
/// one registry from beginning to end.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Tables>);

#[derive(Debug)]
struct Tables {
    /// In discovery order.
    kinds: Vec<Arc<Kind>>,
    /// Positions in `kinds`, ordered by group, version and plural.
    by_resource: Vec<usize>,
    /// Positions in `kinds`, ordered by group, version and kind.
    by_kind: Vec<usize>,
}

fn resource_key(kind: &Kind) -> (&str, &str, &str) {
    (&kind.names.group, &kind.names.version, &kind.names.plural)
}

fn kind_key(kind: &Kind) -> (&str, &str, &str) {
    (&kind.names.group, &kind.names.version, &kind.names.kind)
}

/// An API group in discovery order.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name, empty for core.
    pub name: String,
    /// Versions, the preferred one first.
    pub versions: Vec<Version>,
}

/// A version of a group.
#[derive(Debug, Clone)]
pub struct Version {
    /// Name, such as `v1`.
    pub name: String,
    /// Resources in discovery order.
    pub kinds: Vec<Arc<Kind>>,
}

impl Registry {
    /// A registry of these kinds, whose order is discovery's.
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self::from_shared(kinds.into_iter().map(Arc::new).collect())
    }

    fn from_shared(kinds: Vec<Arc<Kind>>) -> Self {
        let mut by_resource: Vec<usize> = (0..kinds.len()).collect();
        by_resource.sort_by(|a, b| resource_key(&kinds[*a]).cmp(&resource_key(&kinds[*b])));
        let mut by_kind: Vec<usize> = (0..kinds.len()).collect();
        // Stable, so that of two resources of one kind the first in discovery order is found.
        by_kind.sort_by(|a, b| kind_key(&kinds[*a]).cmp(&kind_key(&kinds[*b])));
        Self(Arc::new(Tables { kinds, by_resource, by_kind }))
    }

    /// A registry with further kinds. An entry of the same group, version and plural is replaced
    /// in its place; others follow the present ones.
    #[must_use]
    pub fn with(&self, added: impl IntoIterator<Item = Kind>) -> Self {
        let mut kinds = self.0.kinds.clone();
        for kind in added {
            let same = |old: &Arc<Kind>| resource_key(old) == resource_key(&kind);
            match kinds.iter().position(same) {
                Some(index) => kinds[index] = Arc::new(kind),
                None => kinds.push(Arc::new(kind)),
            }
        }
        Self::from_shared(kinds)
    }

    /// A registry without the kinds that a test picks out.
    #[must_use]
    pub fn without(&self, gone: impl Fn(&Kind) -> bool) -> Self {
        Self::from_shared(self.0.kinds.iter().filter(|kind| !gone(kind)).cloned().collect())
    }

    /// A registry in which a CustomResourceDefinition's entries are exactly `kinds`.
    #[must_use]
    pub fn with_definition(&self, name: &str, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let stays = |old: &Kind| kinds.iter().any(|kind| resource_key(kind) == resource_key(old));
        // Those that stay are replaced where they are: discovery shows them in this order.
        self.without(|kind| kind.definition.as_deref() == Some(name) && !stays(kind)).with(kinds)
    }

    /// The entry of a resource.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let Tables { kinds, by_resource, .. } = &*self.0;
        let wanted = (group, version, plural);
        let found = by_resource.binary_search_by(|at| resource_key(&kinds[*at]).cmp(&wanted));
        found.ok().map(|at| &kinds[by_resource[at]])
    }

    /// The entry of a kind.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<Kind>> {
        let Tables { kinds, by_kind, .. } = &*self.0;
        let wanted = (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str());
        let at = by_kind.partition_point(|at| kind_key(&kinds[*at]) < wanted);
        by_kind.get(at).map(|at| &kinds[*at]).filter(|kind| kind_key(kind) == wanted)
    }

    /// All entries, in discovery order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.kinds.iter()
    }

    /// The entries of one version of a group, in discovery order; empty if it is not served.
    pub fn version(&self, group: &str, version: &str) -> Vec<&Arc<Kind>> {
        self.iter()
            .filter(|kind| kind.names.group == group && kind.names.version == version)
            .collect()
    }

    /// Groups and versions in discovery order: built-in groups as they come, then those of
    /// CustomResourceDefinitions by name; versions of the latter by age of API (`v2`, `v1`,
    /// `v1beta1`).
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut custom_from = 0;
        for kind in self.iter() {
            let at = groups.iter().position(|group| group.name == kind.names.group);
            let at = at.unwrap_or_else(|| {
                let name = kind.names.group.clone();
                groups.push(Group { name, versions: Vec::new() });
                groups.len() - 1
            });
            if kind.definition.is_none() {
                custom_from = groups.len();
            }
            let versions = &mut groups[at].versions;
            match versions.iter_mut().find(|version| version.name == kind.names.version) {
                Some(version) => version.kinds.push(kind.clone()),
                None => {
                    let name = kind.names.version.clone();
                    versions.push(Version { name, kinds: vec![kind.clone()] });
                }
            }
        }
        groups[custom_from..].sort_by(|a, b| a.name.cmp(&b.name));
        for group in &mut groups[custom_from..] {
            group.versions.sort_by_key(|version| std::cmp::Reverse(version_rank(&version.name)));
            for version in &mut group.versions {
                version.kinds.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
            }
        }
        groups
    }
}

/// How a version is ordered among a group's: greater is preferred. Stable before beta before
/// alpha before anything else, then by number.
pub fn version_rank(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let odd = (0, 0, 0, std::cmp::Reverse(version.to_string()));
    let Some(rest) = version.strip_prefix('v') else { return odd };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse::<u64>() else { return odd };
    let (level, minor) = match &rest[digits..] {
        "" => (3, ""),
        tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (None, Some(minor)) => (1, minor),
            (None, None) => return odd,
        },
    };
    let minor = if minor.is_empty() { Ok(0) } else { minor.parse::<u64>() };
    match minor {
        Ok(minor) => (level, major, minor, std::cmp::Reverse(String::new())),
        Err(_) => odd,
    }
}

/// The name of a built-in type in the schema table.
pub fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "io.k8s.api.core".to_string(),
        "apiextensions.k8s.io" => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_string()
        }
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_string(),
        named => format!("io.k8s.api.{}", named.split('.').next().unwrap_or(named)),
    };
    format!("{package}.{version}.{kind}")
}

/// The hash that legacy discovery publishes of the type under which objects are stored.
pub fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}
