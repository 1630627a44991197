//! Steps as tasks, and what their ends mean.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use images::Image;
use informer::EventType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use runtime::{ContainerSeen, Resources};
use tokio::task::JoinError;

use super::{PULL_RETRY_MAX_SECS, RETRY_MAX_SECS, Worker};
use crate::act::{Failure, blocking, hook, image as images_act, sandbox, whole};
use crate::context::Context;
use crate::observe::{Condemned, Operation, Prepared, Problem};
use crate::pod::PodExt;
use crate::spec::fields;
use crate::volumes;

/// What a step came to.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time is handed over, and taken apart at once"
)]
pub(super) enum Done {
    Volumes(Result<(BTreeMap<String, PathBuf>, Option<Timestamp>), String>),
    Sandbox(Result<Vec<IpAddr>, Failure>),
    Image(String, Result<Image, Failure>),
    Start(String, Result<String, Failure>),
    PostStart {
        container: String,
        id: String,
        outcome: Result<(), String>,
    },
    Stop(String),
    Remove(Result<(), String>),
    Resize(String, Result<Resources, String>),
    Release(Result<(), String>),
    RemoveAll(Result<(), String>),
    /// The status as the API has it now, with its revision; `Err` holds the HTTP status.
    Status(Result<(u64, PodStatus), u16>),
    Forget(Result<(), u16>),
}

/// A failure that is tried again after 1, 2, 4 … seconds (pulls: 10, 20 …), at most `max_secs`.
pub(super) fn problem(
    reason: &str,
    message: &str,
    failures_before: u32,
    max_secs: i64,
    now: Timestamp,
) -> Problem {
    let first_secs = if max_secs == PULL_RETRY_MAX_SECS { 10 } else { 1 };
    let wait = (first_secs << failures_before.min(10)).min(max_secs);
    Problem {
        reason: reason.to_owned(),
        message: message.to_owned(),
        failed_at: now,
        retry_at: now.saturating_add(SignedDuration::from_secs(wait)).unwrap_or(now),
        failures: failures_before + 1,
    }
}

pub(super) async fn prepare_volumes(
    context: Arc<Context>,
    pod: Arc<Pod>,
    shown: fields::Context,
    now: Timestamp,
) -> Done {
    let gathered = match volumes::gather(&context, &pod, &shown, now).await {
        Ok(gathered) => gathered,
        Err(error) => return Done::Volumes(Err(whole(&error))),
    };
    let fs_group = pod.security().fs_group.and_then(|gid| u32::try_from(gid).ok());
    let pod_dir = context.pod_dir(pod.uid());
    // Unique within the volume: time goes on, and one pod's volumes are written one at a time.
    let stamp = now.as_nanosecond().to_string();
    let refresh_at = gathered.refresh_at;
    let places =
        blocking(move || volumes::apply::apply(&pod_dir, &gathered.volumes, fs_group, &stamp));
    let places = places.await.map_err(|error| whole(&error));
    Done::Volumes(places.map(|places| (places, refresh_at)))
}

pub(super) async fn image(context: Arc<Context>, pod: Arc<Pod>, container: String) -> Done {
    let Some(listed) = pod.find(&container) else {
        let message = "the container left the pod".to_owned();
        return Done::Image(container, Err(Failure { reason: "ErrImagePull", message }));
    };
    let outcome = images_act::find_or_pull(&context, &pod, &listed).await;
    drop(listed);
    Done::Image(container, outcome)
}

pub(super) async fn remove(context: Arc<Context>, container: ContainerSeen) -> Done {
    let id = &container.spec.id;
    let removed = async {
        context.deps.runtime.remove_container(id).await.map_err(|error| whole(&error))?;
        context.deps.images.unmount(id).await.map_err(|error| whole(&error))
    };
    let removed = removed.await;
    // The log of the attempt goes with it, and its rotated parts.
    let log = container.spec.log_path.clone();
    blocking(move || {
        let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return };
        let name = name.to_string_lossy().into_owned();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&name) {
                drop(fs::remove_file(entry.path()));
            }
        }
    })
    .await;
    Done::Remove(removed)
}

pub(super) async fn resize(context: Arc<Context>, id: String, resources: Resources) -> Done {
    let done = context.deps.runtime.update_resources(&id, &resources).await;
    Done::Resize(id, done.map(|()| resources).map_err(|error| whole(&error)))
}

pub(super) async fn remove_all(context: Arc<Context>, pod: Arc<Pod>, ids: Vec<String>) -> Done {
    Done::RemoveAll(sandbox::remove_all(&context, pod.uid(), &ids).await)
}

impl Worker {
    /// Takes in the end of a task.
    pub(super) fn take_joined(
        &mut self,
        joined: Result<(tokio::task::Id, (Operation, Done)), JoinError>,
    ) {
        match joined {
            Ok((_, (operation, done))) => {
                self.aborts.remove(&operation);
                self.take(done);
            }
            Err(error) => {
                let id = error.id();
                self.aborts.retain(|_, task| task.id() != id);
                if error.is_panic() {
                    // A broken invariant ends the process; containers go on.
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }

    fn look_again(&self) {
        self.handle.look_due.store(true, Ordering::Release);
    }

    fn take(&mut self, done: Done) {
        let now = Timestamp::now();
        match done {
            Done::Volumes(outcome) => self.take_volumes(outcome, now),
            Done::Sandbox(outcome) => self.take_sandbox(outcome, now),
            Done::Image(container, outcome) => {
                let before = match self.seen.images.get(&container) {
                    Some(Prepared::Failed(problem)) => problem.failures,
                    _ => 0,
                };
                let prepared = match outcome {
                    Ok(image) => Prepared::Yes(image),
                    Err(failure) => {
                        let max = PULL_RETRY_MAX_SECS;
                        let (reason, message) = (failure.reason, &failure.message);
                        Prepared::Failed(problem(reason, message, before, max, now))
                    }
                };
                self.seen.images.insert(container, prepared);
            }
            Done::Start(container, outcome) => self.take_start(container, outcome, now),
            Done::PostStart { container, id, outcome } => {
                let Err(message) = outcome else { return };
                let listed = self.pod.find(&container);
                let text = format!("PostStartHook failed: {message}");
                let kind = EventType::Warning;
                self.context.event(&self.pod, listed.as_ref(), kind, "FailedPostStartHook", &text);
                let message = "FailedPostStartHook".to_owned();
                self.seen.condemned.insert(id, Condemned { message, grace_secs: None });
            }
            Done::Stop(id) => {
                self.stops.remove(&id);
                self.look_again();
            }
            Done::Remove(outcome) => {
                if let Err(error) = outcome {
                    tracing::warn!(error, "container not removed, trying again");
                }
                self.look_again();
            }
            Done::Resize(id, outcome) => match outcome {
                Ok(resources) => {
                    self.seen.resized.insert(id, resources);
                }
                Err(error) => tracing::warn!(container = id, error, "limits not changed"),
            },
            Done::Release(outcome) => match outcome {
                Ok(()) => {
                    self.seen.record.released = true;
                    self.look_again();
                }
                Err(error) => tracing::warn!(error, "addresses not given back, trying again"),
            },
            Done::RemoveAll(outcome) => match outcome {
                Ok(()) => {
                    self.seen.gone = true;
                    self.look_again();
                }
                Err(error) => tracing::warn!(error, "pod not removed, trying again"),
            },
            Done::Status(outcome) => self.take_status(outcome, now),
            Done::Forget(outcome) => match outcome {
                Ok(()) => self.finished = true,
                // Gone, or another pod of the same name.
                Err(404 | 409) => self.finished = true,
                Err(_) => self.report.retry(now),
            },
        }
    }

    fn take_volumes(
        &mut self,
        outcome: Result<(BTreeMap<String, PathBuf>, Option<Timestamp>), String>,
        now: Timestamp,
    ) {
        match outcome {
            Ok((places, refresh_at)) => {
                self.places = places;
                self.refresh_at = refresh_at;
                self.seen.volumes = Prepared::Yes(());
            }
            Err(message) => {
                let kind = EventType::Warning;
                self.context.event(&self.pod, None, kind, "FailedMount", &message);
                // Volumes that are in use stay as they are until their new content can be had.
                if self.seen.volumes == Prepared::Yes(()) {
                    self.refresh_at =
                        now.checked_add(SignedDuration::from_secs(RETRY_MAX_SECS)).ok();
                } else {
                    let problem = self.volumes_problem(&message, now);
                    self.seen.volumes = Prepared::Failed(problem);
                }
            }
        }
    }

    fn take_sandbox(&mut self, outcome: Result<Vec<IpAddr>, Failure>, now: Timestamp) {
        match outcome {
            Ok(addresses) => {
                self.seen.sandbox_problem = None;
                self.seen.record.addresses.clone_from(&addresses);
                self.seen.record.released = false;
                // The downward API may show them.
                self.seen.volumes_stale |= self.shows_addresses();
                self.seen.addresses = addresses;
            }
            Err(failure) => {
                let before = self.seen.sandbox_problem.as_ref().map_or(0, |p| p.failures);
                let (reason, message) = (failure.reason, &failure.message);
                self.context.event(&self.pod, None, EventType::Warning, reason, message);
                self.seen.sandbox_problem =
                    Some(problem(reason, message, before, RETRY_MAX_SECS, now));
            }
        }
        self.look_again();
    }

    /// Whether a volume shows the pod's addresses.
    fn shows_addresses(&self) -> bool {
        let volumes = PodExt::spec(&*self.pod).volumes.iter().flatten();
        let plain =
            volumes.clone().filter_map(|volume| volume.downward_api.as_ref()?.items.as_ref());
        let projected = volumes
            .flat_map(|volume| volume.projected.iter().flat_map(|p| p.sources.iter().flatten()))
            .filter_map(|source| source.downward_api.as_ref()?.items.as_ref());
        let mut fields =
            plain.chain(projected).flatten().filter_map(|item| item.field_ref.as_ref());
        fields.any(|field| field.field_path.starts_with("status.podIP"))
    }

    fn take_start(&mut self, container: String, outcome: Result<String, Failure>, now: Timestamp) {
        self.look_again();
        match outcome {
            Ok(id) => {
                self.seen.start_problems.remove(&container);
                self.begin_post_start(container, id);
            }
            // The runtime keeps it as a container that has ended: it is seen there.
            Err(failure) if failure.reason == "RunContainerError" => {
                self.seen.start_problems.remove(&container);
            }
            Err(failure) => {
                let before = self.seen.start_problems.get(&container).map_or(0, |p| p.failures);
                let (reason, message) = (failure.reason, &failure.message);
                let problem = problem(reason, message, before, RETRY_MAX_SECS, now);
                self.seen.start_problems.insert(container, problem);
            }
        }
    }

    fn begin_post_start(&mut self, container: String, id: String) {
        let Some(listed) = self.pod.find(&container) else { return };
        let spec = listed.spec.into_owned();
        let lifecycle = spec.lifecycle.as_ref();
        let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return;
        };
        let context = Arc::clone(&self.context);
        let shown = context.shown(&self.pod, &self.seen.addresses);
        let ip = shown.pod_ips.first().map_or_else(|| "127.0.0.1".into(), ToString::to_string);
        self.spawn(Operation::PostStart(container.clone()), async move {
            let outcome = hook::hook(&context.deps.runtime, &id, &spec, &handler, &ip).await;
            Done::PostStart { container, id, outcome }
        });
    }
}
