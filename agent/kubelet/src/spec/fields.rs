//! Fields of a pod and resources of its containers, as the downward API shows them. PURE.
//!
//! Source of behaviour: kubernetes pkg/fieldpath and pkg/api/v1/resource `ExtractContainerResourceValue`,
//! v1.36.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use objects::quantity::Quantity;

use super::resources::{amount, request};
use crate::pod::PodExt;

/// What the node knows that the pod's object does not say yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// The pod's addresses.
    pub(crate) pod_ips: Vec<IpAddr>,
    /// The node's addresses.
    pub(crate) host_ips: Vec<IpAddr>,
    /// The node's allocatable CPU in millis: the limit of a container that has none.
    pub(crate) allocatable_cpu_millis: i64,
    /// The node's allocatable memory in bytes.
    pub(crate) allocatable_memory_bytes: i64,
    /// The node's allocatable local storage in bytes.
    pub(crate) allocatable_storage_bytes: i64,
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The value of a `fieldRef`; `None` if there is no such field.
pub(crate) fn field(pod: &Pod, path: &str, context: &Context) -> Option<String> {
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => pod.metadata.labels.as_ref(),
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            _ => return None,
        };
        return Some(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = PodExt::spec(pod);
    let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string);
    Some(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => format_map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => format_map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&context.host_ips).unwrap_or_default(),
        "status.hostIPs" => joined(&context.host_ips),
        "status.podIP" => first(&context.pod_ips).unwrap_or_default(),
        "status.podIPs" => joined(&context.pod_ips),
        _ => return None,
    })
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, sorted by key, the value quoted as Go's `%q` does.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            other if u32::from(other) < 0x20 || other == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", u32::from(other)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef` for a container; `None` if there is no such resource.
pub(crate) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    context: &Context,
) -> Option<String> {
    let (which, name) = selector.resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let value = match which {
        "requests" => request(resources, name),
        // A container without a limit may take all that the node has.
        "limits" => amount(resources.and_then(|r| r.limits.as_ref()), name)
            .filter(|limit| !limit.is_zero())
            .or_else(|| {
                Some(match name {
                    "cpu" => Quantity::from_millis(context.allocatable_cpu_millis),
                    "memory" => units(context.allocatable_memory_bytes),
                    "ephemeral-storage" => units(context.allocatable_storage_bytes),
                    _ => return None,
                })
            }),
        _ => return None,
    };
    let value = value.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok());
    let divisor = divisor.filter(|divisor| divisor.nanos() > 0);
    let divisor = divisor.map_or(1_000_000_000, |divisor| divisor.nanos());
    // Rounded up, as a share of a CPU must not become none.
    let quotient = (value.nanos() + divisor - 1).div_euclid(divisor);
    Some(quotient.to_string())
}

fn units(bytes: i64) -> Quantity {
    Quantity::from_units(bytes, objects::quantity::Format::BinarySi)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context() -> Context {
        Context {
            pod_ips: vec!["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            host_ips: vec!["192.0.2.1".parse().unwrap()],
            allocatable_cpu_millis: 2000,
            allocatable_memory_bytes: 8 << 30,
            allocatable_storage_bytes: 1 << 40,
        }
    }

    #[test]
    fn fields_of_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u",
                "labels": {"b": "2", "a": "x\"y"}, "annotations": {"k/é": "line\n2"}},
            "spec": {"containers": [], "nodeName": "node-1", "serviceAccountName": "default"},
        }))
        .unwrap();
        for (path, wanted) in [
            ("metadata.name", Some("web")),
            ("metadata.labels", Some("a=\"x\\\"y\"\nb=\"2\"")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['none']", Some("")),
            ("metadata.annotations['k/é']", Some("line\n2")),
            ("spec.nodeName", Some("node-1")),
            ("status.podIP", Some("10.1.0.5")),
            ("status.podIPs", Some("10.1.0.5,fd00::5")),
            ("status.hostIP", Some("192.0.2.1")),
            ("status.phase", None),
        ] {
            assert_eq!(field(&pod, path, &context()).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn resources_of_a_container() {
        let container: Container = serde_json::from_value(json!({
            "name": "a", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"},
            "limits": {"memory": "128Mi"}},
        }))
        .unwrap();
        for (resource_name, divisor, wanted) in [
            ("requests.cpu", None, Some("1")),
            ("requests.cpu", Some("1m"), Some("250")),
            ("limits.cpu", Some("1m"), Some("2000")),
            ("limits.memory", None, Some("134217728")),
            ("limits.memory", Some("1Mi"), Some("128")),
            ("requests.memory", Some("0"), Some("67108864")),
            ("requests.ephemeral-storage", None, Some("0")),
            ("cpu", None, None),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource_name, "divisor": divisor}))
                    .unwrap();
            let value = resource(&container, &selector, &context());
            assert_eq!(value.as_deref(), wanted, "{resource_name} {divisor:?}");
        }
    }
}
