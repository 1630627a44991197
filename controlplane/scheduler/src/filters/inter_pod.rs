//! Pod affinity and anti-affinity that must hold. PURE.
//!
//! Source: kubernetes pkg/scheduler/framework/plugins/interpodaffinity/filtering.go, v1.36.

use std::collections::BTreeMap;

use super::{Change, Filter, Reason};
use crate::pod::{PodInfo, Term};
use crate::snapshot::{NodeInfo, Snapshot};

/// Number of pods per topology key and value.
type ByPlace = BTreeMap<(String, String), i64>;

/// What is where, as far as it concerns one pod.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    /// Places where pods live that must not be near this one, by their own word.
    kept_out: ByPlace,
    /// Places where pods live that match all of this pod's affinity terms.
    near: ByPlace,
    /// Places where pods live that match one of this pod's anti-affinity terms.
    apart: ByPlace,
}

impl Counts {
    pub(super) fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        let mut counts =
            Self { kept_out: ByPlace::new(), near: ByPlace::new(), apart: ByPlace::new() };
        let has_terms = !pod.near.is_empty() || !pod.apart.is_empty();
        for node in snapshot.nodes() {
            // Without terms of its own only others' anti-affinity matters.
            let others = node.pods.values();
            for other in others.filter(|other| has_terms || !other.apart.is_empty()) {
                counts.apply(snapshot, pod, other, Change::Added(node));
            }
        }
        counts
    }

    pub(super) fn apply(
        &mut self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        other: &PodInfo,
        change: Change<'_>,
    ) {
        let node = change.node();
        for term in other.apart.iter().filter(|term| term.matches(pod, &snapshot.namespaces)) {
            add(&mut self.kept_out, term, node, change.sign());
        }
        let matches = |term: &&Term| term.matches(other, &snapshot.namespaces);
        if !pod.near.is_empty() && pod.near.iter().all(|term| matches(&term)) {
            pod.near.iter().for_each(|term| add(&mut self.near, term, node, change.sign()));
        }
        for term in pod.apart.iter().filter(matches) {
            add(&mut self.apart, term, node, change.sign());
        }
    }

    pub(super) fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
        if !self.has_company(pod, node) {
            let text = "node(s) didn't match pod affinity rules";
            return vec![Reason::final_(Filter::InterPodAffinity, text)];
        }
        if pod.apart.iter().any(|term| at(&self.apart, term, node) > 0) {
            let text = "node(s) didn't match pod anti-affinity rules";
            return vec![Reason::curable(Filter::InterPodAffinity, text)];
        }
        let keeps_out = |((key, value), count): (&(String, String), &i64)| {
            *count > 0 && node.label(key) == Some(value)
        };
        if self.kept_out.iter().any(keeps_out) {
            let text = "node(s) didn't satisfy existing pods anti-affinity rules";
            return vec![Reason::curable(Filter::InterPodAffinity, text)];
        }
        Vec::new()
    }

    /// Whether the pods that this one must be near are near the node. The first of a group that
    /// asks for its own kind may go anywhere the topology keys exist.
    fn has_company(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let has_keys = || pod.near.iter().all(|term| node.label(&term.topology_key).is_some());
        if pod.near.iter().all(|term| at(&self.near, term, node) > 0) {
            return true;
        }
        let is_first = self.near.values().all(|count| *count <= 0);
        let own_namespace = |term: &Term| term.namespaces.contains(&pod.key.namespace);
        let asks_for_itself = pod.near.iter().all(|term| {
            (own_namespace(term) || term.namespace_selector.is_some())
                && term.selector.matches(&pod.labels())
        });
        has_keys() && is_first && asks_for_itself
    }
}

fn add(counts: &mut ByPlace, term: &Term, node: &NodeInfo, sign: i64) {
    if let Some(value) = node.label(&term.topology_key) {
        let place = (term.topology_key.clone(), value.to_string());
        *counts.entry(place).or_insert(0) += sign;
    }
}

fn at(counts: &ByPlace, term: &Term, node: &NodeInfo) -> i64 {
    let Some(value) = node.label(&term.topology_key) else { return 0 };
    counts.get(&(term.topology_key.clone(), value.to_string())).copied().unwrap_or(0)
}
