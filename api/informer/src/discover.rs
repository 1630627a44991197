//! Which resources the server serves, for clients that work on all of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResource, APIResourceList};
use kube::Client;
use tracing::warn;

use crate::ResourcePath;

/// A resource as discovery describes it, in its group's preferred version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedResource {
    /// Where it is.
    pub path: ResourcePath,
    /// Kind of its objects.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs it answers to.
    pub verbs: Vec<String>,
}

impl ServedResource {
    /// Whether it answers to all of `verbs`.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }
}

/// All resources (no subresources), each in its group's preferred version, and beyond that each
/// resource that only another version of the group has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// What is served.
    pub resources: Vec<ServedResource>,
    /// Group versions that did not answer (an aggregated API server that is down): whoever must
    /// see everything has to try again.
    pub failed: Vec<String>,
}

/// Asks the server what it serves.
///
/// # Errors
/// If the server cannot be reached; a single group that does not answer is in
/// [`Discovered::failed`] instead.
pub async fn discover(client: &Client) -> Result<Discovered, kube::Error> {
    let mut discovered = Discovered::default();
    let core = client.list_core_api_resources("v1").await?;
    add(&mut discovered, "", "v1", core);
    let APIGroupList { groups } = client.list_api_groups().await?;
    for group in groups {
        let preferred = group.preferred_version.iter();
        let others = group.versions.iter();
        let mut seen: Vec<&str> = Vec::new();
        for version in preferred.chain(others) {
            if seen.contains(&version.version.as_str()) {
                continue;
            }
            seen.push(&version.version);
            match client.list_api_group_resources(&version.group_version).await {
                Ok(list) => add(&mut discovered, &group.name, &version.version, list),
                Err(error) => {
                    warn!(group_version = version.group_version, %error, "no discovery");
                    discovered.failed.push(version.group_version.clone());
                }
            }
        }
    }
    Ok(discovered)
}

fn add(discovered: &mut Discovered, group: &str, version: &str, list: APIResourceList) {
    for resource in list.resources {
        let APIResource { name, kind, namespaced, verbs, .. } = resource;
        let is_subresource = name.contains('/');
        let is_known = discovered
            .resources
            .iter()
            .any(|known| known.path.group == group && known.path.plural == name);
        if is_subresource || is_known {
            continue;
        }
        let path = ResourcePath::new(group, version, &name);
        discovered.resources.push(ServedResource { path, kind, namespaced, verbs });
    }
}
