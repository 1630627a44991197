//! Where one pod goes. PURE and deterministic: the same snapshot, pod and seed give the same
//! decision.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::filters::{self, Change, Filter, Prepared, Reason};
use crate::pod::PodInfo;
use crate::preempt::{self, Budget, Eviction};
use crate::scores;
use crate::snapshot::{NodeInfo, Snapshot};

/// What is to become of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Bind it to this node.
    Bind {
        /// Name of the node.
        node: String,
        /// Nodes that could have taken it.
        feasible: usize,
    },
    /// No node can take it now.
    Unschedulable(Diagnosis),
}

/// Why no node can take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Nodes there are.
    pub nodes: usize,
    /// Reasons, with the number of nodes each holds for.
    pub reasons: BTreeMap<Reason, usize>,
    /// A reason that holds for the pod as a whole.
    pub nowhere: Option<String>,
    /// Pods that have to go so that this one can come.
    pub eviction: Option<Eviction>,
    /// What preemption came to, in words.
    pub preemption: String,
}

impl Diagnosis {
    /// The filters that objected: only events that concern one of them make another try useful.
    pub fn filters(&self) -> Vec<Filter> {
        let mut filters: Vec<Filter> = self.reasons.keys().map(|reason| reason.filter).collect();
        if self.nowhere.is_some() {
            filters.push(Filter::Volumes);
        }
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// The message of the `FailedScheduling` event and of the `PodScheduled` condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_string();
        }
        let mut message = format!("0/{} nodes are available", self.nodes);
        if let Some(reason) = &self.nowhere {
            message.push_str(&format!(": {reason}."));
        } else if !self.reasons.is_empty() {
            message.push_str(&format!(": {}.", counted(&self.reasons)));
        }
        if !self.preemption.is_empty() {
            message.push_str(&format!(" {}", self.preemption));
        }
        message
    }
}

/// `1 Insufficient cpu, 2 node(s) had untolerated taint(s)`, sorted as text.
fn counted(reasons: &BTreeMap<Reason, usize>) -> String {
    let mut by_text: BTreeMap<&str, usize> = BTreeMap::new();
    for (reason, count) in reasons {
        *by_text.entry(&reason.text).or_insert(0) += count;
    }
    let mut texts: Vec<String> = by_text.iter().map(|(text, n)| format!("{n} {text}")).collect();
    texts.sort_unstable();
    texts.join(", ")
}

/// Decides where a pod goes. `seed` breaks ties between equally good nodes.
pub fn schedule(snapshot: &Snapshot, pod: &PodInfo, budgets: &[Budget], seed: u64) -> Decision {
    let prepared = Prepared::new(snapshot, pod);
    let nodes: Vec<&NodeInfo> = snapshot.nodes().collect();
    if let Some(reason) = prepared.nowhere() {
        return Decision::Unschedulable(Diagnosis {
            nodes: nodes.len(),
            reasons: BTreeMap::new(),
            nowhere: Some(reason.text.clone()),
            eviction: None,
            preemption: unhelpful(nodes.len()),
        });
    }
    let mut feasible = Vec::new();
    let mut refused = Vec::new();
    for node in &nodes {
        let reasons = reasons_with_nominated(snapshot, &prepared, pod, node);
        if reasons.is_empty() {
            feasible.push(*node);
        } else {
            refused.push((*node, reasons));
        }
    }
    if feasible.is_empty() {
        return Decision::Unschedulable(diagnose(snapshot, &prepared, pod, &refused, budgets));
    }
    let scores = match feasible.len() {
        1 => vec![0],
        _ => scores::score(snapshot, pod, &feasible),
    };
    let best = feasible.iter().zip(scores).max_by_key(|(node, score)| {
        // The name last: it makes the choice total even if two hashes are equal.
        (*score, shuffle(seed, &node.name), node.name.as_str())
    });
    let (node, _) = best.expect("there is a feasible node");
    Decision::Bind { node: node.name.clone(), feasible: feasible.len() }
}

fn shuffle(seed: u64, name: &str) -> u64 {
    // DefaultHasher::new() has fixed keys: the same on every run.
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// Reasons against a node, with pods of the same or a higher priority that are nominated to it
/// counted as if they were there, and also without them: they may still go elsewhere.
fn reasons_with_nominated(
    snapshot: &Snapshot,
    prepared: &Prepared,
    pod: &PodInfo,
    node: &NodeInfo,
) -> Vec<Reason> {
    let before_it =
        |other: &&std::sync::Arc<PodInfo>| other.priority >= pod.priority && other.key != pod.key;
    let nominated: Vec<_> = node.nominated.values().filter(before_it).collect();
    if !nominated.is_empty() {
        let mut crowded = node.clone();
        let mut prepared = prepared.clone();
        for other in nominated {
            prepared.with(snapshot, pod, other, Change::Added(node));
            crowded.add_pod(std::sync::Arc::clone(other));
        }
        let reasons = filters::reasons(&prepared, pod, &crowded);
        if !reasons.is_empty() {
            return reasons;
        }
    }
    filters::reasons(prepared, pod, node)
}

fn diagnose(
    snapshot: &Snapshot,
    prepared: &Prepared,
    pod: &PodInfo,
    refused: &[(&NodeInfo, Vec<Reason>)],
    budgets: &[Budget],
) -> Diagnosis {
    let mut reasons = BTreeMap::new();
    for (_, of_node) in refused {
        for reason in of_node {
            *reasons.entry(reason.clone()).or_insert(0) += 1;
        }
    }
    let nodes = refused.len();
    let mut diagnosis =
        Diagnosis { nodes, reasons, nowhere: None, eviction: None, preemption: String::new() };
    if nodes == 0 {
        return diagnosis;
    }
    if !pod.may_preempt {
        diagnosis.preemption = "preemption: not eligible due to preemptionPolicy=Never.".into();
        return diagnosis;
    }
    let curable: Vec<&NodeInfo> = refused
        .iter()
        .filter(|(_, reasons)| reasons.iter().all(|reason| reason.curable))
        .map(|(node, _)| *node)
        .collect();
    diagnosis.eviction = preempt::choose(snapshot, prepared, pod, &curable, budgets);
    if diagnosis.eviction.is_none() {
        let hopeless = nodes - curable.len();
        let parts = [
            (curable.len(), "No preemption victims found for incoming pod"),
            (hopeless, "Preemption is not helpful for scheduling"),
        ];
        let mut texts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, text)| format!("{count} {text}"))
            .collect();
        texts.sort_unstable();
        diagnosis.preemption =
            format!("preemption: 0/{nodes} nodes are available: {}.", texts.join(", "));
    }
    diagnosis
}

fn unhelpful(nodes: usize) -> String {
    format!(
        "preemption: 0/{nodes} nodes are available: \
         {nodes} Preemption is not helpful for scheduling."
    )
}

#[cfg(test)]
mod tests;
