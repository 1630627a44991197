//! Counters in the Prometheus text form, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the latency buckets, in seconds: upstream's, thinned out.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// Distinct label sets kept; paths that exist make a few hundred.
const SERIES_MAX: usize = 4096;

#[derive(Debug, Default, Clone)]
struct Latency {
    counts: [u64; BUCKETS.len()],
    sum: f64,
    total: u64,
}

#[derive(Debug, Default)]
struct Series {
    requests: BTreeMap<(String, String, u16), u64>,
    latencies: BTreeMap<(String, String), Latency>,
}

/// The server's counters.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Series>);

impl Metrics {
    /// Counts a request that has been answered. Watches count when they begin.
    pub fn request(&self, verb: &str, resource: &str, code: u16, took: Duration) {
        let mut series = self.0.lock();
        if series.requests.len() >= SERIES_MAX {
            return;
        }
        *series.requests.entry((verb.into(), resource.into(), code)).or_default() += 1;
        let secs = took.as_secs_f64();
        let latency = series.latencies.entry((verb.into(), resource.into())).or_default();
        latency.sum += secs;
        latency.total += 1;
        for (count, bound) in latency.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(secs <= bound);
        }
    }

    /// The text form.
    pub fn text(&self, store: &store::Store) -> String {
        let series = self.0.lock();
        let mut out = String::with_capacity(16 * 1024);
        out.push_str("# TYPE apiserver_request_total counter\n");
        for ((verb, resource, code), count) in &series.requests {
            let verb = verb.to_uppercase();
            let _infallible = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",resource=\"{resource}\",verb=\"{verb}\"}} {count}"
            );
        }
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, resource), latency) in &series.latencies {
            put_latency(&mut out, &verb.to_uppercase(), resource, latency);
        }
        let stats = store.stats();
        let gauges = [
            ("apiserver_storage_size_bytes", stats.bytes as u64),
            ("apiserver_storage_objects_total", stats.records as u64),
            ("apiserver_longrunning_watches", stats.watches as u64),
            ("skeg_store_revision", stats.revision),
            ("skeg_store_history_events", stats.history_events as u64),
        ];
        for (name, value) in gauges {
            let _infallible = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        }
        out
    }
}

fn put_latency(out: &mut String, verb: &str, resource: &str, latency: &Latency) {
    let labels = format!("resource=\"{resource}\",verb=\"{verb}\"");
    let name = "apiserver_request_duration_seconds";
    for (count, bound) in latency.counts.iter().zip(BUCKETS) {
        let _infallible = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let Latency { sum, total, .. } = latency;
    let _infallible = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _infallible = writeln!(out, "{name}_sum{{{labels}}} {sum}");
    let _infallible = writeln!(out, "{name}_count{{{labels}}} {total}");
}
