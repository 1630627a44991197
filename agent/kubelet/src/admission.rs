//! Whether a pod that was bound to this node may run on it. PURE.
//!
//! Source of behaviour: kubernetes pkg/kubelet/lifecycle/predicate.go, v1.36.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use objects::facts;
use serde_json::Value;

use crate::machine::Allocatable;
use crate::pod::PodExt;
use crate::record::Ended;

/// The node as admission sees it.
pub(crate) struct Room<'a> {
    /// The Node object, if it is known yet.
    pub(crate) node: Option<&'a Node>,
    pub(crate) allocatable: Allocatable,
    pub(crate) pods_max: u32,
    /// Sysctls that pods may set besides the safe ones.
    pub(crate) unsafe_sysctls: &'a [String],
}

fn rejected(reason: impl Into<String>, message: String) -> Ended {
    Ended { reason: reason.into(), message, rejected: true, grace_secs: None }
}

/// Decides about a pod, given the others that run or will run on the node.
pub(crate) fn admit(pod: &Pod, others: &[Arc<Pod>], room: &Room<'_>) -> Result<(), Ended> {
    let os = PodExt::spec(pod).os.as_ref().map(|os| os.name.as_str());
    if os.is_some_and(|os| os != "linux") {
        let text = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return Err(rejected("PodOSNotSupported", text));
    }
    if let Some(name) = crate::act::sandbox::forbidden_sysctl(pod, room.unsafe_sysctls) {
        let text = format!("forbidden sysctl: \"{name}\" not allowlisted");
        return Err(rejected("SysctlForbidden", text));
    }
    if let Some(node) = room.node
        && !matches_node(pod, node)
    {
        let text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node \
                    affinity/selector";
        return Err(rejected("NodeAffinity", text.to_owned()));
    }
    if others.len() >= usize::try_from(room.pods_max).unwrap_or(usize::MAX) {
        let text = format!(
            "Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {}",
            others.len(),
            room.pods_max
        );
        return Err(rejected("OutOfpods", text));
    }
    if ports_clash(pod, others) {
        let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested \
                    pod ports";
        return Err(rejected("NodePorts", text.to_owned()));
    }
    fits(pod, others, room.allocatable)
}

fn fits(pod: &Pod, others: &[Arc<Pod>], allocatable: Allocatable) -> Result<(), Ended> {
    let requests = |pod: &Pod| {
        let value = serde_json::to_value(pod).unwrap_or(Value::Null);
        facts::requests(&value)
    };
    let wanted = requests(pod);
    let mut used: BTreeMap<&str, i64> = BTreeMap::new();
    for other in others {
        for (name, amount) in requests(other) {
            match name.as_str() {
                "cpu" => *used.entry("cpu").or_default() += amount.milli_value(),
                "memory" => *used.entry("memory").or_default() += amount.value(),
                _ => {}
            }
        }
    }
    for (name, capacity) in [("cpu", allocatable.cpu_millis), ("memory", allocatable.memory_bytes)]
    {
        let Some(amount) = wanted.get(name) else { continue };
        let amount = if name == "cpu" { amount.milli_value() } else { amount.value() };
        let used = used.get(name).copied().unwrap_or(0);
        if amount > 0 && used.saturating_add(amount) > capacity {
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {amount}, used: {used}, \
                 capacity: {capacity}"
            );
            return Err(rejected(format!("OutOf{name}"), text));
        }
    }
    Ok(())
}

type PortKey = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<PortKey> {
    let mut ports = Vec::new();
    for listed in pod.listed() {
        for port in listed.spec.ports.iter().flatten() {
            let Some(number) = port.host_port.filter(|number| *number > 0) else { continue };
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty());
            let ip = ip.unwrap_or_else(|| "0.0.0.0".into());
            ports.push((ip, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number));
        }
    }
    ports
}

fn ports_clash(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let any = |ip: &str| matches!(ip, "0.0.0.0" | "::");
    let taken: Vec<PortKey> = others.iter().flat_map(|other| host_ports(other)).collect();
    host_ports(pod).iter().any(|(ip, protocol, port)| {
        taken.iter().any(|(other_ip, other_protocol, other_port)| {
            port == other_port
                && protocol == other_protocol
                && (ip == other_ip || any(ip) || any(other_ip))
        })
    })
}

/// `nodeSelector` and the required node affinity.
fn matches_node(pod: &Pod, node: &Node) -> bool {
    let spec = PodExt::spec(pod);
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or("");
    let term = |term: &NodeSelectorTerm| {
        let expressions = term.match_expressions.as_deref().unwrap_or(&[]);
        let fields = term.match_fields.as_deref().unwrap_or(&[]);
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|r| meets(r, labels.get(&r.key).map(String::as_str)))
            && fields.iter().all(|r| r.key == "metadata.name" && meets(r, Some(name)))
    };
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(term))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or(&[]);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|v| v == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|v| v != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn verdict(spec: Value, others: &[Arc<Pod>]) -> String {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": {"zone": "a", "n": "5"}}}),
        )
        .unwrap();
        let room = Room {
            node: Some(&node),
            allocatable: Allocatable { cpu_millis: 2000, memory_bytes: 1 << 30, storage_bytes: 0 },
            pods_max: 3,
            unsafe_sysctls: &[],
        };
        admit(&pod(spec), others, &room).map_or_else(|ended| ended.reason, |()| "ok".into())
    }

    #[test]
    fn pods_are_admitted_or_refused_for_upstreams_reasons() {
        let wants = |cpu: &str| json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
        let port = |port: i32, ip: &str| json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip}]}]});
        let others = [Arc::new(pod(wants("1500m"))), Arc::new(pod(port(80, "")))];
        for (spec, wanted) in [
            (wants("500m"), "ok"),
            (wants("501m"), "OutOfcpu"),
            (port(80, "192.0.2.1"), "NodePorts"),
            (port(81, ""), "ok"),
            (json!({"containers": [], "nodeSelector": {"zone": "b"}}), "NodeAffinity"),
            (json!({"containers": [], "os": {"name": "windows"}}), "PodOSNotSupported"),
            (
                json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
                "SysctlForbidden",
            ),
            (
                json!({"containers": [], "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["4"]}]}]}}}}),
                "ok",
            ),
        ] {
            assert_eq!(verdict(spec.clone(), &others), wanted, "{spec}");
        }
        let many: Vec<_> = (0..3).map(|_| Arc::new(pod(json!({"containers": []})))).collect();
        assert_eq!(verdict(json!({"containers": []}), &many), "OutOfpods");
    }
}
