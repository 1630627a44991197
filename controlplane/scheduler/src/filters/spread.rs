//! Topology spread constraints that must hold. PURE.
//!
//! Source: kubernetes pkg/scheduler/framework/plugins/podtopologyspread/filtering.go, v1.36.

use std::collections::BTreeMap;

use super::{Change, Filter, Reason, matches_required, tolerates_all};
use crate::pod::{PodInfo, Spread};
use crate::snapshot::{NodeInfo, Snapshot};

/// Matching pods per domain, for each required constraint of a pod.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    per_constraint: Vec<BTreeMap<String, i64>>,
}

impl Counts {
    pub(super) fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        let required: Vec<&Spread> = pod.spread.iter().filter(|one| one.required).collect();
        let mut per_constraint = vec![BTreeMap::new(); required.len()];
        if required.is_empty() {
            return Self { per_constraint };
        }
        for node in snapshot.nodes().filter(|node| has_all_keys(&required, node)) {
            for (constraint, counts) in required.iter().zip(&mut per_constraint) {
                if !counts_node(constraint, pod, node) {
                    continue;
                }
                let Some(domain) = node.label(&constraint.topology_key) else { continue };
                *counts.entry(domain.to_string()).or_insert(0) += matching(constraint, pod, node);
            }
        }
        Self { per_constraint }
    }

    pub(super) fn apply(&mut self, pod: &PodInfo, other: &PodInfo, change: Change<'_>) {
        let required = pod.spread.iter().filter(|one| one.required);
        for (constraint, counts) in required.zip(&mut self.per_constraint) {
            let node = change.node();
            let domain = node.label(&constraint.topology_key);
            if counts_pod(constraint, pod, other)
                && counts_node(constraint, pod, node)
                && let Some(count) = domain.and_then(|domain| counts.get_mut(domain))
            {
                *count += change.sign();
            }
        }
    }

    pub(super) fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
        let required = pod.spread.iter().filter(|one| one.required);
        for (constraint, counts) in required.zip(&self.per_constraint) {
            let Some(domain) = node.label(&constraint.topology_key) else {
                let text = "node(s) didn't match pod topology spread constraints \
                            (missing required label)";
                return vec![Reason::final_(Filter::PodTopologySpread, text)];
            };
            let domains = i64::try_from(counts.len()).unwrap_or(i64::MAX);
            let fewest = counts.values().min().copied().unwrap_or(0);
            // Domains that are missing count as empty.
            let fewest = if domains < constraint.min_domains { 0 } else { fewest };
            let own = i64::from(constraint.selector.matches(&pod.labels()));
            let here = counts.get(domain).copied().unwrap_or(0);
            if here + own - fewest > constraint.max_skew {
                let text = "node(s) didn't match pod topology spread constraints";
                return vec![Reason::curable(Filter::PodTopologySpread, text)];
            }
        }
        Vec::new()
    }
}

fn has_all_keys(constraints: &[&Spread], node: &NodeInfo) -> bool {
    constraints.iter().all(|one| node.label(&one.topology_key).is_some())
}

/// Whether a node's pods count, by the constraint's policies.
pub(crate) fn counts_node(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    let effects = ["NoSchedule", "NoExecute"];
    (!constraint.honor_affinity || matches_required(pod, node))
        && (!constraint.honor_taints || tolerates_all(&pod.tolerations, node.taints(), &effects))
}

/// Matching pods on a node; those on their way out no longer count.
pub(crate) fn matching(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let count = node.pods.values().filter(|other| counts_pod(constraint, pod, other)).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counts_pod(constraint: &Spread, pod: &PodInfo, other: &PodInfo) -> bool {
    other.key.namespace == pod.key.namespace
        && other.pod.metadata.deletion_timestamp.is_none()
        && constraint.selector.matches(&other.labels())
}
