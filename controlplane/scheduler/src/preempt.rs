//! Which pods have to go so that a more important one can come. PURE.
//!
//! Source: kubernetes pkg/scheduler/framework/preemption and plugins/defaultpreemption, v1.36.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use objects::selector::Selector;

use crate::filters::{self, Change, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// A PodDisruptionBudget, as far as preemption looks at it.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Its namespace.
    pub namespace: String,
    /// The pods it protects.
    pub selector: Selector,
    /// How many of them may go.
    pub allowed: i32,
}

/// Pods that have to go from a node.
#[derive(Debug, Clone)]
pub struct Eviction {
    /// The node.
    pub node: String,
    /// The pods.
    pub victims: Vec<Arc<PodInfo>>,
    /// Budgets that are broken by it.
    violations: usize,
}

impl PartialEq for Eviction {
    fn eq(&self, other: &Self) -> bool {
        let keys = |one: &Self| -> Vec<_> { one.victims.iter().map(|v| v.key.clone()).collect() };
        self.node == other.node && keys(self) == keys(other)
    }
}

impl Eviction {
    /// Name of the node.
    pub fn node_name(&self) -> &str {
        &self.node
    }
}

impl Eq for Eviction {}

/// The least harmful eviction that makes room for the pod, if there is any.
pub(crate) fn choose(
    snapshot: &Snapshot,
    prepared: &Prepared,
    pod: &PodInfo,
    candidates: &[&NodeInfo],
    budgets: &[Budget],
) -> Option<Eviction> {
    let evictions =
        candidates.iter().filter_map(|node| victims_on(snapshot, prepared, pod, node, budgets));
    evictions.min_by_key(harm)
}

/// What counts, in order: budgets broken, the most important victim, all of their importance,
/// their number, and how long the most important ones have been running.
fn harm(eviction: &Eviction) -> (usize, i32, i64, usize, Reverse<Option<Timestamp>>, String) {
    let priorities = || eviction.victims.iter().map(|victim| victim.priority);
    let highest = priorities().max().unwrap_or(i32::MIN);
    // Shifted so that many negative priorities do not look better than few.
    let sum = priorities().map(|priority| i64::from(priority) + i64::from(i32::MAX) + 1).sum();
    let important = eviction.victims.iter().filter(|victim| victim.priority == highest);
    let earliest_start = important.filter_map(|victim| victim.started()).min();
    let count = eviction.victims.len();
    (eviction.violations, highest, sum, count, Reverse(earliest_start), eviction.node.clone())
}

/// The fewest and least important pods that have to go from one node.
fn victims_on(
    snapshot: &Snapshot,
    prepared: &Prepared,
    pod: &PodInfo,
    node: &NodeInfo,
    budgets: &[Budget],
) -> Option<Eviction> {
    let mut emptier = node.clone();
    let mut prepared = prepared.clone();
    let mut lesser: Vec<Arc<PodInfo>> =
        node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return None;
    }
    for other in &lesser {
        emptier.remove_pod(&other.key);
        prepared.with(snapshot, pod, other, Change::Removed(node));
    }
    if !filters::reasons(&prepared, pod, &emptier).is_empty() {
        return None;
    }
    // Spare as many as possible: those whose budget would break first, then the most important,
    // then those that have run for longest.
    lesser.sort_by_key(|other| (Reverse(other.priority), other.started(), other.key.clone()));
    let breaking = breaks_budget(&lesser, budgets);
    let mut order: Vec<(Arc<PodInfo>, bool)> = lesser.into_iter().zip(breaking).collect();
    order.sort_by_key(|(_, breaks)| !breaks);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (other, breaks) in order {
        emptier.add_pod(Arc::clone(&other));
        prepared.with(snapshot, pod, &other, Change::Added(node));
        if !filters::reasons(&prepared, pod, &emptier).is_empty() {
            emptier.remove_pod(&other.key);
            prepared.with(snapshot, pod, &other, Change::Removed(node));
            violations += usize::from(breaks);
            victims.push(other);
        }
    }
    victims.sort_by_key(|victim| (Reverse(victim.priority), victim.key.clone()));
    Some(Eviction { node: node.name.clone(), victims, violations })
}

/// For each pod, whether a budget would be broken if it went after those before it.
fn breaks_budget(pods: &[Arc<PodInfo>], budgets: &[Budget]) -> Vec<bool> {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let one = |pod: &Arc<PodInfo>| {
        let mut breaks = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            let protects = budget.namespace == pod.key.namespace
                && !budget.selector.is_everything()
                && budget.selector.matches(&pod.labels());
            if protects {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    };
    pods.iter().map(one).collect()
}
