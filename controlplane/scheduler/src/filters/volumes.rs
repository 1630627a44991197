//! Claims that have to exist and be bound, and nodes that their volumes can be reached from. PURE.

use k8s_openapi::api::core::v1::NodeSelector;
use objects::ObjectKey;

use super::{Filter, Reason, matches_node_selector};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// What a bound volume asks of the node.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    selector: NodeSelector,
}

/// What the pod's volumes ask of its node, or why it can go nowhere.
pub(super) fn demands(snapshot: &Snapshot, pod: &PodInfo) -> Result<Vec<Demand>, Reason> {
    let mut demands = Vec::new();
    for name in &pod.claims {
        let key = ObjectKey::new(&pod.key.namespace, name);
        let nowhere = |text: String| Reason::final_(Filter::Volumes, text);
        let Some(claim) = snapshot.claims.get(&key) else {
            return Err(nowhere(format!("persistentvolumeclaim {name:?} not found")));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(nowhere(format!("persistentvolumeclaim {name:?} is being deleted")));
        }
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let Some(volume) = volume.filter(|volume| !volume.is_empty()) else {
            let text = "pod has unbound immediate PersistentVolumeClaims".to_string();
            return Err(nowhere(text));
        };
        let volume = snapshot.volumes.get(volume).and_then(|volume| volume.spec.as_ref());
        let affinity = volume.and_then(|spec| spec.node_affinity.as_ref());
        if let Some(selector) = affinity.and_then(|affinity| affinity.required.clone()) {
            demands.push(Demand { selector });
        }
    }
    Ok(demands)
}

pub(super) fn filter(demands: &[Demand], node: &NodeInfo) -> Vec<Reason> {
    if demands.iter().all(|demand| matches_node_selector(&demand.selector, node)) {
        return Vec::new();
    }
    let text = "node(s) didn't match PersistentVolume's node affinity";
    vec![Reason::final_(Filter::Volumes, text)]
}
