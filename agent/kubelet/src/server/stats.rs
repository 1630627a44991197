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
    let at = Timestamp::now().as_millisecond();
    let used = used(server).await;
    let (cpu, memory, _) = machine(server).await;
    exposition(&resource_families(&used, cpu, memory, at))
}

/// The samples of one metric. Prometheus' text form wants them together, behind their type.
struct Family {
    name: &'static str,
    kind: &'static str,
    /// Labels in braces (or nothing), a value, and perhaps a time.
    samples: Vec<String>,
}

/// Source: kubernetes pkg/kubelet/metrics/collectors/resource_metrics.go. PURE.
fn resource_families(used: &[Used], cpu_nanos: u64, memory: i64, at: i64) -> Vec<Family> {
    let family = |name, kind| Family { name, kind, samples: Vec::new() };
    let mut cpus = family("container_cpu_usage_seconds_total", "counter");
    let mut memories = family("container_memory_working_set_bytes", "gauge");
    let mut starts = family("container_start_time_seconds", "gauge");
    let mut pod_cpus = family("pod_cpu_usage_seconds_total", "counter");
    let mut pod_memories = family("pod_memory_working_set_bytes", "gauge");
    let mut pods = std::collections::BTreeMap::<(&str, &str), Usage>::new();
    for one in used {
        let (namespace, pod) = (one.pod.namespace(), one.pod.name());
        let labels =
            format!("{{container=\"{}\",namespace=\"{namespace}\",pod=\"{pod}\"}}", one.container);
        let memory = one.usage.working_set_bytes;
        cpus.samples.push(format!("{labels} {} {at}", seconds(one.usage.cpu_nanos)));
        memories.samples.push(format!("{labels} {memory} {at}"));
        if let Some(started) = one.started_at {
            starts.samples.push(format!("{labels} {}", started.as_second()));
        }
        let total = pods.entry((namespace, pod)).or_default();
        total.cpu_nanos += one.usage.cpu_nanos;
        total.working_set_bytes += memory;
    }
    for ((namespace, pod), total) in pods {
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}");
        pod_cpus.samples.push(format!("{labels} {} {at}", seconds(total.cpu_nanos)));
        pod_memories.samples.push(format!("{labels} {} {at}", total.working_set_bytes));
    }
    let single = |name, kind, sample| Family { name, kind, samples: vec![sample] };
    vec![
        cpus,
        memories,
        starts,
        single("node_cpu_usage_seconds_total", "counter", format!(" {} {at}", seconds(cpu_nanos))),
        single("node_memory_working_set_bytes", "gauge", format!(" {memory} {at}")),
        pod_cpus,
        pod_memories,
        single("resource_scrape_error", "gauge", " 0".to_owned()),
    ]
}

/// Prometheus' text form.
fn exposition(families: &[Family]) -> Response<Body> {
    let mut response = text(StatusCode::OK, print(families));
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn print(families: &[Family]) -> String {
    let mut out = String::new();
    for Family { name, kind, samples } in families.iter().filter(|f| !f.samples.is_empty()) {
        out.push_str(&format!("# TYPE {name} {kind}\n"));
        for sample in samples {
            out.push_str(name);
            out.push_str(sample);
            out.push('\n');
        }
    }
    out
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
    let gauge = |name, samples| Family { name, kind: "gauge", samples };
    let node = &server.context.config.node_name;
    exposition(&[
        gauge("kubelet_running_pods", vec![format!(" {}", all.len())]),
        gauge(
            "kubelet_running_containers",
            vec![
                format!("{{container_state=\"running\"}} {running}"),
                format!("{{container_state=\"exited\"}} {exited}"),
            ],
        ),
        gauge("kubelet_node_name", vec![format!("{{node=\"{node}\"}} 1")]),
        gauge(
            "process_start_time_seconds",
            vec![format!(" {}", crate::run::started_at().as_second())],
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_time_without_idle() {
        assert_eq!(busy_nanos("cpu 100 0 50 1000 7 0 3 0 0 0\n"), 1_530_000_000);
        assert_eq!(seconds(1_500_000_000), "1.500000000");
    }

    #[test]
    fn samples_of_a_metric_are_together() {
        let pod = |name: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            pod.metadata.namespace = Some("n".into());
            Arc::new(pod)
        };
        let used = |name: &str, container: &str, cpu_nanos| Used {
            pod: pod(name),
            container: container.into(),
            started_at: (container == "a").then(|| Timestamp::from_second(7).unwrap()),
            usage: Usage { cpu_nanos, working_set_bytes: 10, pids: 1 },
        };
        let all = [used("p", "a", 1_000_000_000), used("p", "b", 500_000_000), used("q", "c", 1)];
        let wanted = r#"# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="n",pod="p"} 1.000000000 99
container_cpu_usage_seconds_total{container="b",namespace="n",pod="p"} 0.500000000 99
container_cpu_usage_seconds_total{container="c",namespace="n",pod="q"} 0.000000001 99
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="a",namespace="n",pod="p"} 10 99
container_memory_working_set_bytes{container="b",namespace="n",pod="p"} 10 99
container_memory_working_set_bytes{container="c",namespace="n",pod="q"} 10 99
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="a",namespace="n",pod="p"} 7
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 2.000000000 99
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 4096 99
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 1.500000000 99
pod_cpu_usage_seconds_total{namespace="n",pod="q"} 0.000000001 99
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="n",pod="p"} 20 99
pod_memory_working_set_bytes{namespace="n",pod="q"} 10 99
# TYPE resource_scrape_error gauge
resource_scrape_error 0
"#;
        assert_eq!(print(&resource_families(&all, 2_000_000_000, 4096, 99)), wanted);
        assert!(!print(&resource_families(&[], 0, 0, 0)).contains("pod_"));
    }
}
