//! What a Service needs to be given: address families, addresses, ports. Pure parts only; who has
//! what is the API server's knowledge.

use std::collections::BTreeSet;

use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::{is_reachable_from_outside, keeps, validate};
use crate::check;
use crate::edit::{Edit, restore};
use crate::read::{Read, part};

/// Whether a service (its `spec`) has no virtual address by wish.
pub fn is_headless(spec: &Value) -> bool {
    spec.texts("clusterIPs") == ["None"]
}

/// Whether a service (its `spec`) has a virtual address, or is headless.
pub fn needs_cluster_ip(spec: &Value) -> bool {
    spec.text("type") != "ExternalName"
}

/// Whether the ports of a service (its `spec`) have node ports.
pub fn needs_node_ports(spec: &Value) -> bool {
    match spec.text("type") {
        "NodePort" => true,
        "LoadBalancer" => spec.flag_opt("allocateLoadBalancerNodePorts") != Some(false),
        _ => false,
    }
}

/// Whether ports may have node ports, allocated or wished for.
fn may_have_node_ports(spec: &Value) -> bool {
    matches!(spec.text("type"), "NodePort" | "LoadBalancer")
}

/// Whether a service (its `spec`) has a port for the health checks of a load balancer.
pub fn needs_health_check_port(spec: &Value) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn family_of(ip: &str) -> &'static str {
    if check::sloppy_ip(ip).is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" }
}

fn same_cluster_ips(new: &Value, old: &Value) -> bool {
    keeps(new, old, "clusterIP") && keeps(new, old, "clusterIPs")
}

/// Carries over what was allocated where a client left it out of an update.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let old_spec = part(old, &["spec"]);
    let spec = new.map_mut("spec");
    if needs_cluster_ip(old_spec) && needs_cluster_ip(spec) {
        for key in ["clusterIP", "clusterIPs"] {
            if !spec.is_set(key) && old_spec.is_set(key) {
                restore(spec, old_spec, &[key]);
            }
        }
    }
    if may_have_node_ports(old_spec) && may_have_node_ports(spec) {
        keep_node_ports(spec, old_spec);
    }
    if needs_health_check_port(old_spec)
        && needs_health_check_port(spec)
        && !spec.is_set("healthCheckNodePort")
    {
        restore(spec, old_spec, &["healthCheckNodePort"]);
    }
}

fn node_ports(spec: &Value) -> BTreeSet<i64> {
    spec.items("ports").iter().filter_map(|port| port.int("nodePort")).filter(|p| *p != 0).collect()
}

fn keep_node_ports(spec: &mut Value, old_spec: &Value) {
    let used: BTreeSet<i64> =
        node_ports(old_spec).intersection(&node_ports(spec)).copied().collect();
    for port in spec.items_mut("ports") {
        let before = old_spec
            .items("ports")
            .iter()
            .rfind(|before| before.text("name") == port.text("name"))
            .and_then(|before| before.int("nodePort"))
            .filter(|number| *number != 0 && !used.contains(number));
        if let Some(number) = before {
            port.default_zero("nodePort", number);
        }
    }
}

/// Keeps `clusterIP` and `clusterIPs` in step for clients that know only the first.
pub fn normalize_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let spec = new.map_mut("spec");
    let ip = spec.text("clusterIP").to_string();
    let Some(old) = old else {
        if !ip.is_empty() && !spec.is_set("clusterIPs") {
            spec.set_at(&["clusterIPs"], json!([ip]));
        }
        return;
    };
    let old_spec = part(old, &["spec"]);
    let old_ip = old_spec.text("clusterIP");
    if old_spec.is_set("clusterIPs") && !spec.is_set("clusterIPs") && old_ip == ip {
        restore(spec, old_spec, &["clusterIPs"]);
    }
    if old_ip != ip && keeps(spec, old_spec, "clusterIPs") {
        if !old_ip.is_empty() && ip.is_empty() {
            spec.drop_field("clusterIPs");
        } else {
            spec.set_at(&["clusterIPs"], json!([ip]));
        }
    }
}

/// Fills in `ipFamilies` and `ipFamilyPolicy`. `families` are the families the cluster has, the
/// default one first. Reports what the cluster cannot give.
pub fn init_families(
    new: &mut Value,
    old: Option<&Value>,
    families: &[&str],
    errors: &mut FieldErrors,
) {
    let old_spec = old.map(|old| part(old, &["spec"]));
    if new.str_at(&["spec", "type"]) == "ExternalName"
        || old_spec.is_some_and(|old| is_settled(part(new, &["spec"]), old))
    {
        return;
    }
    let spec = new.map_mut("spec");
    let selectorless = spec.text("clusterIP") == "None" && !spec.is_set("selector");
    if spec.text("ipFamilyPolicy").is_empty() {
        let before = old_spec.map_or("", |old| old.text("ipFamilyPolicy"));
        let policy = match before {
            "" if selectorless => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        spec.set_at(&["ipFamilyPolicy"], json!(policy));
    }
    validate::check_cluster_ips(spec, old_spec, errors);
    if !errors.is_empty() {
        return;
    }
    check_policy(spec, old_spec, errors);
    derive_families(spec, families, errors);
    if !errors.is_empty() {
        return;
    }
    if selectorless {
        complete_families(spec, families[0], true);
        return;
    }
    let path = FieldPath::new("spec");
    let policy = spec.text("ipFamilyPolicy");
    if policy == "RequireDualStack" && families.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid_str(&path.child("ipFamilyPolicy"), policy, detail);
    }
    for (index, family) in spec.texts("ipFamilies").into_iter().enumerate() {
        if !families.contains(&family) {
            let here = path.child("ipFamilies").index(index);
            errors.invalid_str(&here, family, "not configured on this cluster");
        }
    }
    if errors.is_empty() {
        complete_families(spec, families[0], families.len() == 2);
    }
}

/// Whether nothing about the addresses of a dual-stack service changes.
fn is_settled(new: &Value, old: &Value) -> bool {
    let kind = new.text("type");
    let prefers = |spec: &Value| spec.text("ipFamilyPolicy") == "PreferDualStack";
    old.text("type") == kind
        && matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer")
        && prefers(new)
        && (old.field("ipFamilyPolicy").is_none() || prefers(old))
        && same_cluster_ips(new, old)
        && keeps(new, old, "ipFamilies")
}

/// Releases what a change to a single family no longer needs, or reports what does not go with
/// the policy.
fn check_policy(spec: &mut Value, old_spec: Option<&Value>, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec").child("ipFamilyPolicy");
    let policy = spec.text("ipFamilyPolicy").to_string();
    let single = policy == "SingleStack";
    if let Some(old) = old_spec {
        for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
            let kept = if key == "clusterIPs" {
                same_cluster_ips(spec, old)
            } else {
                keeps(spec, old, key)
            };
            let (now, before) = (spec.items(key), old.items(key));
            if single && kept && now.len() > 1 {
                let first = now[0].clone();
                spec.set_at(&[key], json!([first]));
            } else if !single
                && now.len() == 1
                && before.len() == 2
                && now.first() == before.first()
            {
                let detail = format!("must be 'SingleStack' to release the secondary {what}");
                errors.invalid_str(&path, &policy, &detail);
            }
        }
    }
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if single && spec.items(key).len() == 2 {
            let detail = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.invalid_str(&path, &policy, &detail);
        }
    }
}

/// Takes families from the addresses that are wished for.
fn derive_families(spec: &mut Value, families: &[&str], errors: &mut FieldErrors) {
    let ips: Vec<String> = spec.texts("clusterIPs").into_iter().map(String::from).collect();
    for (index, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != "None") {
        if index < spec.items("ipFamilies").len() {
            continue;
        }
        let family = family_of(ip);
        if families.contains(&family) {
            let mut known = spec.items("ipFamilies").to_vec();
            known.push(json!(family));
            spec.set_at(&["ipFamilies"], Value::Array(known));
        } else {
            let here = FieldPath::new("spec").child("clusterIPs").index(index);
            let detail = format!("{family} is not configured on this cluster");
            errors.invalid(&here, &json!(ips), &detail);
        }
    }
}

/// Adds the default family where there is none and, for a dual-stack policy, the other one.
fn complete_families(spec: &mut Value, default: &str, dual: bool) {
    let mut list: Vec<String> = spec.texts("ipFamilies").into_iter().map(String::from).collect();
    if list.is_empty() {
        list.push(default.to_string());
    }
    if dual && list.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
        let other = if list[0] == "IPv4" { "IPv6" } else { "IPv4" };
        list.push(other.to_string());
    }
    spec.set_at(&["ipFamilies"], json!(list));
}

/// Drops what a change of type makes meaningless, if the client just sent it back.
pub(super) fn drop_unneeded(new: &mut Value, old: &Value) {
    let before = part(old, &["spec"]);
    let spec = new.map_mut("spec");
    if needs_cluster_ip(before) && !needs_cluster_ip(spec) {
        if same_cluster_ips(spec, before) {
            spec.drop_field("clusterIP");
            spec.drop_field("clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if keeps(spec, before, key) {
                spec.drop_field(key);
            }
        }
    }
    if may_have_node_ports(before)
        && !may_have_node_ports(spec)
        && node_ports(before).is_superset(&node_ports(spec))
    {
        for port in spec.items_mut("ports") {
            port.drop_field("nodePort");
        }
    }
    let now = part(new, &["spec"]).clone();
    let balanced = |spec: &Value| spec.text("type") == "LoadBalancer";
    let (was, is) = (needs_health_check_port(before), needs_health_check_port(&now));
    let spec = new.map_mut("spec");
    let mut drop_kept = |key: &str, was: bool, is: bool| {
        if was && !is && keeps(spec, before, key) {
            spec.drop_field(key);
        }
    };
    drop_kept("healthCheckNodePort", was, is);
    drop_kept("allocateLoadBalancerNodePorts", balanced(before), balanced(&now));
    drop_kept("loadBalancerClass", balanced(before), balanced(&now));
    let (was, is) = (is_reachable_from_outside(before), is_reachable_from_outside(&now));
    drop_kept("externalTrafficPolicy", was, is);
    if !balanced(&now) {
        new.set_at(&["status", "loadBalancer"], json!({}));
    }
}
