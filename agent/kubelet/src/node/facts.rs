//! The status of the Node. PURE.

use images::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use objects::quantity::{Format, Quantity};
use objects::time::format_time;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::machine::{Free, Machine};

/// Most images that are listed, the largest first. Source: `nodeStatusMaxImages`.
const IMAGES_MAX: usize = 50;

/// What a Node's status is made from.
pub(super) struct NodeFacts {
    pub(super) machine: Machine,
    pub(super) config: Config,
    pub(super) free: Free,
    pub(super) images: Vec<Image>,
    pub(super) pod_cidr: Option<String>,
    pub(super) port: u16,
    /// Conditions as the API has them, for their transition times.
    pub(super) conditions: Vec<NodeCondition>,
}

impl NodeFacts {
    /// Pods can be given addresses and run.
    pub(super) fn is_ready(&self) -> bool {
        self.pod_cidr.is_some()
    }
}

fn bytes(amount: i64) -> Value {
    json!(Quantity::from_units(amount, Format::BinarySi).to_string())
}

/// The whole status. `now` is only the time of the heartbeat.
pub(super) fn status(facts: &NodeFacts, now: Timestamp) -> Value {
    let (machine, config) = (&facts.machine, &facts.config);
    let allocatable = machine.allocatable(config.reserved);
    let amounts = |cpu_millis: i64, memory: i64, storage: i64| {
        json!({
            "cpu": Quantity::from_millis(cpu_millis).to_string(),
            "memory": bytes(memory),
            "ephemeral-storage": bytes(storage),
            "pods": config.pods_max.to_string(),
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
        })
    };
    let mut addresses: Vec<Value> = config
        .node_ips
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": config.node_name}));
    json!({
        "capacity": amounts(machine.cpus * 1000, machine.memory_bytes, machine.storage_bytes),
        "allocatable": amounts(
            allocatable.cpu_millis, allocatable.memory_bytes, allocatable.storage_bytes),
        "addresses": addresses,
        "conditions": conditions(facts, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "features": {"supplementalGroupsPolicy": true},
        "images": images(&facts.images),
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": format!("skeg://{}", env!("CARGO_PKG_VERSION")),
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": config.version,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
        "runtimeHandlers": [
            {"name": "", "features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}},
        ],
    })
}

fn conditions(facts: &NodeFacts, now: Timestamp) -> Vec<Value> {
    let machine = &facts.machine;
    let thresholds = &facts.config.eviction_hard;
    let pressure = thresholds.pressure(facts.free, machine.memory_bytes, machine.storage_bytes);
    let pressed = |kind, holds: bool, noun: &str| {
        let (reason, verb) = if holds {
            (format!("KubeletHasInsufficient{noun}"), "has insufficient")
        } else if noun == "Disk" {
            ("KubeletHasNoDiskPressure".to_owned(), "has no")
        } else {
            (format!("KubeletHasSufficient{noun}"), "has sufficient")
        };
        let shown = match (noun, holds) {
            ("Disk", true) => "disk space available",
            ("Disk", false) => "disk pressure",
            ("Memory", _) => "memory available",
            _ => "PID available",
        };
        (kind, holds, reason, format!("kubelet {verb} {shown}"))
    };
    let ready = if facts.is_ready() {
        ("Ready", true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned())
    } else {
        let text = "container runtime network not ready: NetworkReady=false \
                    reason:NetworkPluginNotReady message:the node has no pod CIDR yet";
        ("Ready", false, "KubeletNotReady".to_owned(), text.to_owned())
    };
    let own = [
        pressed("MemoryPressure", pressure.memory, "Memory"),
        pressed("DiskPressure", pressure.disk, "Disk"),
        pressed("PIDPressure", pressure.pids, "PID"),
        ready,
    ];
    let condition = |(kind, holds, reason, message): (&str, bool, String, String)| {
        let status = if holds { "True" } else { "False" };
        let known = facts.conditions.iter().find(|c| c.type_ == kind && c.status == status);
        let since = known.and_then(|known| known.last_transition_time.as_ref()).map(|time| time.0);
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": format_time(now),
            "lastTransitionTime": format_time(since.unwrap_or(now)),
        })
    };
    own.into_iter().map(condition).collect()
}

fn images(images: &[Image]) -> Vec<Value> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
    let shown = sorted.into_iter().take(IMAGES_MAX).map(|image| {
        let names: Vec<&String> = image.digests.iter().chain(&image.tags).take(5).collect();
        let mut entry = Map::new();
        entry.insert("names".into(), json!(names));
        entry.insert("sizeBytes".into(), json!(image.size_bytes));
        Value::Object(entry)
    });
    shown.collect()
}
