//! Probes: one task per probe of a running container, which counts results and reports verdicts.
//!
//! Source of behaviour: kubernetes pkg/kubelet/prober/{worker,prober}.go, v1.36.

mod grpc;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use informer::EventType;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use runtime::ContainerState;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::act::{hook, http};
use crate::context::Context;
use crate::observe::{Condemned, PodSeen};
use crate::pod::{Kind, PodExt, timestamp};
use crate::record::Probed;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    Startup,
    Liveness,
    Readiness,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// Verdicts by container id; the worker reads them.
#[derive(Debug, Default, Clone)]
struct Verdicts {
    probed: BTreeMap<String, Probed>,
    condemned: BTreeMap<String, Condemned>,
}

/// The probes of one pod.
pub(crate) struct Probes {
    verdicts: Arc<Mutex<Verdicts>>,
    /// Bumped with every verdict; the probes that wait for a start look at it.
    changed: watch::Sender<u64>,
    tasks: BTreeMap<(String, Which), AbortHandle>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Probes {
    /// No probes yet; `wake` is called after each verdict.
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let changed = watch::Sender::new(0);
        Self { verdicts: Arc::default(), changed, tasks: BTreeMap::new(), wake }
    }

    /// Begins probing containers that have begun to run, ends probing those that have ended, and
    /// copies the verdicts into `seen`. While the pod is stopped only readiness is probed.
    pub(crate) fn sync(
        &mut self,
        context: &Arc<Context>,
        pod: &Arc<Pod>,
        seen: &mut PodSeen,
        stopping: bool,
    ) {
        let mut wanted = Vec::new();
        for listed in pod.listed() {
            if !matches!(listed.kind, Kind::Main | Kind::Sidecar) {
                continue;
            }
            let Some(latest) = seen.latest(listed.name()) else { continue };
            let ContainerState::Running { started_at_nanos, .. } = &latest.state else { continue };
            let id = latest.spec.id.clone();
            let began = timestamp(*started_at_nanos);
            for which in [Which::Startup, Which::Liveness, Which::Readiness] {
                let only_readiness = stopping && which != Which::Readiness;
                if which.of(&listed.spec).is_some() && !only_readiness {
                    wanted.push((id.clone(), which, listed.name().to_owned(), began));
                }
            }
        }
        self.tasks.retain(|(id, which), task| {
            let keep = wanted.iter().any(|(wanted, w, ..)| wanted == id && w == which);
            if !keep {
                task.abort();
            }
            keep
        });
        for (id, which, name, began) in wanted {
            let key = (id.clone(), which);
            if !self.tasks.contains_key(&key) {
                let known = seen.probed(&id);
                let addresses = seen.addresses.clone();
                let age = began.map_or(Duration::ZERO, |began| {
                    let age = jiff::Timestamp::now().duration_since(began);
                    Duration::try_from(age).unwrap_or_default()
                });
                let host = context.shown(pod, &addresses).pod_ips.first().map(ToString::to_string);
                let prober = Prober {
                    context: Arc::clone(context),
                    pod: Arc::clone(pod),
                    container: name,
                    id,
                    which,
                    host: host.unwrap_or_else(|| "127.0.0.1".into()),
                    verdicts: Arc::clone(&self.verdicts),
                    changed: self.changed.clone(),
                    wake: Arc::clone(&self.wake),
                };
                let span = tracing::info_span!("probe", which = which.name(), pod = %pod.key());
                let task = tokio::spawn(prober.run(age, known).instrument(span));
                self.tasks.insert(key, task.abort_handle());
            }
        }
        let verdicts = self.verdicts.lock();
        seen.probed.clone_from(&verdicts.probed);
        for (id, condemned) in &verdicts.condemned {
            seen.condemned.insert(id.clone(), condemned.clone());
        }
    }
}

/// One probe of one container.
struct Prober {
    context: Arc<Context>,
    pod: Arc<Pod>,
    container: String,
    id: String,
    which: Which,
    host: String,
    verdicts: Arc<Mutex<Verdicts>>,
    changed: watch::Sender<u64>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

fn secs(value: Option<i32>, default: u64) -> Duration {
    let given = value.and_then(|value| u64::try_from(value).ok());
    Duration::from_secs(given.unwrap_or(default))
}

/// Turns single results into verdicts. PURE.
#[derive(Debug)]
struct Counter {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
}

impl Counter {
    fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            run: 0,
        }
    }

    /// Takes a result; returns it if there have been enough of its kind in a row.
    fn take(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run + 1 } else { 1 };
        self.last = Some(success);
        let enough = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= enough).then_some(success)
    }
}

impl Prober {
    async fn run(self, age: Duration, known: Probed) {
        let listed = self.pod.find(&self.container).map(|listed| listed.spec.into_owned());
        let Some(container) = listed else { return };
        let Some(probe) = self.which.of(&container).cloned() else { return };
        let has_startup = container.startup_probe.is_some();
        if self.which == Which::Startup && known.started == Some(true) {
            self.update(|probed| probed.started = Some(true));
            return;
        }
        if self.which != Which::Startup && has_startup {
            self.wait_started(known).await;
        }
        let period = secs(probe.period_seconds, 10).max(Duration::from_secs(1));
        let delay = secs(probe.initial_delay_seconds, 0).saturating_sub(age);
        // Containers that an agent finds when it starts are not all probed at the same moment.
        let jitter = if age > period { period.mul_f64(rand::random()) } else { Duration::ZERO };
        tokio::time::sleep(delay.max(jitter)).await;
        let mut counter = Counter::new(&probe);
        let mut tick = tokio::time::interval_at(Instant::now(), period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let result = self.once(&probe, &container).await;
            if let Err(message) = &result {
                let text = format!("{} probe failed: {message}", self.which.name());
                let listed = self.pod.find(&self.container);
                let kind = EventType::Warning;
                self.context.event(&self.pod, listed.as_ref(), kind, "Unhealthy", text);
            }
            match (self.which, counter.take(result.is_ok())) {
                (_, None) => {}
                (Which::Startup, Some(true)) => {
                    self.update(|probed| probed.started = Some(true));
                    return;
                }
                (Which::Readiness, Some(ready)) => {
                    self.update(|probed| probed.ready = Some(ready));
                }
                (Which::Liveness, Some(true)) => {}
                (Which::Startup | Which::Liveness, Some(false)) => {
                    self.condemn(&probe);
                    return;
                }
            }
        }
    }

    async fn wait_started(&self, known: Probed) {
        let mut changed = self.changed.subscribe();
        let started = |id: &str| {
            let verdicts = self.verdicts.lock();
            verdicts.probed.get(id).and_then(|probed| probed.started) == Some(true)
        };
        while known.started != Some(true) && !started(&self.id) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut Probed)) {
        let mut verdicts = self.verdicts.lock();
        let probed = verdicts.probed.entry(self.id.clone()).or_default();
        let before = *probed;
        change(probed);
        let same = *probed == before;
        drop(verdicts);
        if !same {
            self.changed.send_modify(|count| *count += 1);
            (self.wake)();
        }
    }

    fn condemn(&self, probe: &Probe) {
        let kind = if self.which == Which::Startup { "startup" } else { "liveness" };
        let message =
            format!("Container {} failed {kind} probe, will be restarted", self.container);
        let grace_secs = probe.termination_grace_period_seconds;
        let condemned = Condemned { message, grace_secs };
        self.verdicts.lock().condemned.insert(self.id.clone(), condemned);
        (self.wake)();
    }

    /// Probes once; the error is the text of the Event.
    async fn once(&self, probe: &Probe, container: &Container) -> Result<(), String> {
        let timeout = secs(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        match tokio::time::timeout(timeout, self.attempt(probe, container)).await {
            Ok(result) => result,
            Err(_) if probe.exec.is_some() => {
                Err(format!("command timed out after {}s", timeout.as_secs()))
            }
            Err(_) if probe.http_get.is_some() => Err(format!(
                "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                self.shown_url(probe, container)
            )),
            Err(_) => Err(format!("timeout: no answer within {}s", timeout.as_secs())),
        }
    }

    fn shown_url(&self, probe: &Probe, container: &Container) -> String {
        let Some(action) = &probe.http_get else { return String::new() };
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.host);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = http::port_number(&action.port, container).unwrap_or(0);
        format!("{scheme}://{host}:{port}{}", action.path.as_deref().unwrap_or("/"))
    }

    async fn attempt(&self, probe: &Probe, container: &Container) -> Result<(), String> {
        if let Some(action) = &probe.exec {
            let command = action.command.as_deref().unwrap_or(&[]);
            let ran = hook::run(&self.context.deps.runtime, &self.id, command).await?;
            return if ran.code == 0 { Ok(()) } else { Err(ran.output) };
        }
        if let Some(action) = &probe.http_get {
            let url = || self.shown_url(probe, container);
            let (code, _) = http::get(action, container, &self.host, "kube-probe/1.36")
                .await
                .map_err(|error| format!("Get \"{}\": {error}", url()))?;
            if (200..400).contains(&code) {
                return Ok(());
            }
            return Err(format!("HTTP probe failed with statuscode: {code}"));
        }
        if let Some(action) = &probe.tcp_socket {
            let port = http::port_number(&action.port, container)?;
            let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.host);
            let connected = tokio::net::TcpStream::connect((host, port)).await;
            return connected
                .map(drop)
                .map_err(|error| format!("dial tcp {host}:{port}: connect: {error}"));
        }
        if let Some(action) = &probe.grpc {
            let port = u16::try_from(action.port).map_err(|_| "port out of range".to_owned())?;
            return grpc::check(&self.host, port, action.service.as_deref().unwrap_or("")).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_take_enough_results_in_a_row() {
        let probe: Probe =
            serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).unwrap();
        let mut counter = Counter::new(&probe);
        let results = [true, true, false, false, true, false, false, false, false, true, true];
        let verdicts: Vec<Option<bool>> =
            results.into_iter().map(|result| counter.take(result)).collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, yes, None, None, None, None, None, no, no, None, yes]);
    }
}
