//! Nodes.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, conditions, names};
use serde_json::{Value, json};

use crate::cells::{self, NONE, UNKNOWN};
use crate::check;
use crate::edit::{Edit, default_resources, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod::TAINT_EFFECTS;
use crate::pod::resources::check_amount;
use crate::read::{Read, part};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// Behaviour of Nodes.
pub(crate) struct Node;

impl Behaviour for Node {
    fn default(&self, object: &mut Value) {
        default_pod_cidrs(object.map_mut("spec"));
        let status = object.map_mut("status");
        if status.field("allocatable").is_none()
            && let Some(capacity) = status.field("capacity").cloned()
        {
            status.set_at(&["allocatable"], capacity);
        }
        default_resources(status.field_mut("capacity"));
        default_resources(status.field_mut("allocatable"));
        let endpoint = status.map_mut("daemonEndpoints").map_mut("kubeletEndpoint");
        endpoint.default_to("Port", 0);
        let info = status.map_mut("nodeInfo");
        for key in [
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "containerRuntimeVersion",
            "kubeletVersion",
            "kubeProxyVersion",
            "operatingSystem",
            "architecture",
        ] {
            info.default_to(key, "");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            restore(new, old, &["spec"]);
        } else {
            restore(new, old, &["status"]);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_taints(object, errors);
        check_resources(object, errors);
        check_features(object, errors);
        check_pod_cidrs(object, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        check_resources(new, errors);
        check_features(new, errors);
        check_addresses(new, errors);
        let (spec, before) = (part(new, &["spec"]), part(old, &["spec"]));
        let path = FieldPath::new("spec");
        if before.is_set("podCIDRs") && spec.items("podCIDRs") != before.items("podCIDRs") {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&path.child("podCIDRs"), detail);
        }
        let provider = before.text("providerID");
        if !provider.is_empty() && provider != spec.text("providerID") {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&path.child("providerID"), detail);
        }
        check_taints(new, errors);
        if spec.text("externalID") != before.text("externalID") {
            errors.forbidden(&path.child("externalID"), "may not be updated");
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let flag = object.bool_at(&["spec", "unschedulable"]).unwrap_or(false);
        vec![("spec.unschedulable", flag.to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let info = part(object, &["status", "nodeInfo"]);
        let known = |key: &str| match info.text(key) {
            "" => UNKNOWN.to_string(),
            text => text.to_string(),
        };
        let mut kernel = known("kernelVersion");
        if !info.text("architecture").is_empty() {
            kernel.push_str(&format!(" ({})", info.text("architecture")));
        }
        vec![
            cells::name(object),
            json!(status(object)),
            json!(roles(object)),
            cells::age(object, now),
            json!(info.text("kubeletVersion")),
            json!(address(object, "InternalIP")),
            json!(address(object, "ExternalIP")),
            json!(known("osImage")),
            json!(kernel),
            json!(known("containerRuntimeVersion")),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

/// `podCIDR` is the first of `podCIDRs`; each is set from the other.
fn default_pod_cidrs(spec: &mut Value) {
    let first = spec.texts("podCIDRs").first().map(ToString::to_string);
    match (first, spec.text("podCIDR").to_string()) {
        (None, single) if !single.is_empty() => spec.set_at(&["podCIDRs"], json!([single])),
        (Some(first), single) if single.is_empty() => spec.set_at(&["podCIDR"], json!(first)),
        (Some(first), single) if first != single => spec.set_at(&["podCIDRs"], json!([single])),
        _ => {}
    }
}

fn check_taints(object: &Value, errors: &mut FieldErrors) {
    // Upstream reports taints below metadata.
    let path = FieldPath::new("metadata").child("taints");
    let mut seen = Vec::new();
    for (index, taint) in part(object, &["spec"]).items("taints").iter().enumerate() {
        let here = path.index(index);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        check::qualified_name(errors, &here.child("key"), key);
        let faults = names::label_value(value);
        if !faults.is_empty() {
            errors.invalid_str(&here.child("value"), value, &faults.join(";"));
        }
        check::required_one_of(errors, &here.child("effect"), effect, &TAINT_EFFECTS);
        if seen.contains(&(key, effect)) {
            errors.duplicate(&here, &Value::Null);
            let error = errors.0.last_mut().expect("added above");
            let added = taint.field("timeAdded").unwrap_or(&Value::Null);
            error.value = format!(
                "{{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":{added}}}",
                json!(key),
                json!(value),
                json!(effect)
            );
            error.detail = "taints must be unique by key and effect pair".into();
        }
        seen.push((key, effect));
    }
}

fn check_resources(object: &Value, errors: &mut FieldErrors) {
    for list in ["capacity", "allocatable"] {
        let path = FieldPath::new("status").child(list);
        for (name, value) in part(object, &["status"]).entries(list) {
            check_amount(name, value, &path.child(name), errors);
        }
    }
}

fn check_features(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("declaredFeatures");
    let features = part(object, &["status"]).texts("declaredFeatures");
    for (index, pair) in features.windows(2).enumerate() {
        let here = path.index(index + 1);
        match pair[0].cmp(pair[1]) {
            std::cmp::Ordering::Equal => errors.duplicate(&here, &json!(pair[1])),
            std::cmp::Ordering::Greater => {
                errors.invalid_str(&here, pair[1], "list must be sorted alphabetically");
            }
            std::cmp::Ordering::Less => {}
        }
    }
}

fn check_pod_cidrs(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec").child("podCIDRs");
    let list = part(object, &["spec"]).texts("podCIDRs");
    for (index, cidr) in list.iter().enumerate() {
        check::cidr(errors, &path.index(index), cidr, false);
    }
    let v6 = list.iter().filter(|cidr| cidr.contains(':')).count();
    if list.len() > 2 || (list.len() == 2 && v6 != 1) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&path, &json!(list), detail);
    }
}

fn check_addresses(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("addresses");
    let list = part(object, &["status"]).items("addresses");
    for (index, address) in list.iter().enumerate() {
        if list[..index].contains(address) {
            errors.duplicate(&path.index(index), &Value::Null);
            errors.0.last_mut().expect("added above").value = format!(
                "{{\"Type\":{},\"Address\":{}}}",
                json!(address.text("type")),
                json!(address.text("address"))
            );
        }
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let spec = part(object, &["spec"]);
    let path = FieldPath::new("spec");
    if spec.field("configSource").is_some() {
        let text = "the feature is no longer supported";
        out.push(format!("{}: {text}", path.child("configSource")));
    }
    if !spec.text("externalID").is_empty() {
        let text = "this field is deprecated, and is unused by Kubernetes";
        out.push(format!("{}: {text}", path.child("externalID")));
    }
    for (index, cidr) in spec.texts("podCIDRs").into_iter().enumerate() {
        out.extend(check::cidr_warnings(&path.child("podCIDRs").index(index), cidr));
    }
    out
}

fn status(object: &Value) -> String {
    let known = object.list_at(&["status", "conditions"]);
    let ready = match conditions::status(known, "Ready") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    };
    let closed = object.bool_at(&["spec", "unschedulable"]).unwrap_or(false);
    format!("{ready}{}", if closed { ",SchedulingDisabled" } else { "" })
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = part(object, &["metadata"])
        .entries("labels")
        .into_iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_string() } else { roles.join(",") }
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    let list = object.list_at(&["status", "addresses"]);
    list.iter().find(|a| a.text("type") == kind).map_or(NONE, |a| a.text("address"))
}
