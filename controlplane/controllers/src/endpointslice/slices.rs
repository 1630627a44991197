//! Distributing endpoints over slices with few writes. PURE.
//!
//! Source of the idea: kubernetes staging/src/k8s.io/endpointslice/reconciler.go, v1.36. An
//! endpoint stays in the slice it is in; new ones fill the slices there are before more are made;
//! slices whose last endpoint went are deleted. Additions come before deletions, so that a Service
//! never has less than it should.

use std::collections::BTreeMap;
use std::sync::Arc;

use informer::{Action, Object};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Most endpoints of one slice: upstream's default, a compromise of object size and number.
pub(super) const ENDPOINTS_MAX: usize = 100;

/// What a set of slices is to hold: endpoints that share family and ports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) address_type: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// The actions that make the slices hold the groups. `template` has what all slices share; slices
/// that fit no group are deleted.
pub(super) fn reconcile(
    template: &ObjectMeta,
    groups: Vec<Group>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut changes = Changes::default();
    let mut unused: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    for group in groups {
        let (own, others) = unused.into_iter().partition(|slice| fits(&group, slice));
        unused = others;
        changes.fill(template, group, own);
    }
    changes.deleted.extend(unused.into_iter().map(delete));
    changes.written.into_iter().chain(changes.deleted).collect()
}

fn fits(group: &Group, slice: &EndpointSlice) -> bool {
    slice.address_type == group.address_type
        && slice.ports.as_deref().unwrap_or(&[]) == group.ports
        && !slice.is_terminating()
}

fn delete(slice: &Arc<EndpointSlice>) -> Action {
    Action::delete::<EndpointSlice>(slice.key(), slice.uid())
}

/// What makes two endpoints the same one in two versions.
fn identity(endpoint: &Endpoint) -> (Option<String>, Vec<String>) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (uid, endpoint.addresses.clone())
}

#[derive(Debug, Default)]
struct Changes {
    written: Vec<Action>,
    deleted: Vec<Action>,
}

impl Changes {
    fn fill(&mut self, template: &ObjectMeta, group: Group, own: Vec<&Arc<EndpointSlice>>) {
        let wanted_any = !group.endpoints.is_empty();
        let mut wanted: BTreeMap<_, Endpoint> =
            group.endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
        // Each stays where it is.
        let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in own {
            let there = slice.endpoints.iter().flatten();
            kept.push((slice, there.filter_map(|old| wanted.remove(&identity(old))).collect()));
        }
        // New ones go to the fullest slice with room: that leaves the fewest slices.
        let mut rest = wanted.into_values();
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(kept[*at].1.len()));
        for at in order {
            let room = ENDPOINTS_MAX.saturating_sub(kept[at].1.len());
            kept[at].1.extend(rest.by_ref().take(room));
        }
        // A group without endpoints keeps one empty slice; else empty ones go.
        let mut has_one = false;
        for (slice, endpoints) in kept {
            if endpoints.is_empty() && (wanted_any || has_one) {
                self.deleted.push(delete(slice));
                continue;
            }
            has_one = true;
            if let Some(changed) = changed(template, slice, endpoints) {
                self.written.push(Action::update(&changed));
            }
        }
        let mut rest: Vec<Endpoint> = rest.collect();
        while !rest.is_empty() || !(has_one || wanted_any) {
            has_one = true;
            let endpoints = rest.drain(..rest.len().min(ENDPOINTS_MAX)).collect();
            let slice = EndpointSlice {
                metadata: template.clone(),
                address_type: group.address_type.clone(),
                ports: Some(group.ports.clone()),
                endpoints: Some(endpoints),
            };
            self.written.push(Action::create(&slice));
        }
    }
}

/// The slice's next version, if it differs.
fn changed(
    template: &ObjectMeta,
    slice: &EndpointSlice,
    endpoints: Vec<Endpoint>,
) -> Option<EndpointSlice> {
    let same_labels = slice.metadata.labels == template.labels;
    let known = slice.endpoints.as_deref().unwrap_or(&[]);
    if same_labels && known == endpoints {
        return None;
    }
    let mut changed = slice.clone();
    changed.metadata.labels = template.labels.clone();
    changed.endpoints = Some(endpoints);
    Some(changed)
}

#[cfg(test)]
mod tests {
    use informer::Verb;
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn endpoint(number: usize) -> Endpoint {
        Endpoint {
            addresses: vec![format!("10.0.{}.{}", number / 250, number % 250)],
            target_ref: Some(ObjectReference {
                uid: Some(format!("{number:05}")),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }
    }

    fn group(numbers: impl IntoIterator<Item = usize>) -> Group {
        let endpoints = numbers.into_iter().map(endpoint).collect();
        Group { address_type: "IPv4".into(), ports: Vec::new(), endpoints }
    }

    fn slice(name: &str, numbers: impl IntoIterator<Item = usize>) -> Arc<EndpointSlice> {
        Arc::new(EndpointSlice {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            address_type: "IPv4".into(),
            ports: Some(Vec::new()),
            endpoints: Some(numbers.into_iter().map(endpoint).collect()),
        })
    }

    /// `verb name count` per action.
    fn summary(actions: &[Action]) -> Vec<String> {
        let text = |action: &Action| {
            let count = match &action.verb {
                Verb::Create(object) | Verb::Update(object) => {
                    object["endpoints"].as_array().map_or(0, Vec::len).to_string()
                }
                _ => "-".into(),
            };
            format!("{} {} {count}", action.verb_name(), action.key.name)
        };
        actions.iter().map(text).collect()
    }

    fn check(groups: Vec<Group>, existing: &[Arc<EndpointSlice>], wanted: &[&str]) {
        let actions = reconcile(&ObjectMeta::default(), groups, existing);
        assert_eq!(summary(&actions), wanted);
    }

    #[test]
    fn many_endpoints_are_cut_into_slices() {
        check(vec![group(0..250)], &[], &["create  100", "create  100", "create  50"]);
    }

    #[test]
    fn the_same_endpoints_need_no_write() {
        check(vec![group(0..3)], &[slice("a", 0..3)], &[]);
        check(vec![group(0..150)], &[slice("a", 0..100), slice("b", 100..150)], &[]);
    }

    #[test]
    fn one_more_goes_to_the_fullest_slice_with_room() {
        let slices = [slice("full", 0..100), slice("half", 100..150), slice("few", 150..153)];
        check(vec![group(0..154)], &slices, &["update half 51"]);
    }

    #[test]
    fn emptied_slices_go_last() {
        let slices = [slice("a", 0..2), slice("b", 2..4)];
        check(vec![group([0, 1, 9])], &slices, &["update a 3", "delete b -"]);
    }

    #[test]
    fn without_endpoints_one_empty_slice_stays() {
        check(vec![group([])], &[], &["create  0"]);
        check(vec![group([])], &[slice("a", [])], &[]);
        check(
            vec![group([])],
            &[slice("a", 0..2), slice("b", 2..3)],
            &["update a 0", "delete b -"],
        );
    }

    #[test]
    fn slices_of_other_ports_are_replaced() {
        let mut other = group(0..2);
        other.ports = vec![EndpointPort { port: Some(80), ..EndpointPort::default() }];
        check(vec![other], &[slice("a", 0..2)], &["create  2", "delete a -"]);
    }
}
