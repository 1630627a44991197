//! Which ReplicaSet is the current one, how it is named, and the annotations that number it. PURE.
//!
//! `kubectl rollout history` and `undo` work off these annotations and the old ReplicaSets.
//! Source: kubernetes pkg/controller/deployment/util, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;

use informer::Object;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::owner::controller_reference;

/// Label that tells the pods of one template from those of another.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// Revision of a rollout, on the Deployment and on its ReplicaSets.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's replicas when the ReplicaSet was last sized.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with surge.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Longest history annotation, in characters.
const HISTORY_CHARS_MAX: usize = 2000;
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub(super) type Annotations = BTreeMap<String, String>;

/// The ReplicaSets of a Deployment, by age.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    /// The one with the Deployment's template, if it exists; the oldest, should there be several.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// All others.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub(super) fn sort_out(deployment: &Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by(|a, b| created_then_name(a).cmp(&created_then_name(b)));
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let at = sets.iter().position(|set| {
            let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            own.zip(template).is_some_and(|(a, b)| same_template(a, b))
        });
        let new = at.map(|at| sets.remove(at));
        Self { new, old: sets }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.new.iter().chain(&self.old)
    }
}

fn created_then_name(set: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&str>) {
    let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, set.metadata.name.as_deref())
}

/// Whether two templates are equal but for the hash label.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let without_hash = |template: &PodTemplateSpec| {
        let mut meta = template.metadata.clone().unwrap_or_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.filter(|labels| !labels.is_empty());
        meta
    };
    a.spec == b.spec && without_hash(a) == without_hash(b)
}

/// The hash of a template: eight to ten letters that spell no words.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // FNV-1a: only has to differ between the templates of one Deployment, and a clash is found and
    // resolved by the collision count.
    let json = serde_json::to_vec(template).expect("API types serialise to JSON");
    let salt = collisions.map(i32::to_le_bytes);
    let bytes = json.iter().chain(salt.iter().flatten());
    let hash = bytes
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let alphabet = objects::names::GENERATED_ALPHABET;
    hash.to_string()
        .bytes()
        .map(|digit| char::from(alphabet[usize::from(digit) % alphabet.len()]))
        .collect()
}

/// The number in an object's revision annotation, 0 if there is none.
pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The revision that the current template has or gets: above all older ones.
pub(super) fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0) + 1
}

/// The annotations that a ReplicaSet inherits and that number it, on top of those it has.
pub(super) fn inherited(
    deployment: &Deployment,
    own: Option<&Annotations>,
    next: i64,
) -> Annotations {
    let mut annotations = own.cloned().unwrap_or_default();
    let theirs = deployment.metadata.annotations.iter().flatten();
    for (name, value) in theirs.filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str())) {
        annotations.insert(name.clone(), value.clone());
    }
    let known: i64 = annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0);
    if known < next {
        if known != 0 && own.is_some() {
            remember(&mut annotations, known);
        }
        annotations.insert(REVISION.into(), next.to_string());
    }
    annotations
}

/// Adds a past revision to the history annotation; the oldest make room.
fn remember(annotations: &mut Annotations, past: i64) {
    let past = past.to_string();
    let known = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or("");
    let mut revisions: Vec<&str> = known.split(',').filter(|text| !text.is_empty()).collect();
    if revisions.contains(&past.as_str()) {
        return;
    }
    revisions.push(&past);
    let length = |all: &[&str]| all.iter().map(|text| text.len() + 1).sum::<usize>();
    while length(&revisions) > HISTORY_CHARS_MAX && revisions.len() > 1 {
        revisions.remove(0);
    }
    let history = revisions.join(",");
    annotations.insert(REVISION_HISTORY.into(), history);
}

/// The annotations that say for which size of the Deployment a ReplicaSet was sized.
pub(super) fn size_annotations(replicas: i32, surge: i32) -> [(String, String); 2] {
    let most = replicas.saturating_add(surge);
    [(DESIRED_REPLICAS.into(), replicas.to_string()), (MAX_REPLICAS.into(), most.to_string())]
}

/// The ReplicaSet for the Deployment's template.
pub(super) fn new_set(
    deployment: &Deployment,
    next: i64,
    collisions: Option<i32>,
    replicas: i32,
    sizes: [(String, String); 2],
) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut annotations = inherited(deployment, None, next);
    annotations.extend(sizes);
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.key().name)),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(serde_json::json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_hash_label_is_no_difference() {
        let mut labelled = template("a");
        let labels = labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "x".into());
        assert!(same_template(&labelled, &template("a")));
        assert!(!same_template(&labelled, &template("b")));
    }

    #[test]
    fn hashes_differ_by_template_and_collisions_and_are_safe() {
        let hashes = [
            template_hash(&template("a"), None),
            template_hash(&template("a"), Some(1)),
            template_hash(&template("b"), None),
        ];
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
        assert_eq!(hashes[0], template_hash(&template("a"), None));
        let safe = |letter: u8| objects::names::GENERATED_ALPHABET.contains(&letter);
        assert!(hashes.iter().all(|hash| !hash.is_empty() && hash.bytes().all(safe)));
    }

    #[test]
    fn inherited_annotations_number_the_set() {
        let mut deployment = Deployment::default();
        let all = [("a", "1"), (REVISION, "9"), (NOT_INHERITED[0], "{}")];
        let all = all.map(|(k, v)| (k.to_string(), v.to_string()));
        deployment.metadata.annotations = Some(all.into());
        let fresh = inherited(&deployment, None, 1);
        assert_eq!(fresh.get("a").map(String::as_str), Some("1"));
        assert_eq!(fresh.get(REVISION).map(String::as_str), Some("1"));
        assert!(!fresh.contains_key(NOT_INHERITED[0]));

        let rolled_back = inherited(&deployment, Some(&fresh), 4);
        assert_eq!(rolled_back.get(REVISION).map(String::as_str), Some("4"));
        assert_eq!(rolled_back.get(REVISION_HISTORY).map(String::as_str), Some("1"));
        assert_eq!(inherited(&deployment, Some(&rolled_back), 3), rolled_back, "never goes back");
    }

    #[test]
    fn the_history_is_bounded() {
        let mut annotations = Annotations::new();
        for past in 1..2000 {
            remember(&mut annotations, past);
        }
        let history = &annotations[REVISION_HISTORY];
        assert!(history.len() <= HISTORY_CHARS_MAX);
        assert!(history.ends_with(",1999"));
    }
}
