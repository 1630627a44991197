use std::sync::Arc;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Node, Pod};
use objects::ObjectKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, cpu: &str, more: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
    });
    merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, more: Value) -> PodInfo {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    merge(&mut value, &more);
    PodInfo::new(Arc::new(serde_json::from_value::<Pod>(value).unwrap()))
}

fn asking(name: &str, cpu: &str) -> PodInfo {
    pod(
        name,
        json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}},
        ]}}),
    )
}

fn merge(target: &mut Value, more: &Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more.clone(),
    }
}

fn cluster(nodes: impl IntoIterator<Item = Arc<Node>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.into_iter().for_each(|node| snapshot.set_node(node));
    snapshot
}

fn decide(snapshot: &Snapshot, pod: &PodInfo) -> Decision {
    schedule(snapshot, pod, &[], 1)
}

fn bound(snapshot: &Snapshot, pod: &PodInfo) -> String {
    match decide(snapshot, pod) {
        Decision::Bind { node, .. } => node,
        Decision::Unschedulable(diagnosis) => panic!("{}", diagnosis.message()),
    }
}

fn check_message(snapshot: &Snapshot, pod: &PodInfo, wanted: Expect) {
    match decide(snapshot, pod) {
        Decision::Bind { node, .. } => panic!("bound to {node}"),
        Decision::Unschedulable(diagnosis) => wanted.assert_eq(&diagnosis.message()),
    }
}

#[test]
fn every_node_is_accounted_for_in_the_message() {
    let snapshot = cluster([
        node("n1", "1", json!({})),
        node("n2", "8", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})),
        node("n3", "8", json!({"spec": {"unschedulable": true}})),
        node("n4", "8", json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}})),
    ]);
    check_message(
        &snapshot,
        &asking("p", "2"),
        expect![[
            "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s). preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
        ]],
    );
    check_message(
        &Snapshot::default(),
        &asking("p", "2"),
        expect!["no nodes available to schedule pods"],
    );
}

#[test]
fn resources_are_counted_with_pods_and_extended_ones() {
    let gpus = json!({"status": {"allocatable": {"example.com/gpu": "2"}}});
    let mut snapshot = cluster([node("n1", "2", gpus)]);
    let gpu = |name: &str, count: u32| {
        pod(
            name,
            json!({"spec": {"containers": [
                {"name": "c", "resources": {"requests": {"example.com/gpu": count}}},
            ]}}),
        )
    };
    snapshot.place(Arc::new(gpu("one", 1)), "n1");
    assert_eq!(bound(&snapshot, &gpu("two", 1)), "n1");
    check_message(
        &snapshot,
        &gpu("three", 2),
        expect![[
            "0/1 nodes are available: 1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ]],
    );
    for i in 0..9 {
        snapshot.place(Arc::new(asking(&format!("p{i}"), "1m")), "n1");
    }
    check_message(
        &snapshot,
        &asking("late", "1m"),
        expect![[
            "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ]],
    );
}

#[test]
fn the_emptier_node_wins_and_siblings_spread() {
    let mut snapshot = cluster([node("n1", "4", json!({})), node("n2", "4", json!({}))]);
    snapshot.place(Arc::new(asking("big", "2")), "n1");
    assert_eq!(bound(&snapshot, &asking("p", "1")), "n2");

    let mut snapshot = cluster((1..=3).map(|i| node(&format!("n{i}"), "4", json!({}))));
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true},
    ]}});
    let mut used = std::collections::BTreeSet::new();
    for name in ["a", "b", "c"] {
        let pod = pod(name, owner.clone());
        let node = bound(&snapshot, &pod);
        snapshot.place(Arc::new(pod), &node);
        used.insert(node);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn node_affinity_selects_and_prefers() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"zone": zone}}});
    let snapshot = cluster([
        node("n1", "4", zone("a")),
        node("n2", "4", zone("b")),
        node("n3", "4", zone("c")),
    ]);
    assert_eq!(bound(&snapshot, &pod("p", json!({"spec": {"nodeSelector": {"zone": "b"}}}))), "n2");
    let affinity = |operator: &str, values: Value| {
        json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]},
            ]},
        }}}})
    };
    let wanted = pod("p", affinity("NotIn", json!(["a", "b"])));
    assert_eq!(bound(&snapshot, &wanted), "n3");
    check_message(
        &snapshot,
        &pod("p", affinity("In", json!(["x"]))),
        expect![[
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ]],
    );
    let preferred = json!({"spec": {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference":
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}}],
    }}}});
    assert_eq!(bound(&snapshot, &pod("p", preferred)), "n1");
}

#[test]
fn taints_repel_and_tolerations_admit() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let snapshot = cluster([node("n1", "4", tainted)]);
    let tolerating = |toleration: Value| pod("p", json!({"spec": {"tolerations": [toleration]}}));
    for admitted in [
        json!({"key": "k", "value": "v"}),
        json!({"key": "k", "operator": "Exists"}),
        json!({"operator": "Exists"}),
        json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
    ] {
        assert_eq!(bound(&snapshot, &tolerating(admitted)), "n1");
    }
    for refused in [
        json!({"key": "k", "value": "w"}),
        json!({"key": "x", "operator": "Exists"}),
        json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}),
    ] {
        assert!(matches!(decide(&snapshot, &tolerating(refused)), Decision::Unschedulable(_)));
    }
}

#[test]
fn host_ports_clash_by_address_and_protocol() {
    let port = |name: &str, port: Value| {
        pod(name, json!({"spec": {"containers": [{"name": "c", "ports": [port]}]}}))
    };
    let tcp = |number: u16| json!({"containerPort": number, "hostPort": number});
    let mut snapshot = cluster([node("n1", "4", json!({}))]);
    snapshot.place(Arc::new(port("one", tcp(80))), "n1");
    check_message(
        &snapshot,
        &port("two", tcp(80)),
        expect![[
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ]],
    );
    let udp = json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"});
    assert_eq!(bound(&snapshot, &port("two", udp)), "n1");
    let one_address = json!({"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"});
    assert!(matches!(decide(&snapshot, &port("two", one_address)), Decision::Unschedulable(_)));
}

#[test]
fn required_spread_keeps_the_skew() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"zone": zone}}});
    let mut snapshot = cluster([node("n1", "4", zone("a")), node("n2", "4", zone("b"))]);
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    snapshot.place(Arc::new(pod("x", json!({}))), "n1");
    assert_eq!(bound(&snapshot, &pod("p", spread.clone())), "n2");
    snapshot.remove_node("n2");
    assert_eq!(bound(&snapshot, &pod("p", spread.clone())), "n1", "one zone has no skew");
    snapshot.set_node(node("n3", "1m", zone("b")));
    snapshot.set_node(node("n4", "4", json!({})));
    let mut wanting = spread;
    merge(
        &mut wanting,
        &json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "1"}}},
        ]}}),
    );
    check_message(
        &snapshot,
        &pod("p", wanting),
        expect![[
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label). preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        ]],
    );
}

fn term(kind: &str, app: &str) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}},
    ]}}}})
}

#[test]
fn pod_affinity_and_anti_affinity() {
    let mut snapshot = cluster([node("n1", "4", json!({})), node("n2", "4", json!({}))]);
    let db = json!({"metadata": {"labels": {"app": "db"}}});
    snapshot.place(Arc::new(pod("db", db)), "n2");
    assert_eq!(bound(&snapshot, &pod("p", term("podAffinity", "db"))), "n2");
    assert_eq!(bound(&snapshot, &pod("p", term("podAntiAffinity", "db"))), "n1");
    check_message(
        &snapshot,
        &pod("p", term("podAffinity", "none")),
        expect![[
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ]],
    );
    // The first of a group that wants its own company may go anywhere.
    let first = pod("first", term("podAffinity", "web"));
    let place = bound(&snapshot, &first);
    snapshot.place(Arc::new(first), &place);
    assert_eq!(bound(&snapshot, &pod("second", term("podAffinity", "web"))), place);
    // Anti-affinity of those already there counts too.
    let mut snapshot = cluster([node("n1", "4", json!({}))]);
    let mut loner = term("podAntiAffinity", "web");
    merge(&mut loner, &json!({"metadata": {"labels": {"app": "loner"}}}));
    snapshot.place(Arc::new(pod("loner", loner)), "n1");
    check_message(
        &snapshot,
        &pod("p", json!({})),
        expect![[
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ]],
    );
}

fn with_priority(mut pod: PodInfo, priority: i32) -> PodInfo {
    pod.priority = priority;
    pod
}

#[test]
fn the_least_important_pods_make_room() {
    let mut snapshot = cluster([node("n1", "2", json!({})), node("n2", "2", json!({}))]);
    snapshot.place(Arc::new(with_priority(asking("low", "1"), 1)), "n1");
    snapshot.place(Arc::new(with_priority(asking("mid", "1"), 5)), "n1");
    snapshot.place(Arc::new(with_priority(asking("high", "2"), 8)), "n2");
    let incoming = with_priority(asking("p", "1"), 10);
    let Decision::Unschedulable(diagnosis) = decide(&snapshot, &incoming) else { panic!("bound") };
    let eviction = diagnosis.eviction.clone().unwrap();
    let victims: Vec<_> = eviction.victims.iter().map(|victim| victim.key.name.as_str()).collect();
    assert_eq!((eviction.node.as_str(), victims), ("n1", vec!["low"]));
    assert_eq!(diagnosis.message(), "0/2 nodes are available: 2 Insufficient cpu.");

    let mut polite = incoming.clone();
    polite.may_preempt = false;
    let Decision::Unschedulable(diagnosis) = decide(&snapshot, &polite) else { panic!("bound") };
    assert_eq!(diagnosis.eviction, None);

    let budget = Budget {
        namespace: "a".into(),
        selector: objects::selector::Selector::parse("app=web").unwrap(),
        allowed: 0,
    };
    let Decision::Unschedulable(diagnosis) = schedule(&snapshot, &incoming, &[budget], 1) else {
        panic!("bound")
    };
    assert!(diagnosis.eviction.is_some(), "budgets are kept only if possible");
}

#[test]
fn room_kept_for_a_nominated_pod_is_not_given_away() {
    let mut snapshot = cluster([node("n1", "2", json!({}))]);
    snapshot.nominate(Arc::new(with_priority(asking("waiting", "2"), 10)), "n1");
    let lesser = with_priority(asking("p", "1"), 1);
    assert!(matches!(decide(&snapshot, &lesser), Decision::Unschedulable(_)));
    let greater = with_priority(asking("p", "1"), 11);
    assert_eq!(bound(&snapshot, &greater), "n1");
}

#[test]
fn claims_have_to_be_bound_and_reachable() {
    let mut snapshot = cluster([node("n1", "4", json!({})), node("n2", "4", json!({}))]);
    let claiming = pod(
        "p",
        json!({"spec": {"volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
        ]}}),
    );
    check_message(
        &snapshot,
        &claiming,
        expect![[r#"
        0/2 nodes are available: persistentvolumeclaim "c" not found. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."#]],
    );
    let claim = |volume: Value| {
        let claim =
            json!({"metadata": {"name": "c", "namespace": "a"}, "spec": {"volumeName": volume}});
        Arc::new(serde_json::from_value(claim).unwrap())
    };
    snapshot.claims.insert(ObjectKey::new("a", "c"), claim(Value::Null));
    check_message(
        &snapshot,
        &claiming,
        expect![[
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ]],
    );
    snapshot.claims.insert(ObjectKey::new("a", "c"), claim(json!("v1")));
    let volume = json!({"metadata": {"name": "v1"}, "spec": {"nodeAffinity": {"required":
        {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}}});
    snapshot.volumes.insert("v1".into(), Arc::new(serde_json::from_value(volume).unwrap()));
    assert_eq!(bound(&snapshot, &claiming), "n2");
}

proptest! {
    /// No sequence of decisions ever puts more on a node than it has, and each can be repeated.
    #[test]
    fn never_over_commits(
        cpus in proptest::collection::vec(1..8_u32, 1..5),
        asks in proptest::collection::vec(1..3000_u32, 1..60),
        seed in any::<u64>(),
    ) {
        let mut snapshot = cluster(cpus.iter().enumerate()
            .map(|(i, cpu)| node(&format!("n{i}"), &cpu.to_string(), json!({}))));
        for (i, millis) in asks.iter().enumerate() {
            let pod = asking(&format!("p{i}"), &format!("{millis}m"));
            let decision = schedule(&snapshot, &pod, &[], seed);
            prop_assert_eq!(&decision, &schedule(&snapshot, &pod, &[], seed));
            if let Decision::Bind { node, .. } = decision {
                snapshot.place(Arc::new(pod), &node);
            }
            for node in snapshot.nodes() {
                prop_assert!(node.requested.get("cpu") <= node.allocatable.get("cpu"));
                prop_assert!(node.pods.len() <= 10);
            }
        }
    }

    /// A pod that fits still fits when there is one more node.
    #[test]
    fn one_more_node_never_unschedules(
        cpus in proptest::collection::vec(1..8_u32, 1..5), more in 1..8_u32, ask in 1..8000_u32,
    ) {
        let mut snapshot = cluster(cpus.iter().enumerate()
            .map(|(i, cpu)| node(&format!("n{i}"), &cpu.to_string(), json!({}))));
        let pod = asking("p", &format!("{ask}m"));
        let before = matches!(decide(&snapshot, &pod), Decision::Bind { .. });
        snapshot.set_node(node("more", &more.to_string(), json!({})));
        let after = matches!(decide(&snapshot, &pod), Decision::Bind { .. });
        prop_assert!(after || !before);
    }

    /// The books are right after any sequence of placing and removing.
    #[test]
    fn the_books_balance(moves in proptest::collection::vec((0..6_u32, 0..3_u32, any::<bool>()), 0..60)) {
        let mut snapshot = cluster((0..3).map(|i| node(&format!("n{i}"), "8", json!({}))));
        for (pod, place, add) in moves {
            let pod = asking(&format!("p{pod}"), "100m");
            if add {
                snapshot.place(Arc::new(pod), &format!("n{place}"));
            } else {
                snapshot.remove_pod(&pod.key);
            }
            for node in snapshot.nodes() {
                let count = node.pods.len() as i64;
                prop_assert_eq!(node.requested.get("cpu"), count * 100);
                prop_assert_eq!(node.score_cpu_millis, count * 100);
            }
        }
    }
}
