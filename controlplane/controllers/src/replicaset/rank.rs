//! Which pods go first when there are too many. PURE.
//!
//! Source of the order: kubernetes pkg/controller/controller_utils.go (ActivePodsWithRanks), v1.36.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// Annotation by which a user makes a pod cheaper or dearer to delete than its siblings.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods so that those to delete come first. `siblings` are all pods of the same application
/// (those of the other ReplicaSets of one Deployment too); a node with many of them loses first.
pub(crate) fn deletion_order(
    mut pods: Vec<Arc<Pod>>,
    siblings: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in siblings.iter().filter(|pod| pods::is_active(pod)) {
        *per_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    pods.sort_by(|a, b| compare(a, b, &per_node, now));
    pods
}

fn compare(a: &Pod, b: &Pod, per_node: &BTreeMap<&str, usize>, now: Timestamp) -> Ordering {
    let assigned = |pod| !pods::node_name(pod).is_empty();
    let ready = |pod| pods::is_ready(pod);
    let on_node = |pod| Reverse(per_node.get(pods::node_name(pod)).copied().unwrap_or(0));
    let both_ready = ready(a) && ready(b);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| ready(a).cmp(&ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| on_node(a).cmp(&on_node(b)))
        .then_with(|| match both_ready {
            true => newest_first(pods::ready_since(a), pods::ready_since(b), now),
            false => Ordering::Equal,
        })
        .then_with(|| pods::restarts_max(b).cmp(&pods::restarts_max(a)))
        .then_with(|| newest_first(created(a), created(b), now))
        // The name makes the order total, so that plans can be repeated.
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        // Pending, or not reported yet.
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|all| all.get(DELETION_COST));
    cost.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Compares ages by order of magnitude, so that among pods of about one age chance (the uid)
/// decides and no failure domain is always the first to lose.
fn newest_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |time: Option<Timestamp>| {
        time.map(|time| {
            let secs = now.duration_since(time).as_secs();
            // log2, 0 for ages up to one second (and for clocks that disagree).
            u64::try_from(secs).ok().and_then(u64::checked_ilog2).unwrap_or(0)
        })
    };
    // No time counts as newest.
    magnitude(a).cmp(&magnitude(b))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const NOW: i64 = 1_000_000;

    #[derive(Clone)]
    struct Sample(Pod);

    impl Sample {
        fn new(name: &str) -> Self {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            pod.metadata.creation_timestamp = Some(ago(100));
            pod.spec = Some(PodSpec { node_name: Some(format!("n-{name}")), ..PodSpec::default() });
            pod.status = Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() });
            Self(pod).ready(100)
        }
        fn status(&mut self) -> &mut PodStatus {
            self.0.status.as_mut().unwrap()
        }
        fn node(mut self, node: &str) -> Self {
            self.0.spec.as_mut().unwrap().node_name = (!node.is_empty()).then(|| node.into());
            self
        }
        fn phase(mut self, phase: &str) -> Self {
            self.status().phase = Some(phase.into());
            self
        }
        fn ready(mut self, secs_ago: i64) -> Self {
            let condition = PodCondition {
                type_: "Ready".into(),
                status: "True".into(),
                last_transition_time: Some(ago(secs_ago)),
                ..PodCondition::default()
            };
            self.status().conditions = Some(vec![condition]);
            self
        }
        fn unready(mut self) -> Self {
            self.status().conditions = None;
            self
        }
        fn cost(mut self, cost: &str) -> Self {
            self.0.metadata.annotations = Some([(DELETION_COST.into(), cost.into())].into());
            self
        }
        fn restarts(mut self, count: i32) -> Self {
            self.status().container_statuses =
                Some(vec![ContainerStatus { restart_count: count, ..ContainerStatus::default() }]);
            self
        }
        fn created(mut self, secs_ago: i64) -> Self {
            self.0.metadata.creation_timestamp = Some(ago(secs_ago));
            self
        }
    }

    fn ago(secs: i64) -> Time {
        Time(Timestamp::from_second(NOW - secs).unwrap())
    }

    #[test]
    fn each_rule_decides_when_those_before_it_do_not() {
        let base = || Sample::new("b");
        let other = || Sample::new("a");
        for (what, first, second) in [
            ("unassigned", base().node(""), other()),
            ("pending", base().phase("Pending"), other()),
            ("unready", base().unready(), other()),
            ("cheap", base().cost("-5"), other()),
            ("not a number costs nothing", base().cost("-5"), other().cost("x")),
            ("ready for less time", base().ready(2), other().ready(90)),
            ("restarted", base().restarts(3), other().restarts(1)),
            ("younger", base().created(3), other().created(90)),
            ("unassigned before cost", base().node("").cost("100"), other().cost("-100")),
        ] {
            let pods = vec![Arc::new(second.0.clone()), Arc::new(first.0.clone())];
            let now = Timestamp::from_second(NOW).unwrap();
            let order = deletion_order(pods, &[], now);
            assert_eq!(order[0].metadata.name.as_deref(), Some("b"), "{what}");
        }
    }

    #[test]
    fn a_crowded_node_loses_first() {
        let pods: Vec<_> = [("a", "n1"), ("b", "n2"), ("c", "n2")]
            .into_iter()
            .map(|(name, node)| Arc::new(Sample::new(name).node(node).0))
            .collect();
        let now = Timestamp::from_second(NOW).unwrap();
        let order = deletion_order(pods.clone(), &pods, now);
        let names: Vec<_> = order.iter().map(|p| p.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
