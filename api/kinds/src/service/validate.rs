//! Validation of Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use super::{is_headless, is_reachable_from_outside, needs_health_check_port};
use crate::check;
use crate::read::{NOTHING, Read, part};

/// Longest client affinity: a day.
const AFFINITY_MAX_SECS: i64 = 86_400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Checks a Service, new or changed.
pub(super) fn check(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let spec = part(object, &["spec"]);
    let old_spec = old.map(|old| part(old, &["spec"]));
    let kind = spec.text("type");
    check_topology(object, errors);
    if !spec.is_set("ports") && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    check_type_fields(spec, &path, errors);
    check_ports(spec, &path.child("ports"), errors);
    check::labels(errors, &path.child("selector"), spec, "selector");
    check_affinity(spec, &path, errors);
    check_cluster_ips(spec, old_spec, errors);
    let known = old_spec.map(|old| old.texts("externalIPs")).unwrap_or_default();
    for (index, ip) in spec.texts("externalIPs").into_iter().enumerate() {
        let here = path.child("externalIPs").index(index);
        let before = errors.0.len();
        if !known.contains(&ip) {
            check::ip(errors, &here, ip);
        }
        if errors.0.len() == before {
            check_endpoint_ip(ip, &here, errors);
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    check::required_one_of(errors, &path.child("type"), kind, &kinds);
    check_unique_ports(spec, &path.child("ports"), errors);
    check_source_ranges(object, old, errors);
    let allocates = spec.field("allocateLoadBalancerNodePorts").is_some();
    let detail = "may only be used when `type` is 'LoadBalancer'";
    if allocates && kind != "LoadBalancer" {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), detail);
    }
    if !allocates && kind == "LoadBalancer" {
        errors.required(&FieldPath::new("allocateLoadBalancerNodePorts"), "");
    }
    check_class(spec, None, &path, errors);
    check_traffic(spec, &path, errors);
}

fn check_topology(object: &Value, errors: &mut FieldErrors) {
    let annotations = part(object, &["metadata", "annotations"]);
    let (hints, mode) =
        ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode");
    let values = (annotations.text_opt(hints), annotations.text_opt(mode));
    if let (Some(old), Some(new)) = values
        && old != new
    {
        let path = FieldPath::new("metadata").child("annotations").key(mode);
        let detail = format!("must match annotations[{hints}] when both are specified");
        errors.invalid_str(&path, new, &detail);
    }
}

fn check_type_fields(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match spec.text("type") {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid_str(&path.child("clusterIPs").index(0), "None", &detail);
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.is_set(key) {
                    errors.forbidden(&path.child(key), detail);
                }
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            let here = path.child("externalName");
            if name.is_empty() {
                errors.required(&here, "");
            } else {
                check::subdomain(errors, &here, name);
            }
        }
        _ => {}
    }
}

fn check_ports(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let ports = spec.items("ports");
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let here = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            check::label(errors, &here.child("name"), name);
            if !seen.insert(name) {
                errors.duplicate(&here.child("name"), &json!(name));
            }
        } else if ports.len() > 1 {
            errors.required(&here.child("name"), "");
        }
        check::port_number(errors, &here.child("port"), port.int("port").unwrap_or(0));
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = port.text("protocol");
        check::required_one_of(errors, &here.child("protocol"), protocol, &protocols);
        check::port(errors, &here.child("targetPort"), port.field("targetPort"));
        if let Some(protocol) = port.text_opt("appProtocol") {
            check::qualified_name(errors, &here.child("appProtocol"), protocol);
        }
    }
}

fn check_affinity(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let affinity = spec.text("sessionAffinity");
    let here = path.child("sessionAffinity");
    check::required_one_of(errors, &here, affinity, &["ClientIP", "None"]);
    let here = path.child("sessionAffinityConfig");
    let config = spec.field("sessionAffinityConfig");
    if affinity == "None" && config.is_some() {
        errors.forbidden(&here, "must not be set when session affinity is None");
    }
    if affinity != "ClientIP" {
        return;
    }
    let missing = "when session affinity type is ClientIP";
    let Some(config) = config else {
        errors.required(&here, missing);
        return;
    };
    let here = here.child("clientIP");
    let Some(client) = config.field("clientIP") else {
        errors.required(&here, missing);
        return;
    };
    let here = here.child("timeoutSeconds");
    match client.int("timeoutSeconds") {
        None => errors.required(&here, missing),
        Some(secs) if !(1..=AFFINITY_MAX_SECS).contains(&secs) => {
            let detail = format!("must be greater than 0 and less than {AFFINITY_MAX_SECS}");
            errors.invalid(&here, &json!(secs), &detail);
        }
        Some(_) => {}
    }
}

/// Checks addresses and families.
pub(super) fn check_cluster_ips(spec: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let path = FieldPath::new("spec");
    let here = path.child("clusterIPs");
    let (ip, ips) = (spec.text("clusterIP"), spec.texts("clusterIPs"));
    let list = json!(ips);
    match (ip.is_empty(), ips.first()) {
        (false, None) => errors.required(&here, ""),
        (false, Some(first)) if *first != ip => {
            errors.invalid(&here, &list, "first value must match `clusterIP`");
        }
        (true, Some(_)) => {
            errors.invalid(&here, &list, "must be empty when `clusterIP` is not specified");
        }
        _ => {}
    }
    check_families(spec, &path, errors);
    let known = old.map(|old| old.texts("clusterIPs")).unwrap_or_default();
    let mut bad = false;
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && *ip == "None" {
            if ips.len() > 1 {
                bad = true;
                errors.invalid(&here, &list, "'None' must be the first and only value");
            }
            continue;
        }
        let before = errors.0.len();
        if !known.contains(ip) {
            check::ip(errors, &here.index(index), ip);
        }
        bad |= errors.0.len() > before;
    }
    if ips.len() > 2 {
        errors.invalid(&here, &list, "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    let is_v6 = |ip: &str| check::sloppy_ip(ip).is_some_and(|ip| ip.is_ipv6());
    let (v6, v4): (Vec<&str>, Vec<&str>) = ips.iter().copied().partition(|ip| is_v6(ip));
    if ips.len() > 1 && (v6.is_empty() || v4.is_empty()) {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(&here, &list, detail);
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.iter().zip(spec.texts("ipFamilies")).enumerate() {
        let wrong = (family == "IPv4" && is_v6(ip)) || (family == "IPv6" && !is_v6(ip));
        if wrong {
            let detail =
                format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid_str(&here.index(index), ip, &detail);
        }
    }
}

fn check_families(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, family) in spec.texts("ipFamilies").into_iter().enumerate() {
        let here = path.child("ipFamilies").index(index);
        check::one_of(errors, &here, family, &["IPv4", "IPv6"]);
        if seen.contains(&family) {
            errors.duplicate(&here, &json!(family));
        }
        seen.push(family);
    }
    if let Some(policy) = spec.text_opt("ipFamilyPolicy") {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        check::one_of(errors, &path.child("ipFamilyPolicy"), policy, &policies);
    }
}

/// Checks an address that traffic is sent to: not this host's, not everybody's.
pub(crate) fn check_endpoint_ip(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(ip) = check::sloppy_ip(text) else {
        errors.invalid_str(path, text, "must be a valid IP address");
        return;
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    if ip.is_unspecified() {
        errors.invalid_str(path, text, &format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.invalid_str(path, text, detail);
    }
    if link_local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid_str(path, text, detail);
    }
    if link_local_multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid_str(path, text, detail);
    }
}

fn check_unique_ports(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let ports = spec.items("ports");
    if spec.text("type") == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| port.is_set("nodePort")) {
            let here = path.index(index).child("nodePort");
            errors.forbidden(&here, "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.int("nodePort").unwrap_or(0);
        if number != 0 && !seen.insert((port.text("protocol"), number)) {
            errors.duplicate(&path.index(index).child("nodePort"), &json!(number));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            errors.duplicate(&path.index(index), &Value::Null);
            // Go prints a port with nothing set but what has to be unique.
            errors.0.last_mut().expect("added above").value = format!(
                "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{number},\
                 \"TargetPort\":0,\"NodePort\":0}}",
                json!(protocol)
            );
        }
    }
}

fn check_source_ranges(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = part(object, &["spec"]);
    let detail = "may only be used when `type` is 'LoadBalancer'";
    let balanced = spec.text("type") == "LoadBalancer";
    let ranges = spec.texts("loadBalancerSourceRanges");
    let known: Vec<&str> = old
        .map(|old| part(old, &["spec"]).texts("loadBalancerSourceRanges"))
        .unwrap_or_default()
        .into_iter()
        .map(str::trim)
        .collect();
    if !ranges.is_empty() {
        let path = FieldPath::new("spec").child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, detail);
        }
        for (index, range) in ranges.iter().enumerate() {
            let range = range.trim();
            if !known.contains(&range) {
                check::cidr(errors, &path.index(index), range, false);
            }
        }
        return;
    }
    let annotation = |object: &Value| {
        part(object, &["metadata", "annotations"]).text_opt(SOURCE_RANGES).map(String::from)
    };
    let Some(value) = annotation(object) else { return };
    let path = FieldPath::new("metadata").child("annotations").key(SOURCE_RANGES);
    if !balanced {
        errors.forbidden(&path, detail);
    }
    if old.and_then(annotation).as_ref() != Some(&value) && !value.trim().is_empty() {
        for range in value.split(',') {
            check::cidr(errors, &path, range.trim(), false);
        }
    }
}

fn check_class(spec: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("loadBalancerClass");
    let class = spec.text_opt("loadBalancerClass");
    let balanced = |spec: &Value| spec.text("type") == "LoadBalancer";
    if let Some(old) = old
        && balanced(old)
        && balanced(spec)
        && old.text_opt("loadBalancerClass") != class
    {
        let value = spec.field("loadBalancerClass").unwrap_or(&NOTHING);
        errors.invalid(&here, value, "may not change once set");
    }
    match class {
        Some(class) if balanced(spec) => check::qualified_name(errors, &here, class),
        Some(_) => errors.forbidden(&here, "may only be used when `type` is 'LoadBalancer'"),
        None => {}
    }
}

fn check_traffic(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("externalTrafficPolicy");
    let policy = spec.text("externalTrafficPolicy");
    if is_reachable_from_outside(spec) {
        check::required_one_of(errors, &here, policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        errors.invalid_str(&here, policy, "may only be set for externally-accessible services");
    }
    let here = path.child("healthCheckNodePort");
    let port = spec.int("healthCheckNodePort").unwrap_or(0);
    match (needs_health_check_port(spec), port) {
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and \
                          `externalTrafficPolicy` is 'Local'";
            errors.invalid(&here, &json!(port), detail);
        }
        (true, 0) => errors.required(&here, ""),
        (true, port) => {
            for text in names::port_number(port) {
                errors.invalid(&here, &json!(port), &text);
            }
        }
    }
    let here = path.child("internalTrafficPolicy");
    match spec.text_opt("internalTrafficPolicy") {
        Some(policy) => check::one_of(errors, &here, policy, &["Cluster", "Local"]),
        None if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.required(&here, "");
        }
        None => {}
    }
    if let Some(distribution) = spec.text_opt("trafficDistribution") {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        check::one_of(errors, &path.child("trafficDistribution"), distribution, &supported);
    }
}

/// Checks what may not change, or not in every way.
pub(super) fn check_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, before) = (part(new, &["spec"]), part(old, &["spec"]));
    let path = FieldPath::new("spec");
    if spec.text("type") != "ExternalName" && before.text("type") != "ExternalName" {
        let (is, was) = (is_headless(spec), is_headless(before));
        if !(is && was) {
            check_list_change(spec, before, "clusterIPs", &path, errors);
        }
        if !is && !was {
            check_list_change(spec, before, "ipFamilies", &path, errors);
        }
    }
    check_class(spec, Some(before), &path, errors);
    let port = |spec: &Value| spec.int("healthCheckNodePort").unwrap_or(0);
    if needs_health_check_port(before)
        && needs_health_check_port(spec)
        && port(spec) != port(before)
    {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

/// Checks that the primary entry stays, and that the secondary one is dropped only on purpose.
fn check_list_change(
    spec: &Value,
    before: &Value,
    key: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let here = path.child(key);
    let (now, was) = (spec.texts(key), before.texts(key));
    // Upstream prints the addresses even where the families changed.
    let printed = if key == "ipFamilies" && now.len() != was.len() {
        json!(spec.texts("clusterIPs"))
    } else {
        json!(now)
    };
    let what = if key == "clusterIPs" { "clusterIP" } else { "ipFamily" };
    if now.len() == was.len() {
        for (index, _) in was.iter().enumerate().filter(|(index, was)| now[*index] != **was) {
            let at = if key == "clusterIPs" { index } else { 0 };
            errors.invalid(&here.index(at), &printed, "may not change once set");
        }
        return;
    }
    if now.len() < was.len() && spec.texts("clusterIPs").is_empty() {
        let detail = format!("primary {what} can not be unset");
        errors.invalid(&here.index(0), &json!(now), &detail);
    }
    if let (Some(now), Some(was)) = (now.first(), was.first())
        && now != was
    {
        errors.invalid(&here.index(0), &printed, "may not change once set");
    }
    if now.len() < was.len() && now.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
        let policy = spec.field("ipFamilyPolicy").unwrap_or(&NOTHING);
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&path.child("ipFamilyPolicy"), policy, &detail);
    }
}

/// Checks an update of `status`.
pub(super) fn check_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("loadBalancer").child("ingress");
    let list = part(new, &["status", "loadBalancer"]).items("ingress");
    if new.str_at(&["spec", "type"]) != "LoadBalancer" && !list.is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let known: Vec<&str> = part(old, &["status", "loadBalancer"])
        .items("ingress")
        .iter()
        .map(|entry| entry.text("ip"))
        .collect();
    for (index, entry) in list.iter().enumerate() {
        let here = path.index(index);
        let ip = entry.text("ip");
        if !ip.is_empty() && !known.contains(&ip) {
            check::ip(errors, &here.child("ip"), ip);
        }
        let at_mode = here.child("ipMode");
        match entry.text_opt("ipMode") {
            None if !ip.is_empty() => {
                errors.required(&at_mode, "must be specified when `ip` is set");
            }
            Some(_) if ip.is_empty() => {
                errors.forbidden(&at_mode, "may not be specified when `ip` is not set");
            }
            Some(mode) => check::one_of(errors, &at_mode, mode, &["Proxy", "VIP"]),
            None => {}
        }
        let name = entry.text("hostname");
        if !name.is_empty() {
            check::subdomain(errors, &here.child("hostname"), name);
            if check::sloppy_ip(name).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.invalid_str(&here.child("hostname"), name, detail);
            }
        }
    }
}
