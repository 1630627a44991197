//! Node name, cordons, node selector and node affinity. PURE.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
};

use super::taints::tolerates;
use super::{Filter, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

type Labels = BTreeMap<String, String>;

pub(super) fn node_name(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    if pod.node_name().is_empty() || pod.node_name() == node.name {
        return Vec::new();
    }
    let text = "node(s) didn't match the requested node name";
    vec![Reason::final_(Filter::NodeName, text)]
}

pub(super) fn unschedulable(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let cordon = k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Default::default()
    };
    let tolerated = |all: &[Toleration]| all.iter().any(|one| tolerates(one, &cordon));
    if !node.is_unschedulable() || tolerated(&pod.tolerations) {
        return Vec::new();
    }
    vec![Reason::final_(Filter::NodeUnschedulable, "node(s) were unschedulable")]
}

pub(super) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    if matches_required(pod, node) {
        return Vec::new();
    }
    let text = "node(s) didn't match Pod's node affinity/selector";
    vec![Reason::final_(Filter::NodeAffinity, text)]
}

/// Whether the node has what the pod's node selector and required node affinity ask for.
pub fn matches_required(pod: &PodInfo, node: &NodeInfo) -> bool {
    let has = |(key, value): (&String, &String)| node.label(key) == Some(value);
    let required = pod.node_required.as_ref();
    pod.node_selector.iter().all(has)
        && required.is_none_or(|selector| matches_node_selector(selector, node))
}

/// Whether one of the selector's terms fits the node.
pub fn matches_node_selector(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

/// Whether all of a term's expressions hold. A term without any fits nothing.
pub fn matches_expressions(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    matches_term(term, node)
}

fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or(&[]);
    let fields = term.match_fields.as_deref().unwrap_or(&[]);
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let empty = Labels::new();
    let labels = node.labels().unwrap_or(&empty);
    // The only field there is.
    let by_name: Labels = [("metadata.name".to_string(), node.name.clone())].into();
    expressions.iter().all(|one| holds(one, labels))
        && fields.iter().all(|one| holds(one, &by_name))
}

fn holds(requirement: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let number = |text: &String| text.parse::<i64>().ok();
    let compare = |order: std::cmp::Ordering| {
        let wanted = values.first().and_then(number);
        value.and_then(number).zip(wanted).is_some_and(|(a, b)| a.cmp(&b) == order)
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(std::cmp::Ordering::Greater),
        "Lt" => compare(std::cmp::Ordering::Less),
        _ => false,
    }
}
