//! Collects the descriptions of the built-in types and their fields, as `kubectl explain` shows
//! them, from the documentation that `k8s-openapi` carries: one compressed text, embedded in the
//! binary and unpacked only while a schema is being published.
//!
//! Lines are `NAME<tab>DESCRIPTION` for a type and `<tab>FIELD<tab>DESCRIPTION` for its fields, with
//! an exclamation mark before the names of required ones.

use std::path::Path;

use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::Value;

/// Visits types and everything they are made of.
macro_rules! visit {
    (@one $generator:ident [$($module:tt)*] $kind:ident) => {
        $generator.subschema_for::<k8s_openapi::$($module)*::$kind>();
    };
    ($generator:ident; $($module:tt {$($kind:ident),*},)*) => {
        $($(visit!(@one $generator $module $kind);)*)*
    };
}

fn main() {
    let mut generator = SchemaSettings::draft07().into_generator();
    visit! { generator;
        [api::core::v1] {Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount},
        [kube_aggregator::pkg::apis::apiregistration::v1] {APIService},
        [api::apps::v1] {ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        [api::events::v1] {Event},
        [api::authentication::v1] {SelfSubjectReview, TokenRequest, TokenReview},
        [api::authorization::v1] {LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview},
        [api::autoscaling::v2] {HorizontalPodAutoscaler},
        [api::autoscaling::v1] {HorizontalPodAutoscaler, Scale},
        [api::batch::v1] {CronJob, Job},
        [api::certificates::v1] {CertificateSigningRequest},
        [api::networking::v1] {IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        [api::policy::v1] {Eviction, PodDisruptionBudget},
        [api::rbac::v1] {ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        [api::storage::v1] {CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass},
        [api::admissionregistration::v1] {MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration},
        [apiextensions_apiserver::pkg::apis::apiextensions::v1] {CustomResourceDefinition},
        [api::scheduling::v1] {PriorityClass},
        [api::coordination::v1] {Lease},
        [api::node::v1] {RuntimeClass},
        [api::discovery::v1] {EndpointSlice},
        [api::resource::v1] {DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
        [api::flowcontrol::v1] {FlowSchema, PriorityLevelConfiguration},
    }
    let mut text = String::new();
    for (name, schema) in generator.take_definitions(true) {
        describe(&name, &schema, &mut text);
    }
    let folder = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let packed = zstd::encode_all(text.as_bytes(), 19).expect("memory can be compressed");
    std::fs::write(Path::new(&folder).join("descriptions.zst"), packed)
        .expect("OUT_DIR can be written");
    println!("cargo::rerun-if-changed=build.rs");
}

fn describe(name: &str, schema: &Value, text: &mut String) {
    let of = |schema: &Value| {
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        description.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', " ")
    };
    text.push_str(&format!("{name}\t{}\n", of(schema)));
    let required = schema.get("required").and_then(Value::as_array);
    for (field, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        let needed = required.is_some_and(|all| all.iter().any(|one| one == field));
        let mark = if needed { "!" } else { "" };
        text.push_str(&format!("\t{mark}{field}\t{}\n", of(schema)));
    }
}
