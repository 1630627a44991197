use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn pod(namespace: &str, name: &str, node: &str, revision: u64) -> Pod {
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            resource_version: Some(revision.to_string()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { node_name: Some(node.into()), ..PodSpec::default() }),
        status: None,
    }
}

fn by_node() -> Vec<Index<Pod>> {
    vec![Index::new("node", |pod: &Pod| {
        pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
    })]
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|pod| pod.key().to_string()).collect()
}

#[test]
fn an_index_follows_moves_and_deletes() {
    let (view, writer) = View::new(by_node());
    writer.apply(pod("a", "x", "n1", 1));
    writer.apply(pod("b", "y", "n1", 2));
    assert_eq!(names(&view.by_index("node", "n1")), ["a/x", "b/y"]);
    writer.apply(pod("a", "x", "n2", 3));
    assert_eq!(names(&view.by_index("node", "n1")), ["b/y"]);
    assert_eq!(names(&view.by_index("node", "n2")), ["a/x"]);
    writer.remove(ObjectKey::new("a", "x"), Revision(4));
    assert!(view.by_index("node", "n2").is_empty());
    assert_eq!(view.revision(), Revision(4));
}

#[test]
fn a_namespace_does_not_leak_into_its_neighbours() {
    let pods = [pod("a", "x", "", 1), pod("a-b", "y", "", 2), pod("b", "z", "", 3)];
    let view = View::fixed(pods, vec![]);
    assert_eq!(names(&view.list_in("a")), ["a/x"]);
    assert_eq!(names(&view.list_in("a-b")), ["a-b/y"]);
    assert!(view.list_in("c").is_empty());
}

#[tokio::test]
async fn a_replaced_list_announces_only_differences() {
    let (view, writer) = View::new(by_node());
    writer.apply(pod("a", "stays", "n1", 1));
    writer.apply(pod("a", "goes", "n1", 2));
    assert!(!view.synced());
    let mut changes = view.changes();
    assert!(matches!(changes.next().await, Some(Change::Resync)));
    let list = vec![Arc::new(pod("a", "stays", "n1", 1)), Arc::new(pod("a", "comes", "n1", 3))];
    writer.replace(list, Revision(9));
    let mut seen = Vec::new();
    for _ in 0..2 {
        if let Some(Change::Object { key, old, new }) = changes.next().await {
            seen.push((key.name, old.is_some(), new.is_some()));
        }
    }
    assert_eq!(seen, [("goes".into(), true, false), ("comes".into(), false, true)]);
    assert!(view.synced());
    assert_eq!(view.revision(), Revision(9));
}

#[tokio::test]
async fn a_slow_reader_is_told_to_resync() {
    let (view, writer) = View::new(vec![]);
    let mut changes = view.changes();
    assert!(matches!(changes.next().await, Some(Change::Resync)));
    for revision in 1..=(CHANGES_MAX as u64 + 2) {
        writer.apply(pod("a", "x", "", revision));
    }
    assert!(matches!(changes.next().await, Some(Change::Resync)));
    assert!(matches!(changes.next().await, Some(Change::Object { .. })));
}
