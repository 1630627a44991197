//! What several components derive from a Pod, in one place so that they agree.
//!
//! Source of behaviour: kubernetes `component-helpers/resource`, `apis/core/v1/helper/qos` and
//! `api/v1/pod`, v1.36.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::ObjectExt;
use crate::conditions;
use crate::quantity::Quantity;

/// Amounts by resource name (`cpu`, `memory`, …).
pub type Resources = BTreeMap<String, Quantity>;

/// `Guaranteed`, `Burstable` or `BestEffort`, from the spec.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    if spec.map_at(&["resources"]).is_some_and(|resources| !resources.is_empty()) {
        return qos_of(&[&spec["resources"]]);
    }
    let lists = spec.list_at(&["initContainers"]).iter().chain(spec.list_at(&["containers"]));
    let all: Vec<&Value> = lists.map(|container| &container["resources"]).collect();
    qos_of(&all)
}

fn qos_of(all: &[&Value]) -> &'static str {
    let mut requests = Resources::new();
    let mut limits = Resources::new();
    let mut guaranteed = true;
    for resources in all {
        add(&mut requests, &counted(resources, "requests"));
        let own_limits = counted(resources, "limits");
        guaranteed &= own_limits.len() == 2;
        add(&mut limits, &own_limits);
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if guaranteed && requests == limits { "Guaranteed" } else { "Burstable" }
}

/// The amounts that count for the quality of service: CPU and memory above zero.
fn counted(resources: &Value, which: &str) -> Resources {
    let mut amounts = amounts(resources.map_at(&[which]));
    amounts.retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0);
    amounts
}

/// Reads a map of quantities; what is not a quantity is left out.
pub fn amounts(map: Option<&Map<String, Value>>) -> Resources {
    let entries = map.into_iter().flatten();
    entries
        .filter_map(|(name, value)| {
            let amount = match value {
                Value::String(text) => Quantity::parse(text).ok()?,
                Value::Number(number) => Quantity::parse(&number.to_string()).ok()?,
                _ => return None,
            };
            Some((name.clone(), amount))
        })
        .collect()
}

fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let entry = total.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.add(amount);
    }
}

fn raise(total: &mut Resources, least: &Resources) {
    for (name, amount) in least {
        let entry = total.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

/// What a pod is entitled to on a node: containers and sidecars together, or the largest moment of
/// its initialisation if that is more, then the pod's own resources, plus overhead.
pub fn requests(pod: &Value) -> Resources {
    let mut total = effective(pod, "requests");
    add(&mut total, &amounts(pod.map_at(&["spec", "overhead"])));
    total
}

/// The limits of a pod, computed as [`requests`] is. Overhead raises only limits that are set.
pub fn limits(pod: &Value) -> Resources {
    let mut total = effective(pod, "limits");
    for (name, amount) in amounts(pod.map_at(&["spec", "overhead"])) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit = limit.add(&amount);
        }
    }
    total
}

fn effective(pod: &Value, which: &str) -> Resources {
    let spec = &pod["spec"];
    let of = |container: &Value| amounts(container.map_at(&["resources", which]));
    let mut running = Resources::new();
    for container in spec.list_at(&["containers"]) {
        add(&mut running, &of(container));
    }
    let mut sidecars = Resources::new();
    let mut starting = Resources::new();
    for container in spec.list_at(&["initContainers"]) {
        let own = of(container);
        if is_sidecar(container) {
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, &own);
            raise(&mut starting, &moment);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &starting);
    let own = amounts(spec.map_at(&["resources", which]));
    running.extend(own.into_iter().filter(|(name, _)| {
        matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-")
    }));
    running
}

/// Whether an init container keeps running beside the containers.
pub fn is_sidecar(init_container: &Value) -> bool {
    init_container.str_at(&["restartPolicy"]) == "Always"
}

/// Whether the pod's `Ready` condition is `True`.
pub fn is_ready(pod: &Value) -> bool {
    conditions::is_true(pod.list_at(&["status", "conditions"]), "Ready")
}

/// Whether the pod has finished: its containers will not run again.
pub fn is_terminal(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether the pod counts for a controller: neither finished nor being deleted.
pub fn is_active(pod: &Value) -> bool {
    !is_terminal(pod) && pod.deletion_timestamp().is_empty()
}

/// The owner that controls an object.
pub fn controller_of(object: &Value) -> Option<&Value> {
    object.owner_references().iter().find(|owner| owner["controller"] == true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(resources: &Resources) -> String {
        let parts: Vec<String> = resources.iter().map(|(k, v)| format!("{k}={v}")).collect();
        parts.join(" ")
    }

    #[test]
    fn qos_classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (containers, wanted) in [
            (json!([{}]), "BestEffort"),
            (json!([{"resources": {"limits": both, "requests": both}}]), "Guaranteed"),
            (json!([{"resources": {"limits": both, "requests": both}}, {}]), "Burstable"),
            (json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort"),
            (json!([{"resources": {"requests": {"example.com/gpu": 1}}}]), "BestEffort"),
            (
                json!([{"resources": {"limits": both, "requests": {"cpu": "1000m", "memory": "1024Mi"}}}]),
                "Guaranteed",
            ),
            (
                json!([{"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}]),
                "Burstable",
            ),
        ] {
            assert_eq!(qos_class(&json!({"spec": {"containers": containers}})), wanted);
        }
        let pod = json!({"spec": {
            "containers": [{}], "resources": {"limits": both, "requests": both},
        }});
        assert_eq!(qos_class(&pod), "Guaranteed");
    }

    #[test]
    fn sidecars_run_along_and_init_containers_before() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("300m");
        sidecar["restartPolicy"] = json!("Always");
        let mut pod = json!({"spec": {
            "initContainers": [container("2"), sidecar, container("1")],
            "containers": [container("500m"), container("200m")],
            "overhead": {"cpu": "10m"},
        }});
        assert_eq!(printed(&requests(&pod)), "cpu=2010m");
        pod["spec"]["initContainers"][0] = container("0");
        assert_eq!(printed(&requests(&pod)), "cpu=1310m");
        pod["spec"]["initContainers"][2] = container("0");
        assert_eq!(printed(&requests(&pod)), "cpu=1010m");
        pod["spec"]["resources"] = json!({"requests": {"cpu": "3", "example.com/x": "1"}});
        assert_eq!(printed(&requests(&pod)), "cpu=3010m");
        assert_eq!(printed(&limits(&pod)), "");
    }

    #[test]
    fn phases_and_readiness() {
        let pod = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(is_ready(&pod) && is_active(&pod) && !is_terminal(&pod));
        assert!(is_terminal(&json!({"status": {"phase": "Failed"}})));
        let gone = json!({"metadata": {"deletionTimestamp": "2025-01-01T00:00:00Z"}});
        assert!(!is_active(&gone));
    }
}
