//! What a node may write: itself, its lease, the status of its own pods, and little else.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/noderestriction`, v1.36. Different: the
//! audiences of tokens that a node asks for are not compared with the volumes of the pod.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use objects::{ApiError, GroupResource, ObjectExt};
use serde_json::{Map, Value};

use super::Admission;
use crate::auth::node;
use crate::call::Call;
use crate::encode;
use crate::server::Server;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels of Kubernetes' own that nodes set on themselves.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Prefixes of such labels.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Prefix of labels that are only for others to set.
const RESTRICTED_PREFIX: &str = "node-restriction.kubernetes.io";

/// A write by a node. `new` is `None` for a delete, `old` for a creation.
struct Write<'a> {
    node: &'a str,
    call: &'a Call,
    server: &'a Server,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
}

/// Refuses what a node may not write.
pub(super) fn check(
    admission: &Admission<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let (server, call) = (admission.server, admission.call);
    let Some(node) = node::name(&call.user) else { return Ok(()) };
    let write = Write { node, call, server, new, old };
    let names = &call.kind.names;
    let why = match (names.group.as_str(), names.plural.as_str()) {
        ("", "pods") => write.of_pod(),
        ("", "nodes") => write.of_node(),
        ("", "persistentvolumeclaims") => write.of_claim(),
        ("coordination.k8s.io", "leases") => write.of_lease(),
        ("storage.k8s.io", "csinodes") => write.of_csi_node(),
        ("resource.k8s.io", "resourceslices") => write.of_slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => write.of_request(),
        _ => None,
    };
    match why {
        Some(why) => Err(ApiError::forbidden(&call.resource(), write.name(), &why)),
        None => Ok(()),
    }
}

/// Refuses a node a token that is not bound to a pod of its own.
pub(crate) fn check_token(server: &Server, call: &Call, request: &Value) -> Result<(), ApiError> {
    let Some(node) = node::name(&call.user) else { return Ok(()) };
    let refuse = |why: &str| Err(ApiError::forbidden(&call.resource(), call.name(), why));
    let text = |field: &str| request.str_at(&["spec", "boundObjectRef", field]);
    let name = text("name");
    if text("apiVersion") != "v1" || text("kind") != "Pod" || name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let uid = text("uid");
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let key = format!("/pods/{}/{name}", call.namespace());
    let Some(record) = server.store.get(&key) else {
        return Err(ApiError::not_found(&GroupResource::new("", "pods"), name));
    };
    let pod = encode::parse(&record);
    if pod.uid() != uid {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The \
             object might have been deleted and then recreated"
        ));
    }
    if pod.str_at(&["spec", "nodeName"]) != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

impl Write<'_> {
    /// The name of the object that is written.
    fn name(&self) -> &str {
        match self.call.name() {
            "" => self.new.map(Value::name).unwrap_or_default(),
            name => name,
        }
    }

    fn runs_here(&self, pod: Option<&Value>) -> bool {
        pod.is_some_and(|pod| pod.str_at(&["spec", "nodeName"]) == self.node)
    }

    fn of_pod(&self) -> Option<String> {
        let node = self.node;
        match (self.call.path.subresource.as_str(), self.new, self.old) {
            ("", Some(pod), None) => self.of_new_pod(pod),
            ("", None, old) => (!self.runs_here(old)).then(|| {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            ("", ..) => Some(format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror \
                 pods"
            )),
            ("status", Some(new), old) => self.of_pod_status(new, old),
            ("eviction", ..) => None,
            (other, ..) => Some(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    fn of_new_pod(&self, pod: &Value) -> Option<String> {
        let node = self.node;
        if !pod.annotations().is_some_and(|all| all.contains_key(MIRROR)) {
            return Some(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if !self.runs_here(Some(pod)) {
            return Some(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let only = |what: &str| Some(format!("node {node:?} can only create pods with {what}"));
        let [owner] = pod.owner_references() else {
            return match pod.owner_references() {
                [] => only("an owner reference set to itself"),
                _ => only("a single owner reference set to itself"),
            };
        };
        let text = |field: &str| owner.str_at(&[field]);
        if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
            return only("an owner reference set to itself");
        }
        if owner.bool_at(&["controller"]) != Some(true) {
            return only("a controller owner reference set to itself");
        }
        if owner.bool_at(&["blockOwnerDeletion"]) == Some(true) {
            return Some(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let record = self.server.store.get(&format!("/nodes//{node}"));
        let uid = record.map(|record| encode::parse(&record).uid().to_owned()).unwrap_or_default();
        if uid != text("uid") {
            let claimed = text("uid");
            return Some(format!("node {node} UID mismatch: expected {claimed} got {uid}"));
        }
        let referred = referred(pod)?;
        Some(format!("node {node:?} can not create pods that reference {referred}"))
    }

    fn of_pod_status(&self, new: &Value, old: Option<&Value>) -> Option<String> {
        let node = self.node;
        if !self.runs_here(old) {
            return Some(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let changes = |path: &[&str]| new.at(path) != old.and_then(|old| old.at(path));
        if changes(&["metadata", "labels"]) {
            return Some(format!("node {node:?} cannot update labels through pod status"));
        }
        if changes(&["status", "resourceClaimStatuses"]) {
            return Some(format!("node {node:?} cannot update resource claim statues"));
        }
        changes(&["status", "extendedResourceClaimStatus"])
            .then(|| format!("node {node:?} cannot update extended resource claim status"))
    }

    fn of_node(&self) -> Option<String> {
        let (node, name) = (self.node, self.name());
        if name != node {
            return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let new = self.new?;
        let Some(old) = self.old else {
            let forbidden = forbidden_labels(new.labels(), None);
            return (!forbidden.is_empty()).then(|| {
                let labels = forbidden.join(", ");
                format!("node {node:?} is not allowed to set the following labels: {labels}")
            });
        };
        if new.list_at(&["spec", "taints"]) != old.list_at(&["spec", "taints"]) {
            return Some(format!("node {node:?} is not allowed to modify taints"));
        }
        if new.owner_references() != old.owner_references() {
            return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
        let forbidden = forbidden_labels(new.labels(), old.labels());
        (!forbidden.is_empty())
            .then(|| format!("is not allowed to modify labels: {}", forbidden.join(", ")))
    }

    fn of_claim(&self) -> Option<String> {
        if self.call.path.subresource != "status" {
            return Some("may only update PVC status".into());
        }
        let stripped = |claim: Option<&Value>| {
            let mut claim = claim.cloned().unwrap_or_default();
            for field in
                ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]
            {
                claim.remove_at(&["status", field]);
            }
            claim.remove_at(&["metadata", "resourceVersion"]);
            claim.remove_at(&["metadata", "managedFields"]);
            claim
        };
        (stripped(self.new) != stripped(self.old)).then(|| {
            format!(
                "node {:?} is not allowed to update fields other than status.quantity and \
                 status.conditions",
                self.node
            )
        })
    }

    fn of_lease(&self) -> Option<String> {
        if self.call.namespace() != LEASE_NAMESPACE {
            return Some(format!(
                "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
            ));
        }
        (self.name() != self.node).then(|| {
            "can only access node lease with the same name as the requesting node".to_owned()
        })
    }

    fn of_csi_node(&self) -> Option<String> {
        (self.name() != self.node)
            .then(|| "can only access CSINode with the same name as the requesting node".to_owned())
    }

    fn of_slice(&self) -> Option<String> {
        let (slice, verb) = match (self.new, self.old) {
            (Some(new), None) => (new, "create"),
            (None, Some(old)) => (old, "delete"),
            _ => return None,
        };
        (slice.str_at(&["spec", "nodeName"]) != self.node).then(|| {
            format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")
        })
    }

    fn of_request(&self) -> Option<String> {
        let (Some(new), None) = (self.new, self.old) else { return None };
        let of_kubelets = matches!(
            new.str_at(&["spec", "signerName"]),
            "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
        );
        if !of_kubelets {
            return None;
        }
        let wanted = format!("{}{}", node::NODE_PREFIX, self.node);
        match super::certificates::Subject::of(new) {
            Err(why) => Some(format!("unable to parse csr: {why}")),
            Ok(subject) if subject.common_name == wanted => None,
            Ok(_) => Some(format!("can only create a node CSR with CN={wanted}")),
        }
    }
}

/// The changed labels that are not a node's to change. Pure.
fn forbidden_labels(
    new: Option<&Map<String, Value>>,
    old: Option<&Map<String, Value>>,
) -> Vec<String> {
    let keys: BTreeSet<&String> = [new, old].into_iter().flatten().flat_map(Map::keys).collect();
    let value = |labels: Option<&Map<String, Value>>, key: &str| {
        labels.and_then(|labels| labels.get(key)).cloned()
    };
    let changed = keys.into_iter().filter(|key| value(new, key) != value(old, key));
    changed.filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let prefix = label.split_once('/').map(|(prefix, _)| prefix).unwrap_or_default();
    let below = |domain: &str| {
        prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    let own = OWN_LABELS.contains(&label) || OWN_PREFIXES.iter().any(|prefix| below(prefix));
    below(RESTRICTED_PREFIX) || ((below("kubernetes.io") || below("k8s.io")) && !own)
}

/// The API objects that a pod refers to, if any. Pure.
fn referred(pod: &Value) -> Option<&'static str> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = || lists.iter().flat_map(|list| pod.list_at(&["spec", list]));
    let names_from = |kind: &str, key: &str| {
        containers().any(|container| {
            let whole = container.list_at(&["envFrom"]).iter().any(|one| one.at(&[kind]).is_some());
            let mut variables = container.list_at(&["env"]).iter();
            whole || variables.any(|one| one.at(&["valueFrom", key]).is_some())
        })
    };
    if names_from("secretRef", "secretKeyRef")
        || !pod.list_at(&["spec", "imagePullSecrets"]).is_empty()
    {
        return Some("secrets");
    }
    if names_from("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if !pod.list_at(&["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    const VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let among = |holder: &Value, known: &[(&str, &'static str)]| {
        known.iter().find(|(kind, _)| holder.at(&[kind]).is_some()).map(|(_, text)| *text)
    };
    pod.list_at(&["spec", "volumes"]).iter().find_map(|volume| {
        among(volume, &VOLUMES).or_else(|| {
            let sources = volume.list_at(&["projected", "sources"]);
            sources.iter().find_map(|source| among(source, &SOURCES))
        })
    })
}
