//! `/stats/summary`, `/metrics` and `/metrics/resource`: what metrics-server and Prometheus read.

use std::sync::Arc;

use http::{Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use objects::time::format_time;
use runtime::{ContainerState, Usage};
use serde_json::{Value, json};

use super::{Body, Server, json, text};
use crate::act::blocking;
use crate::pod::{PodExt, timestamp};

/// Usage of a running container.
struct Used {
    pod: Arc<Pod>,
    container: String,
    started_at: Option<Timestamp>,
    usage: Usage,
}

/// The usage of every running container; those that end meanwhile are left out.
async fn used(server: &Server) -> Vec<Used> {
    let mut all = Vec::new();
    for (_, published) in server.registry.all() {
        let Some(sandbox) = published.sandbox else { continue };
        for container in sandbox.containers {
            let ContainerState::Running { started_at_nanos, .. } = container.state else {
                continue;
            };
            let runtime = &server.context.deps.runtime;
            let Ok(usage) = runtime.usage(&container.spec.id).await else { continue };
            all.push(Used {
                pod: Arc::clone(&published.pod),
                container: container.spec.name,
                started_at: timestamp(started_at_nanos),
                usage,
            });
        }
    }
    all
}

fn cpu_and_memory(usage: &Usage, now: Timestamp) -> (Value, Value) {
    let time = format_time(now);
    (
        json!({"time": time, "usageCoreNanoSeconds": usage.cpu_nanos}),
        json!({"time": time, "workingSetBytes": usage.working_set_bytes,
            "usageBytes": usage.working_set_bytes}),
    )
}

/// CPU time of the whole machine, from `/proc/stat`, in nanoseconds. PURE.
fn busy_nanos(stat: &str) -> u64 {
    // user nice system idle iowait irq softirq steal, in hundredths of a second.
    let line = stat.lines().next().unwrap_or("");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let busy: u64 = ticks.iter().take(8).sum::<u64>()
        - ticks.get(3).copied().unwrap_or(0)
        - ticks.get(4).copied().unwrap_or(0);
    busy * 10_000_000
}

async fn machine(server: &Server) -> (u64, i64, crate::machine::Free) {
    let context = Arc::clone(&server.context);
    blocking(move || {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let free = context.machine.free();
        (busy_nanos(&stat), context.machine.memory_bytes - free.memory_bytes, free)
    })
    .await
}

/// The summary of node and pods. Source: `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.
pub(super) async fn summary(server: &Arc<Server>) -> Response<Body> {
    let now = Timestamp::now();
    let time = format_time(now);
    let used = used(server).await;
    let mut pods: Vec<Value> = Vec::new();
    for (uid, published) in server.registry.all() {
        let own: Vec<&Used> = used.iter().filter(|used| used.pod.uid() == uid).collect();
        let mut total = Usage::default();
        for one in &own {
            total.cpu_nanos += one.usage.cpu_nanos;
            total.working_set_bytes += one.usage.working_set_bytes;
            total.pids += one.usage.pids;
        }
        let containers: Vec<Value> = own
            .iter()
            .map(|one| {
                let (cpu, memory) = cpu_and_memory(&one.usage, now);
                json!({"name": one.container, "startTime": one.started_at.map(format_time),
                    "cpu": cpu, "memory": memory})
            })
            .collect();
        let (cpu, memory) = cpu_and_memory(&total, now);
        let pod = &published.pod;
        pods.push(json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": uid},
            "startTime": published.status.start_time,
            "containers": containers,
            "cpu": cpu,
            "memory": memory,
            "process_stats": {"process_count": total.pids},
        }));
    }
    let (cpu, memory, free) = machine(server).await;
    let context = &server.context;
    json(&json!({
        "node": {
            "nodeName": context.config.node_name,
            "startTime": format_time(crate::run::started_at()),
            "cpu": {"time": time, "usageCoreNanoSeconds": cpu},
            "memory": {"time": time, "workingSetBytes": memory, "usageBytes": memory,
                "availableBytes": free.memory_bytes},
            "fs": {"time": time, "availableBytes": free.storage_bytes,
                "capacityBytes": context.machine.storage_bytes,
                "inodes": free.inodes_all, "inodesFree": free.inodes},
        },
        "pods": pods,
    }))
}

/// Metrics of usage, as metrics-server reads them.
pub(super) async fn resource_metrics(server: &Arc<Server>) -> Response<Body> {
    let mut lines = vec![
        "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
        "# TYPE container_memory_working_set_bytes gauge".to_owned(),
        "# TYPE container_start_time_seconds gauge".to_owned(),
        "# TYPE pod_cpu_usage_seconds_total counter".to_owned(),
        "# TYPE pod_memory_working_set_bytes gauge".to_owned(),
        "# TYPE node_cpu_usage_seconds_total counter".to_owned(),
        "# TYPE node_memory_working_set_bytes gauge".to_owned(),
    ];
    let at = Timestamp::now().as_millisecond();
    let mut pods = std::collections::BTreeMap::<(String, String), Usage>::new();
    for one in used(server).await {
        let (namespace, pod) = (one.pod.namespace().to_owned(), one.pod.name().to_owned());
        let labels =
            format!("container=\"{}\",namespace=\"{namespace}\",pod=\"{pod}\"", one.container);
        let cpu = seconds(one.usage.cpu_nanos);
        let memory = one.usage.working_set_bytes;
        lines.push(format!("container_cpu_usage_seconds_total{{{labels}}} {cpu} {at}"));
        lines.push(format!("container_memory_working_set_bytes{{{labels}}} {memory} {at}"));
        if let Some(started) = one.started_at {
            lines.push(format!("container_start_time_seconds{{{labels}}} {}", started.as_second()));
        }
        let total = pods.entry((namespace, pod)).or_default();
        total.cpu_nanos += one.usage.cpu_nanos;
        total.working_set_bytes += memory;
    }
    for ((namespace, pod), total) in pods {
        let labels = format!("namespace=\"{namespace}\",pod=\"{pod}\"");
        let cpu = seconds(total.cpu_nanos);
        lines.push(format!("pod_cpu_usage_seconds_total{{{labels}}} {cpu} {at}"));
        let memory = total.working_set_bytes;
        lines.push(format!("pod_memory_working_set_bytes{{{labels}}} {memory} {at}"));
    }
    let (cpu, memory, _) = machine(server).await;
    lines.push(format!("node_cpu_usage_seconds_total {} {at}", seconds(cpu)));
    lines.push(format!("node_memory_working_set_bytes {memory} {at}"));
    lines.push("resource_scrape_error 0\n".to_owned());
    text(StatusCode::OK, lines.join("\n"))
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The kubelet's own metrics.
pub(super) async fn metrics(server: &Arc<Server>) -> Response<Body> {
    let all = server.registry.all();
    let containers = all.iter().flat_map(|(_, p)| p.sandbox.iter().flat_map(|s| &s.containers));
    let (mut running, mut exited) = (0, 0);
    for container in containers {
        match container.state {
            ContainerState::Running { .. } => running += 1,
            ContainerState::Exited(_) => exited += 1,
            ContainerState::Created => {}
        }
    }
    let lines = format!(
        "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {running}\n\
         kubelet_running_containers{{container_state=\"exited\"}} {exited}\n\
         # TYPE kubelet_node_name gauge\nkubelet_node_name{{node=\"{}\"}} 1\n\
         # TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}\n",
        all.len(),
        server.context.config.node_name,
        crate::run::started_at().as_second(),
    );
    text(StatusCode::OK, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_time_without_idle() {
        assert_eq!(busy_nanos("cpu 100 0 50 1000 7 0 3 0 0 0\n"), 1_530_000_000);
        assert_eq!(seconds(1_500_000_000), "1.500000000");
    }
}
