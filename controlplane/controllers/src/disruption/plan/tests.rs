use informer::Verb;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn budget(max: Option<IntOrString>, min: Option<IntOrString>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some("b".into()),
            namespace: Some("a".into()),
            generation: Some(2),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: max,
            min_available: min,
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn pod(name: &str, ready: bool) -> Arc<Pod> {
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..PodCondition::default()
    };
    Arc::new(Pod {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        status: Some(PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() }),
        ..Pod::default()
    })
}

fn status(plan: &Plan) -> PodDisruptionBudgetStatus {
    let Verb::UpdateSubresource("status", object) = &plan.steps[0].action.verb else {
        panic!("{plan:?}")
    };
    let budget: PodDisruptionBudget = serde_json::from_value(object.clone()).unwrap();
    budget.status.unwrap()
}

#[test]
fn limits_are_numbers_or_shares_rounded_up() {
    let int = |number| Some(IntOrString::Int(number));
    let percent = |text: &str| Some(IntOrString::String(text.into()));
    let pods: Vec<_> = ["a", "b", "c"].map(|name| pod(name, true)).into();
    for (max, min, expected, desired, left) in [
        (int(1), None, 5, 4, 0),
        (int(3), None, 5, 2, 1),
        (percent("30%"), None, 5, 3, 0),
        (percent("100%"), None, 5, 0, 3),
        (None, int(2), 3, 2, 1),
        (None, percent("50%"), 5, 3, 0),
        (None, percent("10%"), 5, 1, 2),
    ] {
        let made = plan(&budget(max.clone(), min.clone()), &pods, Ok(5), now());
        let status = status(&made);
        let found = (status.expected_pods, status.desired_healthy, status.disruptions_allowed);
        assert_eq!(found, (Some(expected), Some(desired), Some(left)), "{max:?} {min:?}");
        assert_eq!(status.observed_generation, Some(2));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(condition.status, if left > 0 { "True" } else { "False" });
    }
}

#[test]
fn evicted_pods_do_not_count_until_their_time_is_up() {
    let mut budget = budget(None, Some(IntOrString::Int(1)));
    let since = |secs: i64| Time(Timestamp::from_second(1_000_000 - secs).unwrap());
    let evicted = [("a", since(10)), ("gone", since(10)), ("b", since(121))];
    let evicted = evicted.map(|(name, since)| (name.to_owned(), since));
    budget.status = Some(PodDisruptionBudgetStatus {
        disrupted_pods: Some(evicted.into()),
        ..PodDisruptionBudgetStatus::default()
    });
    let pods = [pod("a", true), pod("b", true), pod("c", false)];
    let made = plan(&budget, &pods, Err("not asked".into()), now());
    let status = status(&made);
    assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(1), Some(0)));
    assert_eq!(status.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(made.again_after, Some(Duration::from_secs(110)));
}

#[test]
fn pods_without_a_scale_fail_closed_and_a_settled_status_is_left_alone() {
    let mut budget = budget(Some(IntOrString::Int(1)), None);
    let pods = [pod("a", true)];
    let made = plan(&budget, &pods, Err("found no controller ref for pod \"a\"".into()), now());
    let failed = status(&made);
    assert_eq!(failed.disruptions_allowed, Some(0));
    assert_eq!(failed.conditions.as_ref().unwrap()[0].reason, "SyncFailed");
    let made = plan(&budget, &pods, Ok(1), now());
    budget.status = Some(status(&made));
    let later = Timestamp::from_second(2_000_000).unwrap();
    assert_eq!(plan(&budget, &pods, Ok(1), later), Plan::nothing());
}
