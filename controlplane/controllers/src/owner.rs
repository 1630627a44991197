//! Who owns what: claiming objects that fit a selector, and giving up those that no longer do.

use std::sync::Arc;

use informer::{Action, Object, PatchType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use objects::ObjectKey;
use objects::selector::Selector;
use serde_json::{Value, json};

/// The reference that makes `owner` the controller of an object.
pub fn controller_reference<K>(owner: &K) -> OwnerReference
where
    K: Object + k8s_openapi::Resource,
{
    OwnerReference {
        api_version: K::API_VERSION.to_string(),
        kind: K::KIND.to_string(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.uid().to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key of an object's controller, if that is of kind `K`.
pub fn controller_key<K: k8s_openapi::Resource>(object: &impl Object) -> Option<ObjectKey> {
    let owner = object.controller()?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let namespace = object.meta().namespace.as_deref().unwrap_or("");
    (owner.kind == K::KIND && group == K::GROUP).then(|| ObjectKey::new(namespace, &owner.name))
}

/// A typed label selector, ready to match. One that does not parse matches nothing: validation
/// keeps those out.
pub fn selector(selector: &LabelSelector) -> Selector {
    let value = serde_json::to_value(selector).expect("API types serialise to JSON");
    Selector::from_label_selector(Some(&value)).unwrap_or_else(|_| Selector::nothing())
}

/// The labels of an object, for matching.
pub fn labels(meta: &ObjectMeta) -> Option<&std::collections::BTreeMap<String, String>> {
    meta.labels.as_ref()
}

/// What a claim led to.
#[derive(Debug)]
pub struct Claim<K> {
    /// The objects that the owner controls and that fit.
    pub owned: Vec<Arc<K>>,
    /// Patches that adopt those that fit and that nobody controls, and release those that do not
    /// fit any more.
    pub actions: Vec<Action>,
}

/// Sorts out which of the candidates are the owner's.
///
/// Source: kubernetes pkg/controller/controller_ref_manager.go, v1.36. Different: an adopted object
/// is in `owned` only once the view shows the adoption, which wakes the owner again.
pub fn claim<O, K>(owner: &O, selector: &Selector, candidates: &[Arc<K>]) -> Claim<K>
where
    O: Object + k8s_openapi::Resource,
    K: Object + k8s_openapi::Resource,
{
    let mut claim = Claim { owned: Vec::new(), actions: Vec::new() };
    for candidate in candidates {
        let fits = selector.matches(&labels(candidate.meta()));
        match candidate.controller() {
            Some(controller) if controller.uid == owner.uid() => {
                if fits {
                    claim.owned.push(Arc::clone(candidate));
                } else if !owner.is_terminating() {
                    claim.actions.push(release(owner, &**candidate));
                }
            }
            Some(_) => {}
            None if fits && !owner.is_terminating() && !candidate.is_terminating() => {
                claim.actions.push(adopt(owner, &**candidate));
            }
            None => {}
        }
    }
    claim
}

fn adopt<O, K>(owner: &O, object: &K) -> Action
where
    O: Object + k8s_openapi::Resource,
    K: Object + k8s_openapi::Resource,
{
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|known| known.uid != owner.uid());
    owners.push(controller_reference(owner));
    set_owners(object, &owners)
}

fn release<O, K>(owner: &O, object: &K) -> Action
where
    O: Object,
    K: Object + k8s_openapi::Resource,
{
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|known| known.uid != owner.uid());
    set_owners(object, &owners)
}

/// Replaces the whole list, guarded by the version it was made from.
fn set_owners<K: Object + k8s_openapi::Resource>(object: &K, owners: &[OwnerReference]) -> Action {
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    let body = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": owners,
    }});
    Action::patch::<K>(object.key(), PatchType::Merge, None, body)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn owner() -> ReplicaSet {
        let mut owner = ReplicaSet::default();
        owner.metadata.name = Some("rs".into());
        owner.metadata.uid = Some("u1".into());
        owner
    }

    fn pod(name: &str, app: &str, owner: Option<&ReplicaSet>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.labels = Some([("app".to_string(), app.to_string())].into());
        pod.metadata.owner_references = owner.map(|owner| vec![controller_reference(owner)]);
        Arc::new(pod)
    }

    #[test]
    fn fitting_orphans_are_adopted_and_misfits_released() {
        let owner = owner();
        let mut other = owner.clone();
        other.metadata.uid = Some("u2".into());
        let pods = [
            pod("mine", "web", Some(&owner)),
            pod("misfit", "db", Some(&owner)),
            pod("orphan", "web", None),
            pod("stranger", "db", None),
            pod("others", "web", Some(&other)),
        ];
        let selector = Selector::parse("app=web").unwrap();
        let claim = claim(&owner, &selector, &pods);
        let owned: Vec<_> = claim.owned.iter().map(|pod| pod.key().name).collect();
        assert_eq!(owned, ["mine"]);
        let patched: Vec<_> = claim.actions.iter().map(|a| a.key.name.as_str()).collect();
        assert_eq!(patched, ["misfit", "orphan"]);
    }

    #[test]
    fn an_owner_that_is_going_takes_nothing() {
        let mut owner = owner();
        owner.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let pods = [pod("orphan", "web", None)];
        let selector = Selector::parse("app=web").unwrap();
        assert!(claim(&owner, &selector, &pods).actions.is_empty());
    }
}
