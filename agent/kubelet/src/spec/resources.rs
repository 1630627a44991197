//! Requests and limits as cgroup settings, QoS, and `oom_score_adj`. PURE.
//!
//! Source of behaviour: kubernetes pkg/kubelet/cm/helpers_linux.go (`MilliCPUToShares`,
//! `MilliCPUToQuota`, `ResourceConfigForPod`) and pkg/kubelet/qos/policy.go, v1.36.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use objects::facts;
use objects::quantity::Quantity;
use runtime::Resources;

use crate::pod::{Kind, Listed, PodExt};

const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const SHARES_PER_CPU: i64 = 1024;
const PERIOD_MICROS: i64 = 100_000;
const QUOTA_MIN_MICROS: i64 = 1000;

/// The value of one resource; `None` if it is not named or not a quantity.
pub(crate) fn amount(map: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Option<Quantity> {
    Quantity::parse(&map?.get(name)?.0).ok()
}

/// The request for a resource; a limit stands for a request that is missing.
pub(crate) fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    let resources = resources?;
    amount(resources.requests.as_ref(), name).or_else(|| limit(Some(resources), name))
}

/// The limit of a resource; zero is none.
pub(crate) fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    amount(resources?.limits.as_ref(), name).filter(|limit| !limit.is_zero())
}

/// CPU in millis as cgroup v1 shares.
fn shares(cpu_millis: i64) -> u64 {
    let shares = (cpu_millis * SHARES_PER_CPU / 1000).clamp(SHARES_MIN, SHARES_MAX);
    u64::try_from(shares).expect("clamped to positive numbers")
}

/// CPU in millis as a quota per period.
fn quota(cpu_millis: i64) -> i64 {
    (cpu_millis * PERIOD_MICROS / 1000).max(QUOTA_MIN_MICROS)
}

fn config(cpu_request: i64, cpu_limit: Option<i64>, memory_limit: Option<i64>) -> Resources {
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota_micros: cpu_limit.map(quota),
        cpu_period_micros: cpu_limit.map(|_| PERIOD_MICROS.unsigned_abs()),
        memory_bytes: memory_limit,
        pids: None,
        hugepages_bytes: BTreeMap::new(),
    }
}

/// Limits of one container.
pub(crate) fn container_resources(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let cpu = request(resources, "cpu").map_or(0, |cpu| cpu.milli_value());
    let cpu_limit = limit(resources, "cpu").map(|cpu| cpu.milli_value());
    let memory = limit(resources, "memory").map(|memory| memory.value());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    Resources { hugepages_bytes: hugepages(limits), ..config(cpu, cpu_limit, memory) }
}

/// Huge page limits by page size as the kernel names it: `hugepages-2Mi` is `2MB`.
fn hugepages(limits: Option<&BTreeMap<String, ApiQuantity>>) -> BTreeMap<String, u64> {
    let named = limits.into_iter().flatten().filter_map(|(name, amount)| {
        let size = name.strip_prefix("hugepages-")?;
        let bytes = u64::try_from(Quantity::parse(&amount.0).ok()?.value()).ok()?;
        Some((format!("{}B", size.strip_suffix('i').unwrap_or(size)), bytes))
    });
    named.collect()
}

/// Limits of the pod's cgroup. A limit holds only if every container has one.
pub(crate) fn pod_resources(pod: &Pod, pids_max: Option<i64>) -> Resources {
    let value = serde_json::to_value(pod).expect("a pod serialises");
    let requests = facts::requests(&value);
    let limits = facts::limits(&value);
    let own = PodExt::spec(pod).resources.as_ref();
    let all_have = |name: &str| {
        limit(own, name).is_some()
            || pod
                .listed()
                .iter()
                .filter(|container| container.kind != Kind::Ephemeral)
                .all(|container| limit(container.spec.resources.as_ref(), name).is_some())
    };
    let cpu = requests.get("cpu").map_or(0, Quantity::milli_value);
    let cpu_limit = limits.get("cpu").filter(|_| all_have("cpu")).map(Quantity::milli_value);
    let memory = limits.get("memory").filter(|_| all_have("memory")).map(Quantity::value);
    Resources { pids: pids_max, ..config(cpu, cpu_limit, memory) }
}

/// `Guaranteed`, `Burstable` or `BestEffort`: what the API says, else from the spec.
pub(crate) fn qos(pod: &Pod) -> String {
    let known = PodExt::status(pod).and_then(|status| status.qos_class.clone());
    known.unwrap_or_else(|| {
        facts::qos_class(&serde_json::to_value(pod).expect("a pod serialises")).to_owned()
    })
}

/// The pod's cgroup, relative to the node's root: `burstable/podUID`. As upstream, guaranteed pods
/// are at the top.
pub(crate) fn pod_cgroup(pod: &Pod) -> String {
    let uid = pod.uid();
    match qos(pod).as_str() {
        "Guaranteed" => format!("pod{uid}"),
        "BestEffort" => format!("besteffort/pod{uid}"),
        _ => format!("burstable/pod{uid}"),
    }
}

/// Priority from which on a pod is critical for the node.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Which containers the kernel kills first when memory runs out: from -997 (guaranteed, critical)
/// over a value that falls with the share of memory asked for, to 1000 (best effort).
pub(crate) fn oom_score_adj(pod: &Pod, container: &Listed<'_>, capacity_bytes: i64) -> i32 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    let critical = PodExt::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY);
    let qos = qos(pod);
    let own = |container: &Listed<'_>| {
        request(container.spec.resources.as_ref(), "memory").map_or(0, |memory| memory.value())
    };
    let score = match qos.as_str() {
        _ if critical => GUARANTEED,
        "Guaranteed" => GUARANTEED,
        "BestEffort" => BEST_EFFORT,
        _ => {
            let bytes = i128::from(own(container));
            let share = 1000 * bytes / i128::from(capacity_bytes.max(1));
            let mut score = 1000 - i64::try_from(share).unwrap_or(1000);
            if container.kind == Kind::Sidecar {
                // A sidecar must not be killed before the containers that it serves.
                let mains = pod.listed();
                let mains = mains.iter().filter(|container| container.kind == Kind::Main);
                let least = mains.map(own).min().unwrap_or(0);
                let of_main = 1000 * i128::from(least) / i128::from(capacity_bytes.max(1));
                score = score.min(1000 - i64::try_from(of_main).unwrap_or(1000));
            }
            // Below 3 it would be taken for guaranteed, at 1000 for best effort.
            score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
        }
    };
    i32::try_from(score).expect("scores are within -997..=1000")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(qos: &str, containers: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": "u1"},
            "spec": {"containers": containers},
            "status": {"qosClass": qos},
        }))
        .unwrap()
    }

    #[test]
    fn cpu_and_memory_become_shares_quota_and_limit() {
        let pod = pod(
            "Burstable",
            &json!([{"name": "a", "resources": {
                "requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}]),
        );
        let resources = container_resources(&pod.spec.as_ref().unwrap().containers[0]);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!(resources.cpu_quota_micros, Some(50_000));
        assert_eq!(resources.memory_bytes, Some(64 << 20));
        assert_eq!(pod_resources(&pod, Some(100)).pids, Some(100));
        assert_eq!(pod_resources(&pod, None).memory_bytes, Some(64 << 20));
        assert_eq!(pod_cgroup(&pod), "burstable/podu1");
    }

    #[test]
    fn a_container_without_a_limit_lifts_the_pods() {
        let pod = pod(
            "Burstable",
            &json!([{"name": "a", "resources": {"limits": {"memory": "64Mi"}}}, {"name": "b"}]),
        );
        assert_eq!(pod_resources(&pod, None).memory_bytes, None);
        assert_eq!(container_resources(&pod.spec.unwrap().containers[1]).cpu_shares, Some(2));
    }

    #[test]
    fn oom_scores() {
        let with =
            |bytes: &str| json!([{"name": "a", "resources": {"requests": {"memory": bytes}}}]);
        for (qos, bytes, wanted) in [
            ("Guaranteed", "1Gi", -997),
            ("BestEffort", "0", 1000),
            ("Burstable", "0", 999),
            ("Burstable", "1Gi", 750),
            ("Burstable", "4Gi", 3),
        ] {
            let pod = pod(qos, &with(bytes));
            let containers = pod.listed();
            assert_eq!(oom_score_adj(&pod, &containers[0], 4 << 30), wanted, "{qos} {bytes}");
        }
    }
}
