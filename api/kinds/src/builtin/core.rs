//! Rows of the core group.

use super::row::{CDGPU, GPU, Row, SCALE, STATUS, sub};
use std::sync::Arc;

use crate::apps::ReplicationController;
use crate::columns;
use crate::core::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, PodTemplate, ResourceQuota, Secret, ServiceAccount,
};
use crate::pod::Pod;
use crate::service::Service;

/// The core group, in discovery order.
pub(crate) static ROWS: &[Row] = &[
    Row::new("v1", "Binding", "bindings", "binding").verbs(&["create"]),
    Row::new("v1", "ComponentStatus", "componentstatuses", "componentstatus")
        .cluster()
        .verbs(&["get", "list"])
        .short(&["cs"])
        .columns(columns::COMPONENTSTATUSES),
    Row::new("v1", "ConfigMap", "configmaps", "configmap")
        .short(&["cm"])
        .columns(columns::CONFIGMAPS)
        .behaves(|| Arc::new(ConfigMap)),
    Row::new("v1", "Endpoints", "endpoints", "endpoints")
        .short(&["ep"])
        .columns(columns::ENDPOINTS)
        .behaves(|| Arc::new(Endpoints)),
    Row::new("v1", "Event", "events", "event")
        .short(&["ev"])
        .columns(columns::EVENTS)
        .behaves(|| Arc::new(Event(false))),
    Row::new("v1", "LimitRange", "limitranges", "limitrange")
        .short(&["limits"])
        .columns(columns::LIMITRANGES)
        .behaves(|| Arc::new(LimitRange)),
    Row::new("v1", "Namespace", "namespaces", "namespace")
        .cluster()
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .short(&["ns"])
        .subresources(&[sub("finalize", &["update"]), STATUS])
        .columns(columns::NAMESPACES)
        .behaves(|| Arc::new(Namespace)),
    Row::new("v1", "Node", "nodes", "node")
        .cluster()
        .short(&["no"])
        .subresources(&[sub("proxy", CDGPU).of("", "", "NodeProxyOptions"), STATUS])
        .columns(columns::NODES)
        .behaves(|| Arc::new(Node)),
    Row::new("v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim")
        .short(&["pvc"])
        .subresources(&[STATUS])
        .columns(columns::PERSISTENTVOLUMECLAIMS)
        .behaves(|| Arc::new(PersistentVolumeClaim)),
    Row::new("v1", "PersistentVolume", "persistentvolumes", "persistentvolume")
        .cluster()
        .short(&["pv"])
        .subresources(&[STATUS])
        .columns(columns::PERSISTENTVOLUMES)
        .behaves(|| Arc::new(PersistentVolume)),
    Row::new("v1", "Pod", "pods", "pod")
        .short(&["po"])
        .categories(&["all"])
        .subresources(&[
            sub("attach", &["create", "get"]).of("", "", "PodAttachOptions"),
            sub("binding", &["create"]).of("", "", "Binding"),
            sub("ephemeralcontainers", GPU),
            sub("eviction", &["create"]).of("policy", "v1", "Eviction"),
            sub("exec", &["create", "get"]).of("", "", "PodExecOptions"),
            sub("log", &["get"]),
            sub("portforward", &["create", "get"]).of("", "", "PodPortForwardOptions"),
            sub("proxy", CDGPU).of("", "", "PodProxyOptions"),
            sub("resize", GPU),
            STATUS,
        ])
        .columns(columns::PODS)
        .behaves(|| Arc::new(Pod)),
    Row::new("v1", "PodTemplate", "podtemplates", "podtemplate")
        .columns(columns::PODTEMPLATES)
        .behaves(|| Arc::new(PodTemplate)),
    Row::new("v1", "ReplicationController", "replicationcontrollers", "replicationcontroller")
        .short(&["rc"])
        .categories(&["all"])
        .subresources(&[SCALE, STATUS])
        .columns(columns::REPLICATIONCONTROLLERS)
        .behaves(|| Arc::new(ReplicationController)),
    Row::new("v1", "ResourceQuota", "resourcequotas", "resourcequota")
        .short(&["quota"])
        .subresources(&[STATUS])
        .columns(columns::RESOURCEQUOTAS)
        .behaves(|| Arc::new(ResourceQuota)),
    Row::new("v1", "Secret", "secrets", "secret")
        .columns(columns::SECRETS)
        .behaves(|| Arc::new(Secret)),
    Row::new("v1", "ServiceAccount", "serviceaccounts", "serviceaccount")
        .short(&["sa"])
        .subresources(&[sub("token", &["create"]).of(
            "authentication.k8s.io",
            "v1",
            "TokenRequest",
        )])
        .columns(columns::SERVICEACCOUNTS)
        .behaves(|| Arc::new(ServiceAccount)),
    Row::new("v1", "Service", "services", "service")
        .short(&["svc"])
        .categories(&["all"])
        .subresources(&[sub("proxy", CDGPU).of("", "", "ServiceProxyOptions"), STATUS])
        .columns(columns::SERVICES)
        .behaves(|| Arc::new(Service)),
];
