//! Rows of the named groups, in discovery order.

use super::row::{GPU, Row, SCALE, STATUS, sub};
use std::sync::Arc;

use crate::admissionregistration::{Policy, PolicyBinding, Way, WebhookConfiguration};
use crate::apiservice::ApiService;
use crate::apps::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use crate::autoscaling::{self, HorizontalPodAutoscaler};
use crate::batch::{CronJob, Job};
use crate::columns;
use crate::core::{Event, event_to_core, event_to_events};
use crate::crd::CustomResourceDefinition;
use crate::csr::CertificateSigningRequest;
use crate::disruption::PodDisruptionBudget;
use crate::endpointslice::EndpointSlice;
use crate::flowcontrol::{FlowSchema, PriorityLevel};
use crate::kind::{Conversion, Scope};
use crate::lease::Lease;
use crate::networking::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR};
use crate::priorityclass::PriorityClass;
use crate::rbac::{Role, RoleBinding};
use crate::resource::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use crate::runtimeclass::RuntimeClass;
use crate::storage::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};

const EVENTS_CONVERSION: Conversion =
    Conversion { to_storage: event_to_core, from_storage: event_to_events };

const HPA_CONVERSION: Conversion =
    Conversion { to_storage: autoscaling::to_v2, from_storage: autoscaling::from_v2 };

/// Every named group, in discovery order, and its rows.
pub(crate) static GROUPS: &[(&str, &[Row])] = &[
    ("apiregistration.k8s.io", APIREGISTRATION),
    ("apps", APPS),
    ("events.k8s.io", EVENTS),
    ("authentication.k8s.io", AUTHENTICATION),
    ("authorization.k8s.io", AUTHORIZATION),
    ("autoscaling", AUTOSCALING),
    ("batch", BATCH),
    ("certificates.k8s.io", CERTIFICATES),
    ("networking.k8s.io", NETWORKING),
    ("policy", POLICY),
    ("rbac.authorization.k8s.io", RBAC),
    ("storage.k8s.io", STORAGE),
    ("admissionregistration.k8s.io", ADMISSIONREGISTRATION),
    ("apiextensions.k8s.io", APIEXTENSIONS),
    ("scheduling.k8s.io", SCHEDULING),
    ("coordination.k8s.io", COORDINATION),
    ("node.k8s.io", NODE),
    ("discovery.k8s.io", DISCOVERY),
    ("resource.k8s.io", RESOURCE),
    ("flowcontrol.apiserver.k8s.io", FLOWCONTROL),
];

static APIREGISTRATION: &[Row] = &[Row::new("v1", "APIService", "apiservices", "apiservice")
    .cluster()
    .categories(&["api-extensions"])
    .subresources(&[STATUS])
    .columns(columns::APISERVICES)
    .behaves(|| Arc::new(ApiService))];

static APPS: &[Row] = &[
    Row::new("v1", "ControllerRevision", "controllerrevisions", "controllerrevision")
        .columns(columns::CONTROLLERREVISIONS)
        .behaves(|| Arc::new(ControllerRevision)),
    Row::new("v1", "DaemonSet", "daemonsets", "daemonset")
        .short(&["ds"])
        .categories(&["all"])
        .subresources(&[STATUS])
        .columns(columns::DAEMONSETS)
        .behaves(|| Arc::new(DaemonSet)),
    Row::new("v1", "Deployment", "deployments", "deployment")
        .short(&["deploy"])
        .categories(&["all"])
        .subresources(&[SCALE, STATUS])
        .columns(columns::DEPLOYMENTS)
        .behaves(|| Arc::new(Deployment)),
    Row::new("v1", "ReplicaSet", "replicasets", "replicaset")
        .short(&["rs"])
        .categories(&["all"])
        .subresources(&[SCALE, STATUS])
        .columns(columns::REPLICASETS)
        .behaves(|| Arc::new(ReplicaSet)),
    Row::new("v1", "StatefulSet", "statefulsets", "statefulset")
        .short(&["sts"])
        .categories(&["all"])
        .subresources(&[SCALE, STATUS])
        .columns(columns::STATEFULSETS)
        .behaves(|| Arc::new(StatefulSet)),
];

static EVENTS: &[Row] = &[Row::new("v1", "Event", "events", "event")
    .short(&["ev"])
    .columns(columns::EVENTS)
    .behaves(|| Arc::new(Event(true)))
    .stored_as("", "v1", EVENTS_CONVERSION)];

static AUTHENTICATION: &[Row] = &[
    Row::new("v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview")
        .cluster()
        .verbs(&["create"]),
    Row::new("v1", "TokenReview", "tokenreviews", "tokenreview").cluster().verbs(&["create"]),
];

static AUTHORIZATION: &[Row] = &[
    Row::new(
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
    )
    .verbs(&["create"]),
    Row::new(
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    )
    .cluster()
    .verbs(&["create"]),
    Row::new("v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview")
        .cluster()
        .verbs(&["create"]),
    Row::new("v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview")
        .cluster()
        .verbs(&["create"]),
];

static AUTOSCALING: &[Row] = &[
    Row::new(
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
    )
    .short(&["hpa"])
    .categories(&["all"])
    .subresources(&[STATUS])
    .columns(columns::HORIZONTALPODAUTOSCALERS)
    .behaves(|| Arc::new(HorizontalPodAutoscaler { v1: false })),
    Row::new(
        "v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
    )
    .short(&["hpa"])
    .categories(&["all"])
    .subresources(&[STATUS])
    .columns(columns::HORIZONTALPODAUTOSCALERS)
    .behaves(|| Arc::new(HorizontalPodAutoscaler { v1: true }))
    .stored_as("autoscaling", "v2", HPA_CONVERSION),
];

static BATCH: &[Row] = &[
    Row::new("v1", "CronJob", "cronjobs", "cronjob")
        .short(&["cj"])
        .categories(&["all"])
        .subresources(&[STATUS])
        .columns(columns::CRONJOBS)
        .behaves(|| Arc::new(CronJob)),
    Row::new("v1", "Job", "jobs", "job")
        .categories(&["all"])
        .subresources(&[STATUS])
        .columns(columns::JOBS)
        .behaves(|| Arc::new(Job)),
];

static CERTIFICATES: &[Row] = &[Row::new(
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "certificatesigningrequest",
)
.cluster()
.short(&["csr"])
.subresources(&[sub("approval", GPU), STATUS])
.columns(columns::CERTIFICATESIGNINGREQUESTS)
.behaves(|| Arc::new(CertificateSigningRequest))];

static NETWORKING: &[Row] = &[
    Row::new("v1", "IngressClass", "ingressclasses", "ingressclass")
        .cluster()
        .columns(columns::INGRESSCLASSES)
        .behaves(|| Arc::new(IngressClass)),
    Row::new("v1", "Ingress", "ingresses", "ingress")
        .short(&["ing"])
        .subresources(&[STATUS])
        .columns(columns::INGRESSES)
        .behaves(|| Arc::new(Ingress)),
    Row::new("v1", "IPAddress", "ipaddresses", "ipaddress")
        .cluster()
        .short(&["ip"])
        .columns(columns::IPADDRESSES)
        .behaves(|| Arc::new(IPAddress)),
    Row::new("v1", "NetworkPolicy", "networkpolicies", "networkpolicy")
        .short(&["netpol"])
        .columns(columns::NETWORKPOLICIES)
        .behaves(|| Arc::new(NetworkPolicy)),
    Row::new("v1", "ServiceCIDR", "servicecidrs", "servicecidr")
        .cluster()
        .subresources(&[STATUS])
        .columns(columns::SERVICECIDRS)
        .behaves(|| Arc::new(ServiceCIDR)),
];

static POLICY: &[Row] =
    &[Row::new("v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget")
        .short(&["pdb"])
        .subresources(&[STATUS])
        .columns(columns::PODDISRUPTIONBUDGETS)
        .behaves(|| Arc::new(PodDisruptionBudget))];

static RBAC: &[Row] = &[
    Row::new("v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding")
        .cluster()
        .columns(columns::CLUSTERROLEBINDINGS)
        .behaves(|| Arc::new(RoleBinding(Scope::Cluster))),
    Row::new("v1", "ClusterRole", "clusterroles", "clusterrole")
        .cluster()
        .columns(columns::CLUSTERROLES)
        .behaves(|| Arc::new(Role(Scope::Cluster))),
    Row::new("v1", "RoleBinding", "rolebindings", "rolebinding")
        .columns(columns::ROLEBINDINGS)
        .behaves(|| Arc::new(RoleBinding(Scope::Namespaced))),
    Row::new("v1", "Role", "roles", "role")
        .columns(columns::ROLES)
        .behaves(|| Arc::new(Role(Scope::Namespaced))),
];

static STORAGE: &[Row] = &[
    Row::new("v1", "CSIDriver", "csidrivers", "csidriver")
        .cluster()
        .columns(columns::CSIDRIVERS)
        .behaves(|| Arc::new(CSIDriver)),
    Row::new("v1", "CSINode", "csinodes", "csinode")
        .cluster()
        .columns(columns::CSINODES)
        .behaves(|| Arc::new(CSINode)),
    Row::new("v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity")
        .columns(columns::CSISTORAGECAPACITIES)
        .behaves(|| Arc::new(CSIStorageCapacity)),
    Row::new("v1", "StorageClass", "storageclasses", "storageclass")
        .cluster()
        .short(&["sc"])
        .columns(columns::STORAGECLASSES)
        .behaves(|| Arc::new(StorageClass)),
    Row::new("v1", "VolumeAttachment", "volumeattachments", "volumeattachment")
        .cluster()
        .subresources(&[STATUS])
        .columns(columns::VOLUMEATTACHMENTS)
        .behaves(|| Arc::new(VolumeAttachment)),
    Row::new("v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass")
        .cluster()
        .short(&["vac"])
        .columns(columns::VOLUMEATTRIBUTESCLASSES)
        .behaves(|| Arc::new(VolumeAttributesClass)),
];

static ADMISSIONREGISTRATION: &[Row] = &[
    Row::new(
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicy",
    )
    .cluster()
    .categories(&["api-extensions"])
    .columns(columns::MUTATINGADMISSIONPOLICIES)
    .behaves(|| Arc::new(Policy(Way::Mutating))),
    Row::new(
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicybinding",
    )
    .cluster()
    .categories(&["api-extensions"])
    .columns(columns::MUTATINGADMISSIONPOLICYBINDINGS)
    .behaves(|| Arc::new(PolicyBinding(Way::Mutating))),
    Row::new(
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration",
    )
    .cluster()
    .categories(&["api-extensions"])
    .columns(columns::MUTATINGWEBHOOKCONFIGURATIONS)
    .behaves(|| Arc::new(WebhookConfiguration(Way::Mutating))),
    Row::new(
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        "validatingadmissionpolicy",
    )
    .cluster()
    .categories(&["api-extensions"])
    .subresources(&[STATUS])
    .columns(columns::VALIDATINGADMISSIONPOLICIES)
    .behaves(|| Arc::new(Policy(Way::Validating))),
    Row::new(
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
    )
    .cluster()
    .categories(&["api-extensions"])
    .columns(columns::VALIDATINGADMISSIONPOLICYBINDINGS)
    .behaves(|| Arc::new(PolicyBinding(Way::Validating))),
    Row::new(
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
    )
    .cluster()
    .categories(&["api-extensions"])
    .columns(columns::VALIDATINGWEBHOOKCONFIGURATIONS)
    .behaves(|| Arc::new(WebhookConfiguration(Way::Validating))),
];

static APIEXTENSIONS: &[Row] = &[Row::new(
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "customresourcedefinition",
)
.cluster()
.short(&["crd", "crds"])
.categories(&["api-extensions"])
.subresources(&[STATUS])
.columns(columns::CUSTOMRESOURCEDEFINITIONS)
.behaves(|| Arc::new(CustomResourceDefinition))];

static SCHEDULING: &[Row] = &[Row::new("v1", "PriorityClass", "priorityclasses", "priorityclass")
    .cluster()
    .short(&["pc"])
    .columns(columns::PRIORITYCLASSES)
    .behaves(|| Arc::new(PriorityClass))];

static COORDINATION: &[Row] = &[Row::new("v1", "Lease", "leases", "lease")
    .columns(columns::LEASES)
    .behaves(|| Arc::new(Lease))];

static NODE: &[Row] = &[Row::new("v1", "RuntimeClass", "runtimeclasses", "runtimeclass")
    .cluster()
    .columns(columns::RUNTIMECLASSES)
    .behaves(|| Arc::new(RuntimeClass))];

static DISCOVERY: &[Row] = &[Row::new("v1", "EndpointSlice", "endpointslices", "endpointslice")
    .columns(columns::ENDPOINTSLICES)
    .behaves(|| Arc::new(EndpointSlice))];

static RESOURCE: &[Row] = &[
    Row::new("v1", "DeviceClass", "deviceclasses", "deviceclass")
        .cluster()
        .columns(columns::DEVICECLASSES)
        .behaves(|| Arc::new(DeviceClass)),
    Row::new("v1", "ResourceClaim", "resourceclaims", "resourceclaim")
        .subresources(&[STATUS])
        .columns(columns::RESOURCECLAIMS)
        .behaves(|| Arc::new(ResourceClaim)),
    Row::new("v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate")
        .columns(columns::RESOURCECLAIMTEMPLATES)
        .behaves(|| Arc::new(ResourceClaimTemplate)),
    Row::new("v1", "ResourceSlice", "resourceslices", "resourceslice")
        .cluster()
        .columns(columns::RESOURCESLICES)
        .behaves(|| Arc::new(ResourceSlice)),
];

static FLOWCONTROL: &[Row] = &[
    Row::new("v1", "FlowSchema", "flowschemas", "flowschema")
        .cluster()
        .subresources(&[STATUS])
        .columns(columns::FLOWSCHEMAS)
        .behaves(|| Arc::new(FlowSchema)),
    Row::new(
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        "prioritylevelconfiguration",
    )
    .cluster()
    .subresources(&[STATUS])
    .columns(columns::PRIORITYLEVELCONFIGURATIONS)
    .behaves(|| Arc::new(PriorityLevel)),
];
