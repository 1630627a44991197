use serde_json::json;

use super::*;

/// A flow control with `total` seats, one level of its own, and a schema that sends Ann there.
fn flow(total: usize, response: &Value) -> Flow {
    let flow = Flow::with_seats(total);
    flow.apply(
        "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations//slow",
        Some(&json!({"metadata": {"name": "slow", "uid": "level-uid"}, "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 1, "limitResponse": response},
        }})),
    );
    let rule = |subject: Value| {
        json!([{"subjects": [subject], "resourceRules": [{
            "verbs": ["list"], "apiGroups": [""], "resources": ["pods", "pods/log"],
            "namespaces": ["a"],
        }], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x/*"]}]}])
    };
    for (name, precedence, subject) in [
        ("ann", 100, json!({"kind": "User", "user": {"name": "ann"}})),
        ("all", 200, json!({"kind": "Group", "group": {"name": "system:authenticated"}})),
        ("none", 1, json!({"kind": "Group", "group": {"name": "*"}})),
        (
            "robots",
            50,
            json!({"kind": "ServiceAccount",
            "serviceAccount": {"namespace": "a", "name": "*"}}),
        ),
    ] {
        // The first one refers to a level that is not there.
        let level = if name == "none" { "missing" } else { "slow" };
        flow.apply(
            &format!("flowcontrol.apiserver.k8s.io/flowschemas//{name}"),
            Some(&json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {
                "matchingPrecedence": precedence,
                "priorityLevelConfiguration": {"name": level},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": rule(subject),
            }})),
        );
    }
    flow
}

fn user(name: &str) -> User {
    User::authenticated(name, &[])
}

fn list() -> Attributes<'static> {
    Attributes { verb: "list", resource: "pods", namespace: "a", ..Attributes::default() }
}

fn schema_of(flow: &Flow, user: &User, request: &Attributes<'_>) -> Option<String> {
    flow.sort(user, request).map(|sorted| sorted.schema.name.clone())
}

#[test]
fn the_first_schema_with_a_level_wins() {
    let flow = flow(10, &json!({"type": "Reject"}));
    let of = |user: &str, request: &Attributes<'_>| schema_of(&flow, &self::user(user), request);
    assert_eq!(of("ann", &list()).as_deref(), Some("ann"));
    assert_eq!(of("bob", &list()).as_deref(), Some("all"));
    assert_eq!(of("system:serviceaccount:a:r", &list()).as_deref(), Some("robots"));
    assert_eq!(of("system:serviceaccount:b:r", &list()).as_deref(), Some("all"));
    for other in [
        Attributes { verb: "get", ..list() },
        Attributes { namespace: "b", ..list() },
        Attributes { namespace: "", ..list() },
        Attributes { group: "apps", ..list() },
        Attributes { subresource: "status", ..list() },
    ] {
        assert_eq!(of("ann", &other), None, "{other:?}");
    }
    assert!(of("ann", &Attributes { subresource: "log", ..list() }).is_some());
    let path = |path| Attributes { verb: "get", path, ..Attributes::default() };
    assert!(of("ann", &path("/x/y")).is_some());
    assert_eq!(of("ann", &path("/y")), None);
    flow.apply("flowcontrol.apiserver.k8s.io/flowschemas//ann", None);
    assert_eq!(of("ann", &list()).as_deref(), Some("all"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused_and_leaves_the_queue() {
    let queuing = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 1});
    let flow = flow(1, &json!({"type": "Queue", "queuing": queuing}));
    let ann = user("ann");
    let (sorted, list) = (flow.sort(&ann, &list()).expect("sorted"), list());
    let seat = flow.seat(&sorted, &ann, &list).await.expect("a seat");
    let (waited, refused) =
        tokio::join!(flow.seat(&sorted, &ann, &list), flow.seat(&sorted, &ann, &list),);
    let (waited, refused) = (waited.expect_err("too long"), refused.expect_err("no place"));
    assert_eq!((waited.code, refused.code, refused.retry_after_secs), (429, 429, Some(1)));
    let text = flow.metrics();
    for line in [
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"slow\",reason=\"queue-full\"} 1",
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"slow\",reason=\"time-out\"} 1",
        "apiserver_flowcontrol_current_inqueue_requests{priority_level=\"slow\"} 0",
        "apiserver_flowcontrol_current_executing_requests{priority_level=\"slow\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    drop(seat);
    flow.seat(&sorted, &ann, &list).await.expect("a seat again");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_no_seat_with_it() {
    let flow = Arc::new(flow(1, &json!({"type": "Queue"})));
    let ann = user("ann");
    let (sorted, list) = (flow.sort(&ann, &list()).expect("sorted"), list());
    for _ in 0..20 {
        let seat = flow.seat(&sorted, &ann, &list).await.expect("a seat");
        let mut waiting = Box::pin(flow.seat(&sorted, &ann, &list));
        assert!(futures::poll!(&mut waiting).is_pending());
        // Called up and gone at the same time.
        drop(seat);
        drop(waiting);
    }
    let seat = flow.seat(&sorted, &ann, &list).await.expect("a seat");
    let waiting = Box::pin(flow.seat(&sorted, &ann, &list));
    drop(waiting);
    drop(seat);
    assert!(flow.metrics().contains("executing_requests{priority_level=\"slow\"} 0"));
}
