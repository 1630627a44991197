//! Services get cluster IPs, IP families and node ports.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/service/storage/alloc.go`, v1.36.

use std::net::IpAddr;

use ipnet::IpNet;
use objects::{ApiError, FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use super::allocation::{AllocateError, Reservation};

const NONE: &str = "None";

fn kind_of(service: &Value) -> &str {
    match service.str_at(&["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

/// Carries allocated values over from the stored Service to one sent without them, before it is
/// validated: they are immutable, and clients leave them out.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    let needs_ip = |service: &Value| kind_of(service) != "ExternalName";
    let needs_ports = |service: &Value| matches!(kind_of(service), "NodePort" | "LoadBalancer");
    if needs_ip(new) && needs_ip(old) {
        if new.str_at(&["spec", "clusterIP"]).is_empty() {
            let ip = old.str_at(&["spec", "clusterIP"]).to_string();
            new.set_at(&["spec", "clusterIP"], json!(ip));
        }
        let same = new.str_at(&["spec", "clusterIP"]) == old.str_at(&["spec", "clusterIP"]);
        if new.list_at(&["spec", "clusterIPs"]).is_empty()
            && same
            && let Some(ips) = old.at(&["spec", "clusterIPs"])
        {
            new.set_at(&["spec", "clusterIPs"], ips.clone());
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            let absent = new.at(&["spec", field]).is_none_or(Value::is_null);
            if absent && let Some(value) = old.at(&["spec", field]) {
                new.set_at(&["spec", field], value.clone());
            }
        }
    }
    if needs_ports(new) && needs_ports(old) {
        keep_node_ports(new, old);
        let check = ["spec", "healthCheckNodePort"];
        if new.i64_at(&check).unwrap_or(0) == 0
            && let Some(port) = old.i64_at(&check).filter(|_| needs_health_check(new))
        {
            new.set_at(&check, json!(port));
        }
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let identity = |port: &Value| {
        let protocol = match port.str_at(&["protocol"]) {
            "" => "TCP",
            protocol => protocol,
        };
        (protocol.to_string(), port.i64_at(&["port"]))
    };
    let known: Vec<((String, Option<i64>), i64)> = old
        .list_at(&["spec", "ports"])
        .iter()
        .filter_map(|port| Some((identity(port), port.i64_at(&["nodePort"])?)))
        .collect();
    let taken: Vec<i64> = new
        .list_at(&["spec", "ports"])
        .iter()
        .filter_map(|port| port.i64_at(&["nodePort"]))
        .collect();
    let Some(ports) = new.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut) else { return };
    for port in ports {
        if port.i64_at(&["nodePort"]).unwrap_or(0) == 0
            && let Some((_, node_port)) = known.iter().find(|(id, _)| *id == identity(port))
            && !taken.contains(node_port)
        {
            port["nodePort"] = json!(node_port);
        }
    }
}

fn needs_health_check(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer"
        && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// Allocates what a valid Service still lacks.
pub(super) fn allocate(
    admission: &mut Admission<'_>,
    new: &mut Value,
    _old: Option<&Value>,
) -> Result<(), ApiError> {
    let allocations = &admission.server.allocations;
    let mut reservation = allocations.reserve(new.uid());
    let mut errors = FieldErrors::default();
    if kind_of(new) != "ExternalName" {
        families(new, allocations.cidrs(), &mut errors);
        if errors.is_empty() {
            cluster_ips(new, allocations.cidrs(), &mut reservation, &mut errors);
        }
    }
    if errors.is_empty() {
        node_ports(new, admission.dry_run, &mut reservation, &mut errors);
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(&admission.call.kind.group_kind(), new.name(), &errors));
    }
    admission.reservations.push(reservation);
    Ok(())
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn family_of(cidr: &IpNet) -> &'static str {
    family(cidr.network())
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service.list_at(&["spec", field]);
    list.iter().filter_map(Value::as_str).map(str::to_string).collect()
}

/// Completes `ipFamilyPolicy` and `ipFamilies`.
fn families(service: &mut Value, cidrs: &[IpNet], errors: &mut FieldErrors) {
    let spec = FieldPath::new("spec");
    let given_ips = texts(service, "clusterIPs");
    let mut families = texts(service, "ipFamilies");
    let headless = service.str_at(&["spec", "clusterIP"]) == NONE;
    let selectorless = service.map_at(&["spec", "selector"]).is_none_or(serde_json::Map::is_empty);
    let free = headless && selectorless;
    let mut policy = service.str_at(&["spec", "ipFamilyPolicy"]).to_string();
    if policy.is_empty() {
        let two = given_ips.len() == 2 || families.len() == 2;
        let infer =
            if (free && families.is_empty()) || two { "RequireDualStack" } else { "SingleStack" };
        policy = infer.to_string();
    }
    if families.is_empty() {
        families = given_ips
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .map(|ip| family(ip).to_string())
            .collect();
    }
    let primary = cidrs.first().map_or("IPv4", family_of);
    if families.is_empty() {
        families.push(primary.to_string());
    }
    let dual = cidrs.len() > 1;
    let wants_two = matches!(policy.as_str(), "PreferDualStack" | "RequireDualStack");
    if wants_two && families.len() == 1 && (dual || free) {
        families.push(other(&families[0]).to_string());
    }
    if policy == "RequireDualStack" && !dual && !free {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid_str(&spec.child("ipFamilyPolicy"), &policy, why);
    }
    if policy == "SingleStack" {
        families.truncate(1);
    }
    for (index, wanted) in families.iter().enumerate() {
        if !free && !cidrs.iter().any(|cidr| family_of(cidr) == wanted) {
            let why = "not configured on this cluster";
            errors.invalid_str(&spec.child("ipFamilies").index(index), wanted, why);
        }
    }
    service.set_at(&["spec", "ipFamilyPolicy"], json!(policy));
    service.set_at(&["spec", "ipFamilies"], json!(families));
}

fn cluster_ips(
    service: &mut Value,
    cidrs: &[IpNet],
    reservation: &mut Reservation<'_>,
    errors: &mut FieldErrors,
) {
    if service.str_at(&["spec", "clusterIP"]) == NONE {
        service.set_at(&["spec", "clusterIPs"], json!([NONE]));
        return;
    }
    let families = texts(service, "ipFamilies");
    let mut ips = texts(service, "clusterIPs");
    let single = service.str_at(&["spec", "clusterIP"]);
    if ips.is_empty() && !single.is_empty() {
        ips.push(single.to_string());
    }
    ips.truncate(families.len());
    let path = FieldPath::new("spec").child("clusterIPs");
    let mut out: Vec<String> = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let given = ips.get(index).and_then(|text| text.parse::<IpAddr>().ok());
        let taken = match given {
            Some(ip) => reservation
                .take_ip(ip)
                .map(|()| ip)
                .map_err(|error| (json!(ips), format!("failed to allocate IP {ip}: {error}"))),
            None => match cidrs.iter().find(|cidr| family_of(cidr) == family) {
                Some(cidr) => reservation.any_ip(cidr).map_err(|error| {
                    (json!(ips), format!("failed to allocate a serviceIP: {error}"))
                }),
                None => continue,
            },
        };
        match taken {
            Ok(ip) => out.push(ip.to_string()),
            Err((value, why)) => errors.invalid(&path, &value, &why),
        }
    }
    if let Some(first) = out.first() {
        service.set_at(&["spec", "clusterIP"], json!(first));
        service.set_at(&["spec", "clusterIPs"], json!(out));
    }
}

fn node_ports(
    service: &mut Value,
    dry_run: bool,
    reservation: &mut Reservation<'_>,
    errors: &mut FieldErrors,
) {
    let wanted = match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]).unwrap_or(true)
        }
        _ => return,
    };
    let base = FieldPath::new("spec").child("ports");
    // One port for TCP and UDP: both get the same node port.
    let mut chosen: Vec<(i64, u16)> = Vec::new();
    if let Some(ports) = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut) {
        for (index, port) in ports.iter_mut().enumerate() {
            let number = port.i64_at(&["port"]).unwrap_or(0);
            let given = port.i64_at(&["nodePort"]).unwrap_or(0);
            let twin = chosen.iter().find(|(port, _)| *port == number).map(|(_, node)| *node);
            let path = base.index(index).child("nodePort");
            let result = match (u16::try_from(given).ok().filter(|port| *port > 0), twin) {
                // As upstream, a dry run does not ask the allocator about given ports.
                (Some(node_port), _) if dry_run => Ok(node_port),
                (Some(node_port), _) => reservation.take_port(node_port).map(|()| node_port),
                (None, _) if !wanted => continue,
                (None, Some(node_port)) => Ok(node_port),
                (None, None) => reservation.any_port(),
            };
            match result {
                Ok(node_port) => {
                    chosen.push((number, node_port));
                    port["nodePort"] = json!(node_port);
                }
                Err(AllocateError::Full) => {
                    errors.invalid(
                        &path,
                        &json!(0),
                        "failed to allocate a nodePort: range is full",
                    );
                }
                Err(error) => errors.invalid(&path, &json!(given), &error.to_string()),
            }
        }
    }
    if needs_health_check(service) {
        health_check_port(service, reservation, errors);
    }
}

fn health_check_port(
    service: &mut Value,
    reservation: &mut Reservation<'_>,
    errors: &mut FieldErrors,
) {
    let at = ["spec", "healthCheckNodePort"];
    let path = FieldPath::new("spec").child("healthCheckNodePort");
    let given = service.i64_at(&at).unwrap_or(0);
    let result = match u16::try_from(given).ok().filter(|port| *port > 0) {
        Some(port) => reservation.take_port(port).map(|()| port),
        None => reservation.any_port(),
    };
    match result {
        Ok(port) => service.set_at(&at, json!(port)),
        Err(error) => errors.invalid(&path, &json!(given), &error.to_string()),
    }
}
