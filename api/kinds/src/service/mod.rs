//! Services.
//!
//! Source of behaviour: kubernetes `pkg/apis/core` and `pkg/registry/core/service`, v1.36.
//!
//! Addresses and node ports are allocated by the API server, which needs to know what is taken. It
//! calls, for a create or update, after `default` and before `prepare_*`:
//! [`keep_allocated`] (updates only), [`normalize_cluster_ips`], [`init_families`]; then allocates
//! what is still missing (see [`needs_cluster_ip`], [`needs_node_ports`],
//! [`needs_health_check_port`]).

mod allocation;
mod cells;
mod validate;

pub use allocation::{
    init_families, is_headless, keep_allocated, needs_cluster_ip, needs_health_check_port,
    needs_node_ports, normalize_cluster_ips,
};
pub(crate) use validate::check_endpoint_ip;

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, part, same};

/// How long a client keeps its backend by default: three hours.
const AFFINITY_SECS: i32 = 10_800;

/// Behaviour of Services.
pub(crate) struct Service;

impl Behaviour for Service {
    fn default(&self, object: &mut Value) {
        default_spec(object.map_mut("spec"));
        let is_balanced = object.str_at(&["spec", "type"]) == "LoadBalancer";
        object.map_mut("status").default_to("loadBalancer", json!({}));
        let ingress = object.at_mut(&["status", "loadBalancer"]).expect("made above");
        for entry in ingress.items_mut("ingress").iter_mut().filter(|_| is_balanced) {
            if entry.is_set("ip") {
                entry.default_to("ipMode", "VIP");
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object.set_at(&["status"], json!({"loadBalancer": {}}));
        normalize_cluster_ips(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            restore(new, old, &["spec"]);
            return;
        }
        restore(new, old, &["status"]);
        normalize_cluster_ips(new, Some(old));
        allocation::drop_unneeded(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::check(object, None, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            validate::check_status(new, old, errors);
        } else {
            validate::check_change(new, old, errors);
            validate::check(new, Some(old), errors);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.clusterIP", object.str_at(&["spec", "clusterIP"]).to_string()),
            ("spec.type", object.str_at(&["spec", "type"]).to_string()),
        ]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::cells(object, now)
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_dns_label
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// Whether clients outside the cluster can reach the service.
fn is_reachable_from_outside(spec: &Value) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => spec.is_set("externalIPs"),
        _ => false,
    }
}

fn default_spec(spec: &mut Value) {
    spec.default_zero("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => spec.drop_field("sessionAffinityConfig"),
        "ClientIP" => {
            let path = &["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
            if spec.at(path).is_none_or(Value::is_null) {
                spec.set_at(path, json!(AFFINITY_SECS));
            }
        }
        _ => {}
    }
    spec.default_zero("type", "ClusterIP");
    for port in spec.items_mut("ports") {
        port.default_zero("protocol", "TCP");
        let number = port.int("port").unwrap_or(0);
        if !port.is_set("targetPort") {
            port.set_at(&["targetPort"], json!(number));
        }
    }
    if is_reachable_from_outside(spec) {
        spec.default_zero("externalTrafficPolicy", "Cluster");
    }
    let kind = spec.text("type").to_string();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        spec.default_to("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default_to("allocateLoadBalancerNodePorts", true);
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
    let mut out = Vec::new();
    let hints = "service.kubernetes.io/topology-aware-hints";
    if part(object, &["metadata", "annotations"]).field(hints).is_some() {
        out.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode \
             instead"
        ));
    }
    let cluster_ip = spec.text("clusterIP");
    if !cluster_ip.is_empty() && cluster_ip != "None" {
        for (index, ip) in spec.texts("clusterIPs").into_iter().enumerate() {
            out.extend(check::ip_warning(&path.child("clusterIPs").index(index), ip));
        }
    }
    let kind = spec.text("type");
    let headless = kind == "ClusterIP" && cluster_ip == "None";
    let external = spec.texts("externalIPs");
    let balancer = spec.text("loadBalancerIP");
    if headless {
        if !balancer.is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if spec.text("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    for (index, ip) in external.iter().enumerate() {
        out.extend(check::ip_warning(&path.child("externalIPs").index(index), ip));
    }
    if !external.is_empty() && !headless && kind != "ExternalName" {
        let text = "spec.externalIPs is deprecated and may no longer be implemented in some \
                    clusters";
        out.push(text.into());
    }
    if !balancer.is_empty() {
        out.extend(check::ip_warning(&path.child("loadBalancerIP"), balancer));
    }
    for (index, range) in spec.texts("loadBalancerSourceRanges").into_iter().enumerate() {
        let here = path.child("loadBalancerSourceRanges").index(index);
        out.extend(check::cidr_warnings(&here, range));
    }
    if kind == "ExternalName" && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !spec.text("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        let text =
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        out.push(text.into());
    }
    out
}

/// Whether two lists or texts of specs are the same, absent and empty alike.
fn keeps(new: &Value, old: &Value, key: &str) -> bool {
    same(new.field(key).unwrap_or(&Value::Null), old.field(key).unwrap_or(&Value::Null))
        || (!new.is_set(key) && !old.is_set(key))
}
