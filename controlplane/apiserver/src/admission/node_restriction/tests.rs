use serde_json::json;

use super::{forbidden_labels, referred};

#[test]
fn nodes_change_only_their_own_labels() {
    for (label, forbidden) in [
        ("example.com/a", false),
        ("plain", false),
        ("kubernetes.io/hostname", false),
        ("node.kubernetes.io/anything", false),
        ("x.kubelet.kubernetes.io/a", false),
        ("node-role.kubernetes.io/control-plane", true),
        ("other.k8s.io/a", true),
        ("node-restriction.kubernetes.io/a", true),
        ("x.node-restriction.kubernetes.io/a", true),
        ("notkubernetes.io/a", false),
    ] {
        let labels = json!({label: "v"});
        let found = forbidden_labels(labels.as_object(), None);
        assert_eq!(!found.is_empty(), forbidden, "{label}");
        assert!(forbidden_labels(labels.as_object(), labels.as_object()).is_empty(), "{label}");
        let gone = forbidden_labels(None, labels.as_object());
        assert_eq!(!gone.is_empty(), forbidden, "{label} removed");
    }
}

#[test]
fn mirror_pods_refer_to_nothing() {
    for (spec, found) in [
        (
            json!({"volumes": [{"hostPath": {}}, {"projected": {"sources": [{"downwardAPI": {}}]}}]}),
            None,
        ),
        (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
        (json!({"containers": [{"envFrom": [{"secretRef": {}}]}]}), Some("secrets")),
        (
            json!({"initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {}}}]}]}),
            Some("configmaps"),
        ),
        (
            json!({"volumes": [{"projected": {"sources": [{"secret": {}}]}}]}),
            Some("secrets (via projected volumes)"),
        ),
        (json!({"volumes": [{"persistentVolumeClaim": {}}]}), Some("persistentvolumeclaims")),
    ] {
        assert_eq!(referred(&json!({"spec": spec})), found, "{spec}");
    }
}
