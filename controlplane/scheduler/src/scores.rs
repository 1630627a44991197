//! How well a pod would sit on each of the nodes that can take it. PURE.
//!
//! Every score is 0 to 100 after being brought to one scale over the candidate nodes; the weights
//! are upstream's. Source: kubernetes pkg/scheduler/framework/plugins, v1.36.

use std::collections::BTreeMap;

use crate::filters::spread::{counts_node, matching};
use crate::filters::{matches_expressions, tolerates};
use crate::pod::{PodInfo, Spread};
use crate::snapshot::{NodeInfo, Snapshot};

const SCORE_MAX: i64 = 100;
/// An image counts fully from this size on, and not at all below [`IMAGE_BYTES_MIN`].
const IMAGE_BYTES_MAX: i64 = 1000 << 20;
const IMAGE_BYTES_MIN: i64 = 23 << 20;
/// Weight of a pod whose *required* affinity names the pod to place.
const HARD_AFFINITY_WEIGHT: i64 = 1;

/// Total score of each candidate, in the order given.
pub fn score(snapshot: &Snapshot, pod: &PodInfo, candidates: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0_i64; candidates.len()];
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    let each = |score: fn(&PodInfo, &NodeInfo) -> i64| -> Vec<i64> {
        candidates.iter().map(|node| score(pod, node)).collect()
    };
    add(1, each(least_allocated));
    add(1, each(balanced));
    add(3, scaled(each(untolerated_preferences), true));
    if !pod.node_preferred.is_empty() {
        add(2, scaled(each(node_preference), false));
    }
    add(2, spread_out(snapshot, pod, candidates));
    add(2, near_preferred(snapshot, pod, candidates));
    add(1, image_locality(pod, candidates));
    totals
}

/// Brings scores to 0..=100 in proportion to the highest; `reverse` makes low ones good.
fn scaled(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let one = |score: i64| {
        let share = if highest == 0 { 0 } else { score * SCORE_MAX / highest };
        if reverse { SCORE_MAX - share } else { share }
    };
    scores.into_iter().map(one).collect()
}

/// A share of one as a score.
#[allow(clippy::cast_possible_truncation, reason = "rounds down, within 0..=100 by the clamp")]
fn whole(share: f64) -> i64 {
    (share.clamp(0.0, 1.0) * SCORE_MAX as f64) as i64
}

/// CPU and memory: what is used with the pod, and what there is.
fn usage(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    [
        (node.score_cpu_millis + pod.score_cpu_millis, node.allocatable.get("cpu")),
        (node.score_memory_bytes + pod.score_memory_bytes, node.allocatable.get("memory")),
    ]
}

/// The emptier, the better.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let one = |(used, all): (i64, i64)| {
        if all <= 0 || used > all { 0 } else { whole((all - used) as f64 / all as f64) }
    };
    usage(pod, node).map(one).iter().sum::<i64>() / 2
}

/// The more alike the used shares of CPU and memory, the better.
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |used: i64, all: i64| {
        if all <= 0 { 1.0 } else { (used as f64 / all as f64).min(1.0) }
    };
    let [cpu, memory] = [
        share(node.requested.get("cpu") + pod.requests.get("cpu"), node.allocatable.get("cpu")),
        share(
            node.requested.get("memory") + pod.requests.get("memory"),
            node.allocatable.get("memory"),
        ),
    ];
    // The standard deviation of two values is half their difference.
    whole(1.0 - (cpu - memory).abs() / 2.0)
}

/// Number of `PreferNoSchedule` taints that the pod does not tolerate.
fn untolerated_preferences(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let taints = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let untolerated =
        taints.filter(|taint| !pod.tolerations.iter().any(|one| tolerates(one, taint)));
    i64::try_from(untolerated.count()).unwrap_or(i64::MAX)
}

fn node_preference(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let fits = pod.node_preferred.iter().filter(|term| matches_expressions(&term.preference, node));
    fits.map(|term| i64::from(term.weight)).sum()
}

/// Fewer matching pods in a node's domains are better. A pod without constraints of its own is
/// spread over nodes and zones with the pods of its controller.
fn spread_out(snapshot: &Snapshot, pod: &PodInfo, candidates: &[&NodeInfo]) -> Vec<i64> {
    let own: Vec<&Spread> = pod.spread.iter().filter(|one| !one.required).collect();
    if own.is_empty() && (!pod.spread.is_empty() || pod.controller.is_none()) {
        return vec![0; candidates.len()];
    }
    let mut raw = vec![0_f64; candidates.len()];
    let mut ignored = vec![false; candidates.len()];
    for constraint in &own {
        let counts = count_domains(snapshot, &constraint.topology_key, |node| {
            if counts_node(constraint, pod, node) { matching(constraint, pod, node) } else { 0 }
        });
        add_domain_counts(constraint, &counts, candidates, &mut raw, &mut ignored);
    }
    if own.is_empty() {
        for key in ["kubernetes.io/hostname", "topology.kubernetes.io/zone"] {
            let counts = count_domains(snapshot, key, |node| siblings(pod, node));
            let weight = weight_of(counts.len());
            for (node, raw) in candidates.iter().zip(&mut raw) {
                // A node without the label is a domain of its own.
                let here = node.label(key).and_then(|domain| counts.get(domain)).copied();
                *raw += here.unwrap_or_else(|| siblings(pod, node)) as f64 * weight;
            }
        }
    }
    inverted(&raw, &ignored)
}

fn siblings(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let same = |other: &&std::sync::Arc<PodInfo>| {
        other.controller == pod.controller && other.pod.metadata.deletion_timestamp.is_none()
    };
    i64::try_from(node.pods.values().filter(same).count()).unwrap_or(i64::MAX)
}

fn count_domains(
    snapshot: &Snapshot,
    key: &str,
    count: impl Fn(&NodeInfo) -> i64,
) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for node in snapshot.nodes() {
        if let Some(domain) = node.label(key) {
            *counts.entry(domain.to_string()).or_insert(0) += count(node);
        }
    }
    counts
}

/// Many domains make each pod in one weigh more, as upstream: ln(domains + 2).
fn weight_of(domains: usize) -> f64 {
    (domains as f64 + 2.0).ln()
}

fn add_domain_counts(
    constraint: &Spread,
    counts: &BTreeMap<String, i64>,
    candidates: &[&NodeInfo],
    raw: &mut [f64],
    ignored: &mut [bool],
) {
    let weight = weight_of(counts.len());
    for ((node, raw), ignored) in candidates.iter().zip(raw).zip(ignored) {
        match node.label(&constraint.topology_key) {
            None => *ignored = true,
            Some(domain) => {
                let count = counts.get(domain).copied().unwrap_or(0);
                *raw += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
    }
}

/// Few becomes 100, many becomes 0; ignored nodes get 0.
fn inverted(raw: &[f64], ignored: &[bool]) -> Vec<i64> {
    let counted = || raw.iter().zip(ignored).filter(|(_, ignored)| !**ignored).map(|(raw, _)| *raw);
    let most = counted().fold(0.0, f64::max);
    let fewest = counted().fold(f64::INFINITY, f64::min);
    let one = |(raw, ignored): (&f64, &bool)| match (*ignored, most > 0.0) {
        (true, _) => 0,
        (false, false) => SCORE_MAX,
        (false, true) => whole((most + fewest - raw) / most),
    };
    raw.iter().zip(ignored).map(one).collect()
}

/// Preferred pod affinity and anti-affinity, of the pod and of those it would live near.
fn near_preferred(snapshot: &Snapshot, pod: &PodInfo, candidates: &[&NodeInfo]) -> Vec<i64> {
    let mut weights: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut add = |key: &str, node: &NodeInfo, weight: i64| {
        if let Some(value) = node.label(key) {
            *weights.entry((key.to_string(), value.to_string())).or_insert(0) += weight;
        }
    };
    let namespaces = &snapshot.namespaces;
    for node in snapshot.nodes() {
        for other in node.pods.values() {
            for term in pod.preferred.iter().filter(|term| term.matches(other, namespaces)) {
                add(&term.topology_key, node, term.weight);
            }
            for term in other.preferred.iter().filter(|term| term.matches(pod, namespaces)) {
                add(&term.topology_key, node, term.weight);
            }
            for term in other.near.iter().filter(|term| term.matches(pod, namespaces)) {
                add(&term.topology_key, node, HARD_AFFINITY_WEIGHT);
            }
        }
    }
    if weights.is_empty() {
        return vec![0; candidates.len()];
    }
    let here = |node: &&NodeInfo| {
        let places = weights.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        places.map(|(_, weight)| *weight).sum::<i64>()
    };
    let raw: Vec<i64> = candidates.iter().map(here).collect();
    let (least, most) = raw
        .iter()
        .fold((i64::MAX, i64::MIN), |(least, most), raw| (least.min(*raw), most.max(*raw)));
    let one = |raw: i64| if most == least { 0 } else { SCORE_MAX * (raw - least) / (most - least) };
    raw.into_iter().map(one).collect()
}

/// Nodes that have the images are better; an image that few nodes have counts less, so that one
/// node does not draw everything to itself.
fn image_locality(pod: &PodInfo, candidates: &[&NodeInfo]) -> Vec<i64> {
    let total = i64::try_from(candidates.len()).unwrap_or(i64::MAX).max(1);
    let with = |image: &str| {
        let having = candidates.iter().filter(|node| node.images.contains_key(image)).count();
        i64::try_from(having).unwrap_or(i64::MAX)
    };
    let names: Vec<String> = pod.images.iter().map(|image| with_tag(image)).collect();
    let spreads: Vec<i64> = names.iter().map(|image| with(image)).collect();
    let count = i64::try_from(names.len()).unwrap_or(1).max(1);
    candidates
        .iter()
        .map(|node| {
            let sizes = names.iter().zip(&spreads).filter_map(|(image, spread)| {
                node.images.get(image).map(|size| size.saturating_mul(*spread) / total)
            });
            let sum =
                sizes.fold(0, i64::saturating_add).clamp(IMAGE_BYTES_MIN, IMAGE_BYTES_MAX * count);
            SCORE_MAX * (sum - IMAGE_BYTES_MIN) / (IMAGE_BYTES_MAX * count - IMAGE_BYTES_MIN)
        })
        .collect()
}

/// As node status names images: with a tag.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_string()
    } else {
        format!("{image}:latest")
    }
}
