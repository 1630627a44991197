//! From two readings to usage, and from usage to objects. PURE.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use objects::ObjectExt;
use objects::selector::FieldSelector;
use objects::time::format_time;
use serde_json::{Map, Value, json};

/// Counters of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// CPU time since it began, in nanoseconds.
    cpu_nanos: u64,
    memory_bytes: u64,
}

/// A kubelet's counters at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    node: Counters,
    /// By namespace and name of the pod, and name of the container.
    containers: BTreeMap<(String, String), BTreeMap<String, Counters>>,
}

impl Reading {
    /// How long ago it was taken.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.at)).unwrap_or_default()
    }
}

/// What is used, over a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage {
    at: Timestamp,
    window_millis: u64,
    node: Used,
    containers: BTreeMap<(String, String), BTreeMap<String, Used>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    cpu_nanocores: u64,
    memory_bytes: u64,
}

fn counters(of: &Value) -> Option<Counters> {
    let number = |path: &[&str]| u64::try_from(of.i64_at(path)?).ok();
    Some(Counters {
        cpu_nanos: number(&["cpu", "usageCoreNanoSeconds"])?,
        memory_bytes: number(&["memory", "workingSetBytes"])?,
    })
}

/// Reads a kubelet's summary.
pub(super) fn reading(summary: &Value, at: Timestamp) -> Reading {
    let mut containers = BTreeMap::new();
    for pod in summary.list_at(&["pods"]) {
        let named = (
            pod.str_at(&["podRef", "namespace"]).to_string(),
            pod.str_at(&["podRef", "name"]).to_string(),
        );
        let own = pod.list_at(&["containers"]).iter().filter_map(|container| {
            Some((container.str_at(&["name"]).to_string(), counters(container)?))
        });
        containers.insert(named, own.collect());
    }
    let none = Counters { cpu_nanos: 0, memory_bytes: 0 };
    let node = summary.at(&["node"]).and_then(counters).unwrap_or(none);
    Reading { at, node, containers }
}

/// What was used between two readings. Containers that were not there at the first are left out:
/// nothing is known of their CPU yet.
pub(super) fn usage(first: &Reading, last: &Reading) -> Usage {
    let window = last.at.as_millisecond() - first.at.as_millisecond();
    let window_millis = u64::try_from(window).unwrap_or(0).max(1);
    let used = |first: &Counters, last: &Counters| {
        // A counter that went back began anew.
        let cpu = last.cpu_nanos.checked_sub(first.cpu_nanos).unwrap_or(last.cpu_nanos);
        let cores = u128::from(cpu) * 1000 / u128::from(window_millis);
        Used {
            cpu_nanocores: u64::try_from(cores).unwrap_or(u64::MAX),
            memory_bytes: last.memory_bytes,
        }
    };
    let containers = last.containers.iter().filter_map(|(pod, own)| {
        let before = first.containers.get(pod)?;
        let own = own
            .iter()
            .filter_map(|(name, counters)| Some((name.clone(), used(before.get(name)?, counters))));
        Some((pod.clone(), own.collect::<BTreeMap<_, _>>()))
    });
    Usage {
        at: last.at,
        window_millis,
        node: used(&first.node, &last.node),
        containers: containers.collect(),
    }
}

impl Used {
    fn to_value(self) -> Value {
        json!({
            "cpu": format!("{}n", self.cpu_nanocores),
            "memory": format!("{}Ki", self.memory_bytes / 1024),
        })
    }
}

fn metadata(object: &Value, usage: &Usage) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), json!(object.name()));
    if !object.namespace().is_empty() {
        out.insert("namespace".into(), json!(object.namespace()));
    }
    out.insert("creationTimestamp".into(), json!(format_time(usage.at)));
    if let Some(labels) = object.at(&["metadata", "labels"]) {
        out.insert("labels".into(), labels.clone());
    }
    Value::Object(out)
}

fn measured(object: &Value, usage: &Usage) -> Value {
    let millis = usage.window_millis;
    json!({
        "metadata": metadata(object, usage),
        "timestamp": format_time(usage.at),
        "window": format!("{}.{:03}s", millis / 1000, millis % 1000),
    })
}

/// A node's `NodeMetrics`, without kind and version.
pub(super) fn node(node: &Value, usage: &Usage) -> Option<Value> {
    let mut out = measured(node, usage);
    out["usage"] = usage.node.to_value();
    Some(out)
}

/// A pod's `PodMetrics`, without kind and version. `None` if nothing is known of it.
pub(super) fn pod(pod: &Value, usage: &Usage) -> Option<Value> {
    let named = (pod.namespace().to_string(), pod.name().to_string());
    let own = usage.containers.get(&named).filter(|own| !own.is_empty())?;
    let containers: Vec<Value> =
        own.iter().map(|(name, used)| json!({"name": name, "usage": used.to_value()})).collect();
    let mut out = measured(pod, usage);
    out["containers"] = json!(containers);
    Some(out)
}

/// An object's labels, for selectors.
pub(super) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.at(&["metadata", "labels"]).and_then(Value::as_object);
    let pairs = labels.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))).collect()
}

/// Whether an object is selected by its name and namespace; other fields are not offered.
pub(super) fn is_selected(fields: &FieldSelector, object: &Value) -> bool {
    fields.matches(|field| match field {
        "metadata.name" => Some(object.name()),
        "metadata.namespace" => Some(object.namespace()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(node: u64, container: u64) -> Value {
        json!({
            "node": {"cpu": {"usageCoreNanoSeconds": node}, "memory": {"workingSetBytes": 2048}},
            "pods": [{
                "podRef": {"namespace": "default", "name": "web"},
                "containers": [{"name": "c", "cpu": {"usageCoreNanoSeconds": container},
                    "memory": {"workingSetBytes": 4096}}],
            }],
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn two_readings_make_a_rate() {
        let first = reading(&summary(1_000_000_000, 500), at(100));
        let last = reading(&summary(3_000_000_000, 1500), at(104));
        let usage = usage(&first, &last);
        let object = json!({"metadata": {"name": "n1", "labels": {"a": "b"}}});
        let node = node(&object, &usage).expect("a node's use");
        assert_eq!(node["usage"], json!({"cpu": "500000000n", "memory": "2Ki"}));
        assert_eq!(node["window"], "4.000s");
        assert_eq!(node["metadata"]["labels"], json!({"a": "b"}));
        let web = json!({"metadata": {"name": "web", "namespace": "default"}});
        let web = pod(&web, &usage).expect("a pod's use");
        assert_eq!(
            web["containers"],
            json!([{"name": "c", "usage": {"cpu": "250n", "memory": "4Ki"}}])
        );
        let other = json!({"metadata": {"name": "other", "namespace": "default"}});
        assert_eq!(pod(&other, &usage), None);
    }

    #[test]
    fn a_counter_that_began_anew_counts_from_zero() {
        let first = reading(&summary(5, 900), at(100));
        let last = reading(&summary(6, 100), at(101));
        let web = json!({"metadata": {"name": "web", "namespace": "default"}});
        let web = pod(&web, &usage(&first, &last)).expect("a pod's use");
        assert_eq!(web["containers"][0]["usage"]["cpu"], "100n");
    }

    #[test]
    fn names_and_namespaces_select() {
        let object = json!({"metadata": {"name": "web", "namespace": "default"}});
        for (text, wanted) in [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("metadata.namespace=other", false),
            ("spec.nodeName=n1", false),
        ] {
            let fields = FieldSelector::parse(text).expect("a selector");
            assert_eq!(is_selected(&fields, &object), wanted, "{text}");
        }
    }
}
