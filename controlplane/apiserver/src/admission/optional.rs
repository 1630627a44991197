//! Rules that clusters choose: off unless they are named.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/{alwayspullimages,
//! extendedresourcetoleration,gc,network/denyserviceexternalips}`, v1.36.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;

use objects::{ApiError, GroupVersion, GroupVersionKind, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use crate::auth::{self, Attributes};

/// What a cluster chooses about admission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// The optional rules that are on.
    pub rules: BTreeSet<Rule>,
}

/// A rule that is off by default; named as upstream's plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Images are pulled for every container, so that whoever runs them may pull them.
    AlwaysPullImages,
    /// No Service gets external IPs that it does not have.
    DenyServiceExternalIPs,
    /// Pods tolerate the taints that are named like the extended resources they ask for.
    ExtendedResourceToleration,
    /// Owner references are set only by those who may delete the object, and block the owner's
    /// deletion only by those who may set its finalizers.
    OwnerReferencesPermissionEnforcement,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "AlwaysPullImages" => Ok(Self::AlwaysPullImages),
            "DenyServiceExternalIPs" => Ok(Self::DenyServiceExternalIPs),
            "ExtendedResourceToleration" => Ok(Self::ExtendedResourceToleration),
            "OwnerReferencesPermissionEnforcement" => {
                Ok(Self::OwnerReferencesPermissionEnforcement)
            }
            other => Err(format!("no optional admission rule is named {other:?}")),
        }
    }
}

fn is_on(admission: &Admission<'_>, rule: Rule) -> bool {
    admission.server.config.admission.rules.contains(&rule)
}

/// Changes a pod as the chosen rules demand.
pub(super) fn mutate(admission: &Admission<'_>, new: &mut Value, old: Option<&Value>) {
    if !admission.is_core("pods") {
        return;
    }
    if is_on(admission, Rule::AlwaysPullImages) && old.is_none_or(|old| has_new_images(new, old)) {
        pull_always(new);
    }
    if is_on(admission, Rule::ExtendedResourceToleration) {
        tolerate_resources(new);
    }
}

/// Refuses what the chosen rules forbid.
pub(super) fn check(
    admission: &Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let why = if is_on(admission, Rule::DenyServiceExternalIPs)
        && admission.is_core("services")
        && adds_external_ips(new, old)
    {
        Some("Use of external IPs is denied by admission control".to_owned())
    } else if is_on(admission, Rule::OwnerReferencesPermissionEnforcement) {
        owners(admission, new, old)
    } else {
        None
    };
    match why {
        Some(why) => Err(ApiError::forbidden(&admission.call.resource(), new.name(), &why)),
        None => Ok(()),
    }
}

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn images(pod: &Value) -> BTreeSet<&str> {
    let containers = CONTAINERS.iter().flat_map(|list| pod.list_at(&["spec", list]));
    containers.map(|container| container.str_at(&["image"])).collect()
}

fn has_new_images(new: &Value, old: &Value) -> bool {
    !images(new).is_subset(&images(old))
}

fn pull_always(pod: &mut Value) {
    for list in CONTAINERS {
        let containers = pod.at_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            container["imagePullPolicy"] = json!("Always");
        }
    }
    let volumes = pod.at_mut(&["spec", "volumes"]).and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten() {
        if volume.at(&["image"]).is_some() {
            volume.set_at(&["image", "pullPolicy"], json!("Always"));
        }
    }
}

fn is_extended(resource: &str) -> bool {
    let native = |domain: &str| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let domain = resource.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| !native(domain)) && !resource.starts_with("requests.")
}

fn tolerate_resources(pod: &mut Value) {
    let mut asked = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for container in pod.list_at(&["spec", list]) {
            let requests = container.map_at(&["resources", "requests"]);
            asked.extend(requests.into_iter().flatten().map(|(name, _)| name.clone()));
        }
    }
    let mut tolerations = pod.list_at(&["spec", "tolerations"]).to_vec();
    let before = tolerations.len();
    for resource in asked.iter().filter(|name| is_extended(name)) {
        let one = json!({"key": resource, "operator": "Exists", "effect": "NoSchedule"});
        if !tolerations.contains(&one) {
            tolerations.push(one);
        }
    }
    if tolerations.len() > before {
        pod.set_at(&["spec", "tolerations"], Value::Array(tolerations));
    }
}

fn adds_external_ips(new: &Value, old: Option<&Value>) -> bool {
    let known = old.map_or(&[][..], |old| old.list_at(&["spec", "externalIPs"]));
    new.list_at(&["spec", "externalIPs"]).iter().any(|address| !known.contains(address))
}

/// Why a user may not set the owner references that are new.
fn owners(admission: &Admission<'_>, new: &Value, old: Option<&Value>) -> Option<String> {
    let call = admission.call;
    let before = old.map_or(&[][..], |old| old.owner_references());
    // Pods' status is written by nodes, which own nothing.
    let exempt = call.kind.names.plural == "pods" && call.path.subresource == "status";
    if exempt || new.owner_references() == before {
        return None;
    }
    let may = |attributes: Attributes<'_>| auth::decide(admission.server, &call.user, &attributes);
    if old.is_some() {
        let decision = may(Attributes {
            verb: "delete",
            group: &call.kind.names.group,
            version: &call.kind.names.version,
            namespace: call.namespace(),
            resource: &call.kind.names.plural,
            subresource: &call.path.subresource,
            name: new.name(),
            path: "",
        });
        if !decision.allowed {
            let reason = decision.reason;
            return Some(format!(
                "cannot set an ownerRef on a resource you can't delete: {reason}, <nil>"
            ));
        }
    }
    let mut blocking = newly_blocking(new.owner_references(), before).peekable();
    blocking.peek()?;
    let everything = may(Attributes {
        verb: "update",
        group: "*",
        version: "*",
        resource: "*",
        subresource: "finalizers",
        name: "*",
        ..Attributes::default()
    });
    if everything.allowed {
        return None;
    }
    blocking.find_map(|owner| {
        let (version, kind) = (owner.str_at(&["apiVersion"]), owner.str_at(&["kind"]));
        let parsed = GroupVersion::parse(version)?;
        let gvk = GroupVersionKind::new(&parsed.group, &parsed.version, kind);
        let Some(known) = call.registry.kind(&gvk) else {
            return Some(format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for \
                 APIVersion {version} Kind {kind}: no matches for kind {kind:?} in version \
                 {version:?}"
            ));
        };
        let decision = may(Attributes {
            verb: "update",
            group: &known.names.group,
            version: &known.names.version,
            namespace: if known.namespaced() { call.namespace() } else { "" },
            resource: &known.names.plural,
            subresource: "finalizers",
            name: owner.str_at(&["name"]),
            path: "",
        });
        let reason = decision.reason;
        (!decision.allowed).then(|| {
            format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't \
                 set finalizers on: {reason}, <nil>"
            )
        })
    })
}

/// The references that block their owner's deletion and did not before.
fn newly_blocking<'a>(
    new: &'a [Value],
    old: &'a [Value],
) -> impl Iterator<Item = &'a Value> + use<'a> {
    let blocks = |owner: &Value| owner.bool_at(&["blockOwnerDeletion"]) == Some(true);
    new.iter().filter(move |owner| {
        let same = |known: &&Value| known.str_at(&["uid"]) == owner.str_at(&["uid"]);
        blocks(owner) && !old.iter().filter(same).any(blocks)
    })
}
