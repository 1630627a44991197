use informer::{ResourcePath, Verb};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn labels() -> Option<std::collections::BTreeMap<String, String>> {
    Some([("app".to_string(), "web".to_string())].into())
}

fn set(replicas: i32) -> ReplicaSet {
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("a".into()),
            uid: Some("rs1".into()),
            generation: Some(1),
            resource_version: Some("7".into()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: labels(), ..LabelSelector::default() },
            template: Some(PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: labels(), ..ObjectMeta::default() }),
                spec: None,
            }),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}

fn pod(set: &ReplicaSet, name: &str, ready_secs: Option<i64>) -> Arc<Pod> {
    let template = set.spec.as_ref().unwrap().template.as_ref().unwrap();
    let mut pod = pods::from_template(template, "a", controller_reference(set));
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(format!("uid-{name}"));
    let condition = ready_secs.map(|secs| PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(Time(Timestamp::from_second(1_000_000 - secs).unwrap())),
        ..PodCondition::default()
    });
    pod.status = Some(PodStatus {
        phase: Some("Running".into()),
        conditions: condition.map(|condition| vec![condition]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

fn settled(mut set: ReplicaSet, pods: &[Arc<Pod>]) -> ReplicaSet {
    set.status = Some(status(&set, &set.wanted().unwrap(), pods, 0, &Context::at(now())));
    set
}

fn summary(plan: &Plan) -> Vec<String> {
    let text = |step: &Step| {
        let sub = matches!(step.action.verb, Verb::UpdateSubresource(..));
        let what = if sub { "status" } else { step.action.verb_name() };
        format!("{what} {}", step.action.key.name)
    };
    plan.steps.iter().map(text).collect()
}

#[test]
fn missing_pods_are_created_before_the_status() {
    let plan = plan(&set(2), &[], &[], &Context::at(now()));
    assert_eq!(summary(&plan), ["create ", "create ", "status web"]);
    let Verb::Create(pod) = &plan.steps[0].action.verb else { panic!("not a create") };
    assert_eq!(plan.steps[0].action.resource, ResourcePath::of::<Pod>());
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "rs1");
}

#[test]
fn a_settled_set_needs_nothing() {
    let set = set(1);
    let pods = [pod(&set, "x", Some(50))];
    let set = settled(set, &pods);
    assert_eq!(plan(&set, &pods, &[], &Context::at(now())), Plan::nothing());
}

#[test]
fn surplus_pods_are_deleted_by_rank_and_uid() {
    let set = set(1);
    let pods = [pod(&set, "ready", Some(50)), pod(&set, "unready", None)];
    let set = settled(set, &pods);
    let plan = plan(&set, &pods, &[], &Context::at(now()));
    assert_eq!(summary(&plan), ["delete unready"]);
    let Verb::Delete { uid, .. } = &plan.steps[0].action.verb else { panic!("not a delete") };
    assert_eq!(uid.as_deref(), Some("uid-unready"));
}

#[test]
fn one_plan_creates_at_most_a_burst() {
    let plan = plan(&set(2000), &[], &[], &Context::at(now()));
    assert_eq!(plan.steps.len(), BURST + 1);
}

#[test]
fn a_failure_becomes_a_condition_ahead_of_the_next_try() {
    let failure = Failure { verb: "create", code: 403, message: "exceeded quota".into() };
    let failed = Context { now: now(), failure: Some(failure) };
    let plan = plan(&set(1), &[], &[], &failed);
    assert_eq!(summary(&plan), ["status web", "create "]);
    let Verb::UpdateSubresource(_, object) = &plan.steps[0].action.verb else {
        panic!("no status")
    };
    let condition = &object["status"]["conditions"][0];
    assert_eq!(condition["reason"], "FailedCreate");
    assert_eq!(condition["message"], "exceeded quota");

    let mut set = set(0);
    set.status = serde_json::from_value(object["status"].clone()).unwrap();
    let plan = super::plan(&set, &[], &[], &Context::at(now()));
    let Verb::UpdateSubresource(_, object) = &plan.steps[0].action.verb else {
        panic!("no status")
    };
    assert!(object["status"].get("conditions").is_none(), "cleared after success");
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut set = set(2);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let pods = [pod(&set, "old", Some(100)), pod(&set, "new", Some(10))];
    let plan = plan(&set, &pods, &[], &Context::at(now()));
    let Verb::UpdateSubresource(_, object) = &plan.steps[0].action.verb else {
        panic!("no status")
    };
    assert_eq!(object["status"]["readyReplicas"], 2);
    assert_eq!(object["status"]["availableReplicas"], 1);
    assert_eq!(plan.again_after, Some(std::time::Duration::from_secs(20)));
}

#[test]
fn finished_and_terminating_pods_do_not_count() {
    let set = set(1);
    let mut finished = (*pod(&set, "finished", None)).clone();
    finished.status.as_mut().unwrap().phase = Some("Failed".into());
    let mut going = (*pod(&set, "going", Some(50))).clone();
    going.metadata.deletion_timestamp = Some(Time(now()));
    let plan = plan(&set, &[Arc::new(finished), Arc::new(going)], &[], &Context::at(now()));
    assert_eq!(summary(&plan), ["create ", "status web"]);
    let Verb::UpdateSubresource(_, object) = &plan.steps[1].action.verb else {
        panic!("no status")
    };
    assert_eq!(object["status"]["terminatingReplicas"], 1);
    assert_eq!(object["status"]["replicas"], 0);
}

#[test]
fn a_set_being_deleted_makes_no_pods() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(summary(&plan(&set, &[], &[], &Context::at(now()))), ["status web"]);
}

#[test]
fn a_replication_controller_is_kept_in_the_same_way() {
    use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec};
    let set = set(2);
    let template = set.spec.as_ref().unwrap().template.clone();
    let mut controller = ReplicationController {
        metadata: set.metadata,
        spec: Some(ReplicationControllerSpec {
            replicas: Some(1),
            selector: labels(),
            template: template.clone(),
            ..ReplicationControllerSpec::default()
        }),
        status: None,
    };
    let made = plan(&controller, &[], &[], &Context::at(now()));
    let created = &made.steps[0].action;
    assert!(matches!(created.verb, Verb::Create(_)), "{created:?}");
    assert_eq!(created.resource, ResourcePath::of::<Pod>());
    let mut pod = pods::from_template(&template.unwrap(), "a", controller_reference(&controller));
    assert_eq!(pod.metadata.owner_references.as_ref().unwrap()[0].kind, "ReplicationController");
    pod.metadata.name = Some("web-1".into());
    let pods = [Arc::new(pod)];
    let wanted = controller.wanted().unwrap();
    let status = status(&controller, &wanted, &pods, 0, &Context::at(now()));
    assert_eq!((status.replicas, status.terminating_replicas), (1, None));
    let written = controller.update_status(status.clone());
    let Verb::UpdateSubresource("status", object) = &written.verb else { panic!("{written:?}") };
    assert_eq!(object["status"]["replicas"], 1);
    controller = serde_json::from_value(object.clone()).unwrap();
    let settled = plan(&controller, &pods, &[], &Context::at(now()));
    assert_eq!(settled.steps, [], "nothing is written again");
}
