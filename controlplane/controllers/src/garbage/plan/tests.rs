use informer::{Index, ResourcePath, View, by_owner_uid};

use super::*;

fn resource(kind: &str, namespaced: bool) -> ServedResource {
    let plural = format!("{}s", kind.to_lowercase());
    let path = ResourcePath::new("", "v1", &plural);
    ServedResource { path, kind: kind.into(), namespaced, verbs: Vec::new() }
}

struct Sample {
    meta: Value,
}

fn object(name: &str) -> Sample {
    let meta = json!({"name": name, "namespace": "a", "uid": name, "resourceVersion": "7"});
    Sample { meta }
}

impl Sample {
    fn owner(mut self, kind: &str, name: &str, blocks: bool) -> Self {
        let owner = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name,
            "blockOwnerDeletion": blocks});
        match self.meta["ownerReferences"].as_array_mut() {
            Some(owners) => owners.push(owner),
            None => self.meta["ownerReferences"] = json!([owner]),
        }
        self
    }
    fn going(mut self, finalizer: &str) -> Self {
        self.meta["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        self.meta["finalizers"] = json!([finalizer]);
        self
    }
    fn cluster_scoped(mut self) -> Self {
        self.meta.as_object_mut().unwrap().remove("namespace");
        self
    }
    fn partial(&self) -> Partial {
        serde_json::from_value(json!({"metadata": self.meta})).unwrap()
    }
}

/// Owners are `Owner`s or `Node`s (cluster-scoped), dependents are `Thing`s.
fn world(owners: &[Sample], nodes: &[Sample], things: &[Sample]) -> Everything {
    let everything = Everything::unfed();
    for (kind, namespaced, objects) in
        [("Owner", true, owners), ("Node", false, nodes), ("Thing", true, things)]
    {
        let uid = Index::new("uid", |object: &Partial| vec![object.uid().to_string()]);
        let view = View::fixed(objects.iter().map(Sample::partial), vec![by_owner_uid(), uid]);
        everything.put(resource(kind, namespaced), view);
    }
    everything
}

/// `verb name` per step, with what matters of it.
fn summary(everything: &Everything, uid: &str) -> Vec<String> {
    let (resource, object) = everything.find(uid).unwrap();
    let plan = plan(everything, &resource, &object);
    let text = |step: &crate::controller::Step| {
        let key = &step.action.key;
        match &step.action.verb {
            Verb::Delete { propagation, .. } => {
                format!("delete {key} {}", propagation.unwrap().as_str())
            }
            Verb::RequireAbsent { uid } => format!("check {key} {uid}"),
            Verb::Patch { body, .. } => {
                let meta = &body["metadata"];
                let owners = meta.get("ownerReferences").map(|owners| match owners.as_array() {
                    Some(list) => format!("{} owners", list.len()),
                    None => "0 owners".into(),
                });
                format!("patch {key} {}", owners.unwrap_or_else(|| "finalizers".into()))
            }
            other => format!("{other:?}"),
        }
    };
    plan.steps.iter().map(text).collect()
}

#[test]
fn with_a_live_owner_nothing_happens() {
    let everything = world(&[object("o")], &[], &[object("t").owner("Owner", "o", true)]);
    assert!(summary(&everything, "t").is_empty());
    assert!(summary(&everything, "o").is_empty());
}

#[test]
fn without_any_owner_left_an_object_goes_after_a_check() {
    let everything = world(&[], &[], &[object("t").owner("Owner", "o", true)]);
    assert_eq!(summary(&everything, "t"), ["check a/o o", "delete a/t Background"]);
}

#[test]
fn a_namesake_is_not_the_owner() {
    let mut namesake = object("o");
    namesake.meta["uid"] = json!("another");
    let everything = world(&[namesake], &[], &[object("t").owner("Owner", "o", true)]);
    assert_eq!(summary(&everything, "t"), ["check a/o o", "delete a/t Background"]);
}

#[test]
fn one_live_owner_is_enough_and_dead_references_go() {
    let thing = object("t").owner("Owner", "o", true).owner("Owner", "dead", true);
    let everything = world(&[object("o")], &[], &[thing]);
    assert_eq!(summary(&everything, "t"), ["check a/dead dead", "patch a/t 1 owners"]);
}

#[test]
fn foreground_deletion_goes_bottom_up() {
    let owner = || object("o").going(FOREGROUND);
    let everything = world(&[owner()], &[], &[object("t").owner("Owner", "o", true)]);
    assert!(summary(&everything, "o").is_empty(), "waits");
    assert_eq!(summary(&everything, "t"), ["delete a/t Background"]);

    let chain = [object("t").owner("Owner", "o", true), object("leaf").owner("Thing", "t", true)];
    let everything = world(&[owner()], &[], &chain);
    assert_eq!(summary(&everything, "t"), ["delete a/t Foreground"]);

    let everything = world(&[owner()], &[], &[object("t").owner("Owner", "o", false)]);
    assert_eq!(summary(&everything, "o"), ["patch a/o finalizers"], "only blockers are waited for");
    let everything = world(&[owner()], &[], &[]);
    assert_eq!(summary(&everything, "o"), ["patch a/o finalizers"]);
}

#[test]
fn orphaning_drops_references_then_the_finalizer() {
    let things = [object("t1").owner("Owner", "o", true), object("t2").owner("Owner", "o", false)];
    let everything = world(&[object("o").going(ORPHAN)], &[], &things);
    assert_eq!(
        summary(&everything, "o"),
        ["patch a/t1 0 owners", "patch a/t2 0 owners", "patch a/o finalizers"]
    );
}

#[test]
fn scopes_are_kept_apart() {
    let node = object("n").cluster_scoped();
    let everything = world(&[], &[node], &[object("t").owner("Node", "n", false)]);
    assert!(summary(&everything, "t").is_empty(), "a cluster-scoped owner is found");

    let node = object("n").cluster_scoped().owner("Owner", "o", false);
    let everything = world(&[], &[node], &[]);
    assert!(summary(&everything, "n").is_empty(), "owned from within a namespace: never collected");

    let mut elsewhere = object("o");
    elsewhere.meta["namespace"] = json!("b");
    let everything = world(&[elsewhere], &[], &[object("t").owner("Owner", "o", true)]);
    assert_eq!(summary(&everything, "t"), ["check a/o o", "delete a/t Background"]);
}

#[test]
fn an_unknown_kind_decides_nothing() {
    let everything = world(&[], &[], &[object("t").owner("Mystery", "m", true)]);
    assert!(summary(&everything, "t").is_empty());
    let (resource, object) = everything.find("t").unwrap();
    assert!(plan(&everything, &resource, &object).again_after.is_some());
}
