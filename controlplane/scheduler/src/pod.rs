//! A pod as the scheduler sees it: what it needs, parsed once. PURE.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use informer::Object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelector, Pod, PodAffinityTerm, PreferredSchedulingTerm, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use objects::selector::{Operator, Requirement, Selector};
use objects::{ObjectKey, facts};

use crate::amounts::Amounts;

/// What a container without a CPU request counts as in scores, in thousandths.
const CPU_ASSUMED_MILLIS: i64 = 100;
/// What a container without a memory request counts as in scores.
const MEMORY_ASSUMED_BYTES: i64 = 200 << 20;

/// A port of the host that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Host address; `0.0.0.0` for all.
    pub address: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port number.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == any || other.address == any)
    }
}

/// One term of pod affinity or anti-affinity, parsed.
#[derive(Debug, Clone)]
pub struct Term {
    /// Node label whose equal values make nodes "the same place".
    pub topology_key: String,
    /// Which pods.
    pub selector: Selector,
    /// In these namespaces.
    pub namespaces: BTreeSet<String>,
    /// And in namespaces with such labels; `None` for no further ones.
    pub namespace_selector: Option<Selector>,
    /// Preference; 0 for a required term.
    pub weight: i64,
}

impl Term {
    /// Whether a pod is one of those the term is about. `labels_of` gives the labels of a
    /// namespace.
    pub fn matches(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        let namespace = &pod.key.namespace;
        let in_namespace = self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything() || selector.matches(&namespaces.get(namespace))
            });
        in_namespace && self.selector.matches(&pod.labels())
    }
}

/// Labels of each namespace.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// One topology spread constraint, parsed.
#[derive(Debug, Clone)]
pub struct Spread {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Largest difference between domains.
    pub max_skew: i64,
    /// Fewest domains, as if missing ones were empty.
    pub min_domains: i64,
    /// Which pods (of the pod's namespace) are counted.
    pub selector: Selector,
    /// Whether it must hold (`DoNotSchedule`) or is only preferred.
    pub required: bool,
    /// Leave out nodes that the pod's node affinity excludes (the default).
    pub honor_affinity: bool,
    /// Leave out nodes with taints the pod does not tolerate.
    pub honor_taints: bool,
}

/// A pod, parsed.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The object.
    pub pod: Arc<Pod>,
    /// Its key.
    pub key: ObjectKey,
    /// Requests.
    pub requests: Amounts,
    /// CPU (thousandths) for scores: pods that ask for nothing count as something.
    pub score_cpu_millis: i64,
    /// Memory for scores.
    pub score_memory_bytes: i64,
    /// Priority.
    pub priority: i32,
    /// Whether it may make others go.
    pub may_preempt: bool,
    /// Host ports it takes.
    pub ports: Vec<HostPort>,
    /// Taints it puts up with.
    pub tolerations: Vec<Toleration>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What its node must be like.
    pub node_required: Option<NodeSelector>,
    /// What its node should be like.
    pub node_preferred: Vec<PreferredSchedulingTerm>,
    /// Pods that must be near.
    pub near: Vec<Term>,
    /// Pods that must not be near.
    pub apart: Vec<Term>,
    /// Pods that should be near (positive weight) or not (negative weight).
    pub preferred: Vec<Term>,
    /// Spread constraints.
    pub spread: Vec<Spread>,
    /// Images of its containers.
    pub images: Vec<String>,
    /// Claims of its volumes.
    pub claims: Vec<String>,
    /// Uid of its controller.
    pub controller: Option<String>,
}

impl PodInfo {
    /// Parses a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let value = serde_json::to_value(&*pod).expect("API types serialise to JSON");
        let requests = Amounts::of(&facts::requests(&value));
        let spec = pod.spec.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let affinity = spec.affinity.unwrap_or_default();
        let (near, apart, preferred) = terms(&affinity, &namespace, &pod);
        let node_affinity = affinity.node_affinity.unwrap_or_default();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        Self {
            key: pod.key(),
            score_cpu_millis: assumed(&spec.containers, "cpu", &requests, CPU_ASSUMED_MILLIS),
            score_memory_bytes: assumed(
                &spec.containers,
                "memory",
                &requests,
                MEMORY_ASSUMED_BYTES,
            ),
            requests,
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            ports: containers.clone().flat_map(host_ports).collect(),
            images: containers.filter_map(|container| container.image.clone()).collect(),
            tolerations: spec.tolerations.unwrap_or_default(),
            node_selector: spec.node_selector.unwrap_or_default(),
            node_required: node_affinity.required_during_scheduling_ignored_during_execution,
            node_preferred: node_affinity
                .preferred_during_scheduling_ignored_during_execution
                .unwrap_or_default(),
            near,
            apart,
            preferred,
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|constraint| spread(constraint, &pod))
                .collect(),
            claims: spec
                .volumes
                .iter()
                .flatten()
                .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                .map(|claim| claim.claim_name.clone())
                .collect(),
            controller: pod.controller().map(|owner| owner.uid.clone()),
            pod,
        }
    }

    /// Labels, for matching.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.pod.metadata.labels.as_ref()
    }

    /// Uid.
    pub fn uid(&self) -> &str {
        self.pod.uid()
    }

    /// The node it is bound to, `""` for none.
    pub fn node_name(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
    }

    /// Whether its containers have ended for good.
    pub fn is_finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// When it began to run (or was created).
    pub fn started(&self) -> Option<Timestamp> {
        let started = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        started.or(self.pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
    }
}

/// The pod's request, raised by what containers without one count as.
fn assumed(containers: &[Container], name: &str, requests: &Amounts, default: i64) -> i64 {
    let without = containers.iter().filter(|container| {
        let asked = container.resources.as_ref().and_then(|all| all.requests.as_ref());
        asked.is_none_or(|asked| !asked.contains_key(name))
    });
    let count = i64::try_from(without.count()).unwrap_or(i64::MAX);
    requests.get(name).saturating_add(default.saturating_mul(count))
}

fn host_ports(container: &Container) -> impl Iterator<Item = HostPort> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|address| !address.is_empty());
        Some(HostPort {
            address: address.unwrap_or_else(|| "0.0.0.0".into()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: number,
        })
    })
}

/// Required affinity, required anti-affinity, and preferences of both.
fn terms(affinity: &Affinity, namespace: &str, pod: &Pod) -> (Vec<Term>, Vec<Term>, Vec<Term>) {
    let near = affinity.pod_affinity.as_ref();
    let apart = affinity.pod_anti_affinity.as_ref();
    let parse = |term: &PodAffinityTerm, weight: i64| self::term(term, weight, namespace, pod);
    let required = |terms: Option<&Vec<PodAffinityTerm>>| {
        terms.into_iter().flatten().map(|term| parse(term, 0)).collect::<Vec<_>>()
    };
    let near_required =
        required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()));
    let apart_required = required(
        apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
    );
    let liked = near
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .flatten()
        .map(|one| parse(&one.pod_affinity_term, i64::from(one.weight)));
    let disliked = apart
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .flatten()
        .map(|one| parse(&one.pod_affinity_term, -i64::from(one.weight)));
    (near_required, apart_required, liked.chain(disliked).collect())
}

fn term(term: &PodAffinityTerm, weight: i64, namespace: &str, pod: &Pod) -> Term {
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(namespace.to_string());
    }
    let mut selector = parse_selector(term.label_selector.as_ref());
    for key in term.match_label_keys.iter().flatten() {
        selector = with_label_key(selector, key, Operator::In, pod);
    }
    for key in term.mismatch_label_keys.iter().flatten() {
        selector = with_label_key(selector, key, Operator::NotIn, pod);
    }
    Term {
        topology_key: term.topology_key.clone(),
        selector,
        namespaces,
        namespace_selector: term.namespace_selector.as_ref().map(|s| parse_selector(Some(s))),
        weight,
    }
}

fn spread(constraint: &TopologySpreadConstraint, pod: &Pod) -> Spread {
    let mut selector = parse_selector(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten() {
        selector = with_label_key(selector, key, Operator::In, pod);
    }
    Spread {
        topology_key: constraint.topology_key.clone(),
        max_skew: i64::from(constraint.max_skew.max(1)),
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        selector,
        required: constraint.when_unsatisfiable == "DoNotSchedule",
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// Narrows a selector to the pod's own value of a label, if it has that label.
fn with_label_key(selector: Selector, key: &str, operator: Operator, pod: &Pod) -> Selector {
    let value = pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let Some(value) = value.filter(|_| !selector.is_nothing()) else { return selector };
    let mut requirements = selector.requirements().to_vec();
    requirements.push(Requirement::new(key, operator, &[value]));
    Selector::all(requirements)
}

/// An absent selector matches nothing; one that does not parse neither (validation keeps it out).
fn parse_selector(selector: Option<&LabelSelector>) -> Selector {
    let value = selector.map(|s| serde_json::to_value(s).expect("API types serialise to JSON"));
    Selector::from_label_selector(value.as_ref()).unwrap_or_else(|_| Selector::nothing())
}
