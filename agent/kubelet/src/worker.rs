//! One task per pod: looks, plans, starts steps, and does so again whenever anything changes.
//!
//! The mailbox holds only the latest version of the pod. Steps run as tasks of the worker, so that
//! nothing here waits for anything but the next change.

mod done;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use runtime::{ContainerSeen, ContainerState, SandboxSeen};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::act::stop::Stopping;
use crate::act::{sandbox, start, stop, whole};
use crate::context::Context;
use crate::observe::{Operation, PodSeen, Prepared};
use crate::plan::{Intent, Step, plan};
use crate::pod::PodExt;
use crate::probes::Probes;
use crate::record::PodRecord;
use crate::references::references;
use done::Done;
use report::Report;

/// A look at the runtime that failed is repeated after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A worker that has nothing to wait for looks again after this time all the same: no event of the
/// kernel or of the runtime is trusted blindly.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60);
/// Mounts of volumes whose content nothing announces, such as claims, are tried again this often.
const RETRY_MAX_SECS: i64 = 10;
/// Longest wait between pulls. Source: upstream's image back-off.
const PULL_RETRY_MAX_SECS: i64 = 300;

/// What a worker has been told and has not taken yet.
#[derive(Default)]
struct Mail {
    pod: Option<Arc<Pod>>,
    gone: bool,
}

/// What others may know of a pod: its object, its status, its containers.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: PodStatus,
    pub(crate) sandbox: Option<SandboxSeen>,
}

/// How others reach a worker.
pub(crate) struct Handle {
    mail: Mutex<Mail>,
    wake: Notify,
    look_due: AtomicBool,
    volumes_stale: AtomicBool,
    published: Mutex<Published>,
}

impl Handle {
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        let status = PodExt::status(&*pod).cloned().unwrap_or_default();
        Self {
            mail: Mutex::default(),
            wake: Notify::new(),
            look_due: AtomicBool::new(true),
            volumes_stale: AtomicBool::new(false),
            published: Mutex::new(Published { pod, status, sandbox: None }),
        }
    }

    /// Replaces what is in the mailbox.
    pub(crate) fn deliver(&self, pod: Arc<Pod>) {
        self.published.lock().pod = Arc::clone(&pod);
        self.mail.lock().pod = Some(pod);
        self.wake.notify_one();
    }

    /// The pod is not in the API any more.
    pub(crate) fn deliver_gone(&self) {
        self.mail.lock().gone = true;
        self.wake.notify_one();
    }

    /// Something of the pod has changed in the runtime.
    pub(crate) fn runtime_changed(&self) {
        self.look_due.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Something that the pod's volumes are made from has changed.
    pub(crate) fn source_changed(&self) {
        self.volumes_stale.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// What others may know.
    pub(crate) fn published(&self) -> Published {
        self.published.lock().clone()
    }
}

/// The state of one pod's worker.
pub(crate) struct Worker {
    context: Arc<Context>,
    handle: Arc<Handle>,
    pod: Arc<Pod>,
    in_api: bool,
    seen: PodSeen,
    saved: PodRecord,
    places: BTreeMap<String, PathBuf>,
    /// Volumes are looked at again then, although nothing announces a change.
    refresh_at: Option<Timestamp>,
    tasks: JoinSet<(Operation, Done)>,
    aborts: BTreeMap<Operation, AbortHandle>,
    stops: BTreeMap<String, Stopping>,
    probes: Probes,
    report: Report,
    finished: bool,
}

impl Worker {
    /// A worker for a pod. `record` is what an earlier agent left of it.
    pub(crate) fn new(
        context: Arc<Context>,
        handle: Arc<Handle>,
        pod: Arc<Pod>,
        in_api: bool,
        record: PodRecord,
    ) -> Self {
        let waker = Arc::clone(&handle);
        let probes = Probes::new(Arc::new(move || waker.wake.notify_one()));
        let saved = record.clone();
        let report = Report::new(in_api);
        Self {
            context,
            handle,
            pod,
            in_api,
            seen: PodSeen { record, ..PodSeen::default() },
            saved,
            places: BTreeMap::new(),
            refresh_at: None,
            tasks: JoinSet::new(),
            aborts: BTreeMap::new(),
            stops: BTreeMap::new(),
            probes,
            report,
            finished: false,
        }
    }

    /// Works until nothing is left of the pod, or until shutdown: then containers go on running.
    pub(crate) async fn run(mut self) {
        self.follow_references();
        while !self.finished {
            self.take_mail();
            if self.handle.look_due.swap(false, Ordering::AcqRel)
                && let Err(error) = self.look().await
            {
                tracing::warn!(error = whole(&error), "runtime not seen, looking again");
                self.handle.look_due.store(true, Ordering::Release);
                self.wait(Some(Instant::now() + LOOK_AGAIN)).await;
                continue;
            }
            let now = Timestamp::now();
            let wake_at = self.step(now);
            self.save();
            self.wait(Some(instant(now, wake_at))).await;
            if self.context.shutdown.is_cancelled() {
                return;
            }
        }
        let uid = self.pod.uid().to_owned();
        self.context.config_maps.uses(&uid, &BTreeSet::new());
        self.context.secrets.uses(&uid, &BTreeSet::new());
    }

    fn take_mail(&mut self) {
        let mail = std::mem::take(&mut *self.handle.mail.lock());
        if let Some(pod) = mail.pod {
            let same_content = pod.metadata.labels == self.pod.metadata.labels
                && pod.metadata.annotations == self.pod.metadata.annotations;
            self.seen.volumes_stale |= !same_content;
            self.pod = pod;
            self.in_api = true;
            self.follow_references();
        }
        if mail.gone {
            self.in_api = false;
            self.report.stop();
        }
        self.seen.volumes_stale |= self.handle.volumes_stale.swap(false, Ordering::AcqRel);
        if self.seen.volumes_stale {
            // What was missing may be there now.
            self.seen.start_problems.clear();
        }
    }

    fn follow_references(&self) {
        let needed = references(&self.pod);
        let uid = self.pod.uid();
        self.context.config_maps.uses(uid, &needed.config_maps);
        self.context.secrets.uses(uid, &needed.secrets);
    }

    /// Brings `seen` up to date with the runtime and the network.
    async fn look(&mut self) -> Result<(), runtime::RuntimeError> {
        let uid = self.pod.uid().to_owned();
        let sandbox = self.context.observer.pod(&uid).await?;
        self.seen.sandbox = sandbox.map(|sandbox| (*sandbox).clone());
        self.seen.addresses = self.context.deps.network.addresses(&uid).unwrap_or_default();
        let sandbox = self.seen.sandbox.iter();
        let ended: Vec<ContainerSeen> = sandbox
            .flat_map(|sandbox| &sandbox.containers)
            .filter(|container| matches!(container.state, ContainerState::Exited(_)))
            .cloned()
            .collect();
        let known: BTreeSet<String> = {
            let sandbox = self.seen.sandbox.iter();
            sandbox.flat_map(|s| &s.containers).map(|c| c.spec.id.clone()).collect()
        };
        for container in ended {
            let id = container.spec.id.clone();
            self.end_stop(&id);
            self.seen.condemned.remove(&id);
            if !self.seen.messages.contains_key(&id) {
                let message = report::last_words(&self.pod, &container).await;
                self.seen.messages.insert(id, message);
            }
        }
        let missing: Vec<String> =
            self.stops.keys().filter(|id| !known.contains(*id)).cloned().collect();
        for id in missing {
            self.end_stop(&id);
        }
        self.seen.messages.retain(|id, _| known.contains(id));
        self.seen.resized.retain(|id, _| known.contains(id));
        Ok(())
    }

    fn end_stop(&mut self, id: &str) {
        if let Some(stopping) = self.stops.get(id) {
            stopping.ended.cancel();
        }
    }

    /// What the pod is to come to.
    fn intent(&mut self, now: Timestamp) -> Intent {
        let ended = self.seen.record.ended.as_ref();
        let remove = !self.in_api || self.pod.is_deleted();
        if !remove && ended.is_none() {
            return Intent::Run;
        }
        let grace_secs = match ended.and_then(|ended| ended.grace_secs) {
            Some(secs) if !remove => secs,
            _ => self.pod.grace_secs(),
        };
        let since = *self.seen.record.stopping_since.get_or_insert(now);
        Intent::Stop { since, grace_secs, remove }
    }

    /// Plans and starts what is planned; returns when to look again.
    fn step(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.seen.in_flight = self.aborts.keys().cloned().collect();
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            self.seen.volumes_stale = true;
        }
        let mut intent = self.intent(now);
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        self.probes.sync(&context, &pod, &mut self.seen, intent != Intent::Run);
        let mut made = plan(&self.pod, intent, &self.seen, now);
        if let Some(Step::End(ended)) =
            made.steps.iter().find(|step| matches!(step, Step::End(_))).cloned()
        {
            let kind = informer::EventType::Normal;
            self.context.event(&self.pod, None, kind, &ended.reason, &ended.message);
            self.seen.record.ended = Some(ended);
            intent = self.intent(now);
            made = plan(&self.pod, intent, &self.seen, now);
        }
        if intent != Intent::Run {
            self.abandon();
        }
        // What a removal takes away is not there to be reported any more: the API is told first.
        let (removals, steps): (Vec<Step>, Vec<Step>) =
            made.steps.into_iter().partition(|step| matches!(step, Step::RemoveAll));
        for step in steps {
            tracing::debug!(?step, "planned");
            self.begin(step, now);
        }
        let report_at = self.write_status(intent, now);
        if self.report.is_settled(report_at) && !self.aborts.contains_key(&Operation::Status) {
            for step in removals {
                tracing::debug!(?step, "planned");
                self.begin(step, now);
            }
        }
        [made.wake_at, self.refresh_at, report_at].into_iter().flatten().min()
    }

    /// Ends what makes no sense any more once the pod is to stop.
    fn abandon(&mut self) {
        for (operation, task) in &self.aborts {
            if matches!(operation, Operation::Image(_) | Operation::PostStart(_)) {
                task.abort();
            }
        }
    }

    fn begin(&mut self, step: Step, now: Timestamp) {
        let Some(operation) = step.operation() else { return };
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        match step {
            Step::End(_) => {}
            Step::PrepareVolumes => {
                self.seen.volumes_stale = false;
                let shown = context.shown(&pod, &self.seen.addresses);
                self.spawn(operation, done::prepare_volumes(context, pod, shown, now));
            }
            Step::CreateSandbox => self.spawn(operation, async move {
                Done::Sandbox(sandbox::create(&context, &pod).await)
            }),
            Step::PullImage { container } => {
                self.spawn(operation, done::image(context, pod, container))
            }
            Step::Start { container, attempt, backoff_secs } => {
                // An image serves one start: the next one looks or pulls again, as its policy says.
                let Some(Prepared::Yes(image)) = self.seen.images.remove(&container) else {
                    return;
                };
                let start = start::Start {
                    container: container.clone(),
                    attempt,
                    backoff_secs,
                    image,
                    places: self.places.clone(),
                    addresses: self.seen.addresses.clone(),
                };
                self.spawn(operation, async move {
                    Done::Start(container, start::start(&context, &pod, start).await)
                });
            }
            Step::Stop { container: _, id, message, grace_secs } => {
                self.begin_stop(operation, &id, message, grace_secs);
            }
            Step::RemoveContainer { id } => {
                if let Some(container) = self.find(&id) {
                    self.spawn(operation, done::remove(context, container));
                }
            }
            Step::Resize { id, resources } => {
                self.spawn(operation, done::resize(context, id, resources))
            }
            Step::Release => {
                self.seen.record.addresses = self.seen.addresses.clone();
                self.spawn(operation, async move {
                    Done::Release(sandbox::release(&context, pod.uid()).await)
                });
            }
            Step::RemoveAll => {
                let sandbox = self.seen.sandbox.iter();
                let ids = sandbox.flat_map(|s| &s.containers).map(|c| c.spec.id.clone()).collect();
                self.spawn(operation, done::remove_all(context, pod, ids));
            }
            Step::Forget => self.begin_forget(operation),
        }
    }

    fn begin_stop(&mut self, operation: Operation, id: &str, message: String, grace_secs: i64) {
        let Some(container) = self.find(id) else { return };
        let grace = Duration::from_secs(grace_secs.max(0).unsigned_abs());
        let deadline = watch::Sender::new(Instant::now() + grace);
        let ended = CancellationToken::new();
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let (receiver, token) = (deadline.subscribe(), ended.clone());
        self.stops.insert(id.to_owned(), Stopping { deadline, ended });
        let ip = context.shown(&pod, &self.seen.addresses).pod_ips.first().map(ToString::to_string);
        let id = id.to_owned();
        self.spawn(operation, async move {
            let ip = ip.unwrap_or_else(|| "127.0.0.1".into());
            stop::stop(&context, &pod, &container, message, &ip, receiver, token).await;
            Done::Stop(id)
        });
    }

    fn find(&self, id: &str) -> Option<ContainerSeen> {
        let mut all = self.seen.sandbox.iter().flat_map(|sandbox| &sandbox.containers);
        all.find(|container| container.spec.id == id).cloned()
    }

    fn spawn(&mut self, operation: Operation, task: impl Future<Output = Done> + Send + 'static) {
        let key = operation.clone();
        let task = async move { (operation, task.await) };
        let abort = self.tasks.spawn(task.in_current_span());
        self.aborts.insert(key.clone(), abort);
        self.seen.in_flight.insert(key);
    }

    /// A pod's deletion may be hastened while its containers are being stopped.
    fn hasten(&mut self, now: Timestamp) {
        let Some(since) = self.seen.record.stopping_since else { return };
        let deadline = since.saturating_add(SignedDuration::from_secs(self.pod.grace_secs()));
        let at = instant(now, deadline.ok());
        for stopping in self.stops.values() {
            stopping.deadline.send_if_modified(|known| {
                let earlier = at + Duration::from_millis(500) < *known;
                if earlier {
                    *known = at;
                }
                earlier
            });
        }
    }

    /// Writes the record if anything in it has changed.
    fn save(&mut self) {
        // A record written now would outlive the pod's folder.
        if self.seen.gone || self.aborts.contains_key(&Operation::RemoveAll) {
            return;
        }
        let mut record = self.seen.record.clone();
        let sandbox = self.seen.sandbox.iter();
        let ids = sandbox.flat_map(|s| &s.containers).map(|c| &c.spec.id);
        record.probed = ids
            .map(|id| (id.clone(), self.seen.probed(id)))
            .filter(|(_, probed)| *probed != crate::record::Probed::default())
            .collect();
        let spec_changed = record.pod.as_ref().is_none_or(|kept| {
            kept.spec != self.pod.spec
                || kept.metadata.deletion_timestamp != self.pod.metadata.deletion_timestamp
        });
        if spec_changed {
            record.pod = Some((*self.pod).clone());
        }
        if record == self.saved {
            return;
        }
        match record.save(&self.context.config.data_dir, self.pod.uid()) {
            Ok(()) => {
                self.seen.record = record.clone();
                self.saved = record;
            }
            Err(error) => tracing::warn!(%error, "record of the pod not written"),
        }
    }

    /// Waits for a change, the end of a step, or the time.
    async fn wait(&mut self, at: Option<Instant>) {
        let latest = Instant::now() + LOOK_AT_LEAST;
        let at = at.map_or(latest, |at| at.min(latest));
        tokio::select! {
            () = self.context.shutdown.cancelled() => return,
            () = self.handle.wake.notified() => {}
            Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                self.take_joined(done);
            }
            () = tokio::time::sleep_until(at) => {
                if at == latest {
                    self.handle.look_due.store(true, Ordering::Release);
                }
            }
        }
        // All that has ended meanwhile is taken at once.
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.take_joined(done);
        }
        if self.pod.is_deleted() {
            self.hasten(Timestamp::now());
        }
    }
}

/// A wall-clock time as a time of this process's clock.
fn instant(now: Timestamp, at: Option<Timestamp>) -> Instant {
    let wait = at.map_or(LOOK_AT_LEAST, |at| {
        Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
    });
    Instant::now() + wait.min(LOOK_AT_LEAST)
}

impl Worker {
    /// Sets volumes up again if they are waiting for something that nobody announces.
    fn volumes_problem(&self, message: &str, now: Timestamp) -> crate::observe::Problem {
        let before = match &self.seen.volumes {
            Prepared::Failed(problem) => problem.failures,
            Prepared::No | Prepared::Yes(()) => 0,
        };
        done::problem("FailedMount", message, before, RETRY_MAX_SECS, now)
    }
}
