//! Plans are carried out on a small model: the Deployment, its ReplicaSets, and ReplicaSets whose
//! pods become available when the test says so.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use informer::Verb;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

struct Model {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    now_secs: i64,
    /// What was done, a line a step.
    log: Vec<String>,
}

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "d1", "generation": 1},
        "spec": {
            "replicas": replicas, "strategy": strategy, "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    }))
    .unwrap()
}

fn rolling(surge: i32, unavailable: i32) -> Value {
    json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

impl Model {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            now_secs: 1_000_000,
            log: Vec::new(),
        }
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn scale(&mut self, replicas: i32) {
        self.deployment.spec.as_mut().unwrap().replicas = Some(replicas);
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn plan(&self) -> Plan {
        let candidates: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        let pods_of =
            |set: &ReplicaSet| self.pods.get(&set.key().name).cloned().unwrap_or_default();
        let set_called = |name: &str| self.sets.get(name).cloned().map(Arc::new);
        let seen = Seen { pods_of: &pods_of, set_called: &set_called };
        let now = Timestamp::from_second(self.now_secs).unwrap();
        plan(&self.deployment, &candidates, &seen, &Context::at(now))
    }

    /// One plan, carried out. Returns whether it did anything.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let acted = !plan.steps.is_empty();
        for step in plan.steps {
            let Action { key, verb, .. } = step.action;
            if let Some(announcement) = step.announcement {
                self.log.push(announcement.done.1);
            }
            match verb {
                Verb::Create(object) => {
                    let mut set: ReplicaSet = serde_json::from_value(object).unwrap();
                    set.metadata.uid = Some(format!("uid-{}", key.name));
                    let born = self.now_secs + self.sets.len() as i64;
                    set.metadata.creation_timestamp =
                        Some(Time(Timestamp::from_second(born).unwrap()));
                    self.sets.insert(key.name, set);
                }
                Verb::UpdateSubresource(_, object) => {
                    let written: Deployment = serde_json::from_value(object).unwrap();
                    self.deployment.status = written.status;
                    self.deployment.metadata.annotations = written.metadata.annotations;
                }
                Verb::Patch { body, .. } => {
                    let set = self.sets.get_mut(&key.name).unwrap();
                    *set = merged(set, &body);
                }
                Verb::Delete { .. } => {
                    self.log.push(format!("Deleted {}", key.name));
                    self.sets.remove(&key.name);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        acted
    }

    /// Plans until there is nothing more to do while nothing else happens.
    fn settle(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("the plans do not come to rest: {:?}", self.plan());
    }

    /// ReplicaSets create and delete pods at once; `healthy` of each become available.
    fn pods_follow(&mut self, healthy: i32) {
        for set in self.sets.values_mut() {
            let size = rolling::replicas(set);
            let status = set.status.get_or_insert_default();
            status.replicas = size;
            status.observed_generation = set.metadata.generation;
            let up = size.min(healthy);
            status.available_replicas = Some(up);
            status.ready_replicas = Some(up);
        }
    }

    /// Settles and lets pods follow until neither does anything.
    fn run(&mut self, healthy: i32) {
        for _ in 0..100 {
            self.settle();
            let before = self.sets.clone();
            self.pods_follow(healthy);
            if before == self.sets {
                return;
            }
        }
        panic!("the rollout does not come to rest");
    }

    fn sizes(&self) -> Vec<i32> {
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
        sets.iter().map(|set| rolling::replicas(set)).collect()
    }

    fn condition(&self, kind: &str) -> String {
        let conditions = self.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        found.map_or("absent".into(), |c| format!("{} {}", c.status, c.reason.as_ref().unwrap()))
    }

    /// The log with the ReplicaSets' names replaced by their order of appearance.
    fn check_log(&mut self, wanted: Expect) {
        let mut text = std::mem::take(&mut self.log).join("\n");
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for (at, set) in sets.iter().enumerate() {
            text = text.replace(&set.key().name, &format!("rs{at}"));
        }
        wanted.assert_eq(&text);
    }
}

fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(object: &T, patch: &Value) -> T {
    fn merge(target: &mut Value, patch: &Value) {
        let Some(changes) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (name, value) in changes {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(name);
            } else {
                merge(&mut target[name], value);
            }
        }
    }
    let mut value = serde_json::to_value(object).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_new_deployment_gets_one_set_and_becomes_available() {
    let mut model = Model::new(deployment(3, rolling(1, 0)));
    model.settle();
    assert_eq!(model.condition("Available"), "False MinimumReplicasUnavailable");
    model.run(3);
    assert_eq!(model.sizes(), [3]);
    assert_eq!(model.condition("Available"), "True MinimumReplicasAvailable");
    assert_eq!(model.condition("Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(revision::revision(&model.deployment.metadata), 1);
    let status = model.deployment.status.clone().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!((status.replicas, status.updated_replicas), (Some(3), Some(3)));
    assert_eq!((status.available_replicas, status.unavailable_replicas), (Some(3), None));
    model.check_log(expect!["Scaled up replica set rs0 from 0 to 3"]);
}

#[test]
fn a_rolling_update_goes_one_by_one() {
    let mut model = Model::new(deployment(3, rolling(1, 0)));
    model.run(3);
    model.log.clear();
    model.set_image("v2");
    model.run(3);
    assert_eq!(model.sizes(), [0, 3]);
    assert_eq!(revision::revision(&model.deployment.metadata), 2);
    model.check_log(expect![[r#"
        Scaled up replica set rs1 from 0 to 1
        Scaled down replica set rs0 from 3 to 2
        Scaled up replica set rs1 from 1 to 2
        Scaled down replica set rs0 from 2 to 1
        Scaled up replica set rs1 from 2 to 3
        Scaled down replica set rs0 from 1 to 0"#]]);
}

#[test]
fn a_roll_back_reuses_the_old_set_under_a_new_number() {
    let mut model = Model::new(deployment(2, rolling(1, 0)));
    model.run(9);
    model.set_image("v2");
    model.run(9);
    model.set_image("v1");
    model.run(9);
    assert_eq!(model.sizes(), [2, 0]);
    assert_eq!(revision::revision(&model.deployment.metadata), 3);
    let numbers: Vec<_> =
        model.sets.values().map(|set| revision::revision(&set.metadata)).collect();
    assert_eq!(numbers.iter().max(), Some(&3));
    assert!(numbers.contains(&2) && !numbers.contains(&1));
}

#[test]
fn a_bad_image_stops_the_rollout_and_times_out() {
    let mut model = Model::new(deployment(3, rolling(1, 0)));
    model.run(9);
    model.set_image("broken");
    model.settle();
    // The new pod never becomes ready; the old ones stay.
    let new = model.sets.values_mut().find(|set| set.status.is_none()).unwrap();
    new.status.get_or_insert_default().replicas = 1;
    model.settle();
    assert_eq!(model.sizes(), [3, 1]);
    assert_eq!(model.condition("Progressing"), "True ReplicaSetUpdated");
    let wait = model.plan().again_after.unwrap();
    assert_eq!(wait.as_secs(), 601);
    model.now_secs += 601;
    model.settle();
    assert_eq!(model.condition("Progressing"), "False ProgressDeadlineExceeded");
    assert_eq!(model.plan(), Plan::nothing());
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut model = Model::new(deployment(2, json!({"type": "Recreate"})));
    model.run(9);
    model.log.clear();
    let old = model.sets.keys().next().unwrap().clone();
    model.pods.insert(old.clone(), vec![Arc::new(Pod::default())]);
    model.set_image("v2");
    model.run(9);
    assert_eq!(model.sizes(), [0], "an old pod is still there");
    model.pods.clear();
    model.run(9);
    assert_eq!(model.sizes(), [0, 2]);
    model.check_log(expect![[r#"
        Scaled down replica set rs0 from 2 to 0
        Scaled up replica set rs1 from 0 to 2"#]]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = Model::new(deployment(2, rolling(1, 0)));
    model.run(9);
    model.deployment.spec.as_mut().unwrap().paused = Some(true);
    model.set_image("v2");
    model.scale(5);
    model.run(9);
    assert_eq!(model.sizes(), [5]);
    assert_eq!(model.condition("Progressing"), "Unknown DeploymentPaused");
    model.deployment.spec.as_mut().unwrap().paused = None;
    model.run(9);
    assert_eq!(model.sizes(), [0, 5]);
    assert_eq!(model.condition("Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn scaling_touches_only_the_current_set() {
    let mut model = Model::new(deployment(2, rolling(1, 1)));
    model.run(9);
    model.log.clear();
    model.scale(10);
    model.run(10);
    model.scale(0);
    model.run(10);
    model.check_log(expect![[r#"
        Scaled up replica set rs0 from 2 to 10
        Scaled down replica set rs0 from 10 to 0"#]]);
    assert_eq!(model.condition("Available"), "True MinimumReplicasAvailable");
}

#[test]
fn history_is_cleaned_up_oldest_revision_first() {
    let mut model = Model::new(deployment(1, rolling(1, 0)));
    model.deployment.spec.as_mut().unwrap().revision_history_limit = Some(2);
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        model.set_image(image);
        model.run(9);
    }
    let mut numbers: Vec<_> =
        model.sets.values().map(|set| revision::revision(&set.metadata)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4, 5]);
}

#[test]
fn a_taken_name_leads_to_another() {
    let mut model = Model::new(deployment(1, rolling(1, 0)));
    model.settle();
    // The same name, but a template that somebody has changed.
    let set = model.sets.values_mut().next().unwrap();
    let template = set.spec.as_mut().unwrap().template.as_mut().unwrap();
    template.spec.as_mut().unwrap().containers[0].image = Some("edited".into());
    model.run(9);
    assert_eq!(model.deployment.status.as_ref().unwrap().collision_count, Some(1));
    assert_eq!(model.sizes(), [0, 1]);
}

#[test]
fn a_refused_set_is_told_of_before_the_next_try() {
    let model = Model::new(deployment(1, rolling(1, 0)));
    let failure = crate::controller::Failure { verb: "create", code: 403, message: "quota".into() };
    let now = Timestamp::from_second(model.now_secs).unwrap();
    let context = Context { now, failure: Some(failure) };
    let seen = Seen { pods_of: &|_| Vec::new(), set_called: &|_| None };
    let plan = plan(&model.deployment, &[], &seen, &context);
    let Verb::UpdateSubresource(_, object) = &plan.steps[0].action.verb else {
        panic!("no status")
    };
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let progressing = conditions.iter().find(|c| c["type"] == PROGRESSING).unwrap();
    assert_eq!(progressing["reason"], "ReplicaSetCreateError");
    assert_eq!(plan.steps[1].action.verb_name(), "create");
}
