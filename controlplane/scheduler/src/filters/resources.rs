//! CPU, memory, number of pods, and every other countable resource. PURE.

use super::{Filter, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub(super) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let count = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if count + 1 > node.allocatable.get("pods") {
        reasons.push(Reason::curable(Filter::NodeResources, "Too many pods"));
    }
    for (name, asked) in pod.requests.iter().filter(|(_, asked)| *asked > 0) {
        let allocatable = node.allocatable.get(name);
        if asked > allocatable - node.requested.get(name) {
            reasons.push(Reason {
                filter: Filter::NodeResources,
                text: format!("Insufficient {name}"),
                // What the whole node does not have, no preemption can give.
                curable: asked <= allocatable,
            });
        }
    }
    reasons
}
