//! Host ports. PURE.

use super::{Filter, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub(super) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let taken = pod.ports.iter().any(|port| node.ports().any(|other| port.conflicts(other)));
    if !taken {
        return Vec::new();
    }
    let text = "node(s) didn't have free ports for the requested pod ports";
    vec![Reason::curable(Filter::NodePorts, text)]
}
