//! A pod has the zone and region of its node as labels, from the moment it has a node.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/podtopologylabels`, v1.36.

use objects::ObjectExt;
use serde_json::Value;

use super::Admission;
use crate::encode;

const COPIED: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Copies the labels to a pod that is created with a node, or bound to one.
pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Value, creating: bool) {
    let names = &admission.call.kind.names;
    let is_pod = names.group.is_empty() && names.plural == "pods";
    let placed = match admission.call.path.subresource.as_str() {
        "" => creating,
        "binding" => true,
        _ => false,
    };
    if !is_pod || !placed {
        return;
    }
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return;
    }
    let Some(record) = admission.server.store.get(&format!("/nodes//{node}")) else { return };
    copy(&encode::parse(&record), pod);
}

fn copy(node: &Value, pod: &mut Value) {
    for label in COPIED {
        if let Some(value) = node.at(&["metadata", "labels", label]) {
            pod.set_at(&["metadata", "labels", label], value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_zone_and_region_are_copied() {
        let node = json!({"metadata": {"labels": {
            "topology.kubernetes.io/zone": "z", "kubernetes.io/hostname": "n",
        }}});
        let mut pod = json!({"metadata": {"labels": {"a": "b"}}});
        copy(&node, &mut pod);
        let labels = json!({"a": "b", "topology.kubernetes.io/zone": "z"});
        assert_eq!(pod["metadata"]["labels"], labels);
    }
}
