//! Pods.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/pod`, v1.36.

pub(crate) mod affinity;
mod cells;
mod containers;
pub(crate) mod defaults;
mod disks;
mod handlers;
mod overlaps;
pub(crate) mod printed;
mod projected;
pub(crate) mod resources;
mod security;
mod sources;
pub(crate) mod spec;
mod status;
mod update;
mod volumes;
pub(crate) mod warnings;
mod windows;

pub(crate) use affinity::{TAINT_EFFECTS, check_node_selector};
pub(crate) use disks::check as check_disk;
pub(crate) use disks::{check_csi_driver_name, check_iscsi_pv};
pub(crate) use volumes::check_host_path;

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, facts, names};
use serde_json::{Value, json};

use crate::edit::{Edit, restore, restore_meta_for_status, set_generation, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part, same};

/// Behaviour of pods.
pub(crate) struct Pod;

impl Behaviour for Pod {
    fn default(&self, pod: &mut Value) {
        defaults::pod(pod);
    }

    fn prepare_create(&self, pod: &mut Value, _context: &WriteContext<'_>) {
        set_generation(pod, 1);
        let mut status = json!({"phase": "Pending", "qosClass": facts::qos_class(pod)});
        if part(pod, &["spec"]).is_set("schedulingGates") {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null,
                "lastTransitionTime": null,
            }]);
        }
        pod.set_at(&["status"], status);
        // Negative ones were let through once, and were treated so.
        if pod.i64_at(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|secs| secs < 0) {
            pod.set_at(&["spec", "terminationGracePeriodSeconds"], json!(1));
        }
        merge_label_keys(pod);
        copy_apparmor_annotations(pod);
        drop_disabled(pod);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => prepare_status(new, old),
            // Sets what nothing else may: the node, and the condition that tells of it.
            "binding" => {}
            "ephemeralcontainers" => {
                let list = new.at(&["spec", "ephemeralContainers"]).cloned();
                restore(new, old, &["spec"]);
                restore(new, old, &["status"]);
                restore_meta_for_status(new, old);
                match list {
                    Some(list) => new.set_at(&["spec", "ephemeralContainers"], list),
                    None => {
                        new.remove_at(&["spec", "ephemeralContainers"]);
                    }
                }
                step_generation(new, old, !same(part(new, &["spec"]), part(old, &["spec"])));
            }
            "resize" => {
                prepare_resize(new, old);
                step_generation(new, old, !same(part(new, &["spec"]), part(old, &["spec"])));
            }
            _ => {
                restore(new, old, &["status"]);
                step_generation(new, old, !same(part(new, &["spec"]), part(old, &["spec"])));
            }
        }
    }

    fn validate(&self, pod: &Value, errors: &mut FieldErrors) {
        spec::check_create(pod, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        match context.subresource {
            "status" => status::check_update(new, old, errors),
            "binding" => {}
            "ephemeralcontainers" => update::check_ephemeral(new, old, errors),
            "resize" => update::check_resize(new, old, errors),
            _ => update::check_update(new, old, errors),
        }
    }

    fn warnings(&self, pod: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut out = Vec::new();
        let faults = names::dns1123_label(pod.name());
        if !faults.is_empty() {
            out.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in \
                 surprising behavior; a DNS label is recommended: [{}]",
                faults.join(" ")
            ));
        }
        out.extend(apparmor_warnings(pod));
        out.extend(warnings::of(pod, &FieldPath::root()));
        out
    }

    fn fields(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let (spec, status) = (part(pod, &["spec"]), part(pod, &["status"]));
        let text = |value: &str| value.to_string();
        let ip = status.items("podIPs").first().map_or("", |ip| ip.text("ip"));
        vec![
            ("spec.nodeName", text(spec.text("nodeName"))),
            ("spec.restartPolicy", text(spec.text("restartPolicy"))),
            ("spec.schedulerName", text(spec.text("schedulerName"))),
            ("spec.serviceAccountName", text(spec.text("serviceAccountName"))),
            ("spec.hostNetwork", spec.flag("hostNetwork").to_string()),
            ("status.phase", text(status.text("phase"))),
            ("status.podIP", text(ip)),
            ("status.nominatedNodeName", text(status.text("nominatedNodeName"))),
        ]
    }

    fn cells(&self, pod: &Value, now: Timestamp) -> Vec<Cell> {
        cells::cells(pod, now)
    }

    /// A pod without a node, or one that has ended, goes at once; a negative wish means 1.
    fn delete_grace_secs(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let wanted =
            asked.or_else(|| pod.i64_at(&["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
        let nothing_to_stop =
            pod.str_at(&["spec", "nodeName"]).is_empty() || facts::is_terminal(pod);
        Some(match wanted {
            _ if nothing_to_stop => 0,
            secs if secs < 0 => 1,
            secs => secs,
        })
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        match subresource {
            "" => &["status"],
            "status" => &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
            _ => &[],
        }
    }
}

/// Drops what features that are off by default would bring.
fn drop_disabled(pod: &mut Value) {
    for volume in pod.map_mut("spec").items_mut("volumes") {
        let Some(projected) = volume.field_mut("projected") else { continue };
        for source in projected.items_mut("sources") {
            source.drop_field("clusterTrustBundle");
            source.drop_field("podCertificate");
        }
    }
}

fn prepare_status(new: &mut Value, old: &Value) {
    restore(new, old, &["spec"]);
    restore(new, old, &["metadata", "deletionTimestamp"]);
    restore(new, old, &["metadata", "ownerReferences"]);
    restore(new, old, &["metadata", "generation"]);
    let before = part(old, &["status"]);
    let status = new.map_mut("status");
    for key in ["qosClass", "observedGeneration"] {
        if let Some(value) = before.field(key) {
            status.default_zero(key, value.clone());
        }
    }
    for condition in status.items_mut("conditions") {
        let was =
            before.items("conditions").iter().find(|c| c.text("type") == condition.text("type"));
        if let Some(observed) = was.and_then(|was| was.field("observedGeneration")) {
            condition.default_zero("observedGeneration", observed.clone());
        }
    }
}

/// Keeps of a resize only the resources and resize policies, as long as the containers match.
fn prepare_resize(new: &mut Value, old: &Value) {
    let lists = ["containers", "initContainers"];
    let (now, before) = (part(new, &["spec"]).clone(), part(old, &["spec"]));
    if lists.iter().any(|list| now.items(list).len() != before.items(list).len()) {
        return;
    }
    let mut spec = before.clone();
    for list in lists {
        let names = |spec: &Value| -> Vec<String> {
            spec.items(list).iter().map(|container| container.text("name").into()).collect()
        };
        if names(&now) != names(before) {
            restore(&mut spec, &now, &[list]);
            continue;
        }
        for (container, wanted) in spec.items_mut(list).iter_mut().zip(now.items(list)) {
            restore(container, wanted, &["resources"]);
            restore(container, wanted, &["resizePolicy"]);
        }
    }
    restore(&mut spec, &now, &["resources"]);
    new.set_at(&["spec"], spec);
    restore(new, old, &["status"]);
    restore_meta_for_status(new, old);
}

/// Adds what `matchLabelKeys` and `mismatchLabelKeys` say of this pod to the selectors.
fn merge_label_keys(pod: &mut Value) {
    let labels = pod.labels().cloned().unwrap_or_default();
    let merge = |term: &mut Value| {
        if term.field("labelSelector").is_none() {
            return;
        }
        for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys: Vec<String> = term.texts(list).into_iter().map(String::from).collect();
            for key in keys {
                let Some(value) = labels.get(&key) else { continue };
                let rule = json!({"key": key, "operator": operator, "values": [value]});
                let selector = term.map_mut("labelSelector");
                selector.default_to("matchExpressions", json!([]));
                if let Some(rules) = selector["matchExpressions"].as_array_mut() {
                    rules.push(rule);
                }
            }
        }
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.at_mut(&["affinity", kind]) else { continue };
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        affinity.items_mut(required).iter_mut().for_each(merge);
        for weighted in affinity.items_mut("preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                merge(term);
            }
        }
    }
    spec.items_mut("topologySpreadConstraints").iter_mut().for_each(merge);
}

/// The field that an old AppArmor annotation stands for.
fn apparmor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let file = other.strip_prefix("localhost/").filter(|file| !file.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// Sets the AppArmor fields that only old annotations speak of.
fn copy_apparmor_annotations(pod: &mut Value) {
    if pod.str_at(&["spec", "os", "name"]) == "windows" {
        return;
    }
    let annotations = part(pod, &["metadata", "annotations"]).clone();
    let pod_profile = pod.at(&["spec", "securityContext", "appArmorProfile"]).cloned();
    for list in resources::CONTAINER_LISTS {
        for container in pod.map_mut("spec").items_mut(list) {
            let key = format!("{}{}", spec::APPARMOR_PREFIX, container.text("name"));
            let own = container.at(&["securityContext", "appArmorProfile"]).is_some();
            let profile = annotations.text_opt(&key).and_then(apparmor_profile);
            if let Some(profile) =
                profile.filter(|profile| !own && Some(profile) != pod_profile.as_ref())
            {
                container.set_at(&["securityContext", "appArmorProfile"], profile);
            }
        }
    }
}

fn apparmor_warnings(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let path = FieldPath::new("metadata").child("annotations");
    security::each_container(part(pod, &["spec"]), &FieldPath::root(), |container, _| {
        let key = format!("{}{}", spec::APPARMOR_PREFIX, container.text("name"));
        if part(pod, &["metadata", "annotations"]).field(&key).is_some() {
            let text = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            out.push(format!("{}: {text}", path.key(&key)));
        }
    });
    out
}
