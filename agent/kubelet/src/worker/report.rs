//! Writes a pod's status to the API, and tells it when nothing is left.

use std::io::SeekFrom;
use std::sync::Arc;

use informer::{Action, PatchType, Verb, carry_out_one};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use objects::ObjectKey;
use runtime::{ContainerSeen, ContainerState};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Worker;
use super::done::Done;
use crate::observe::Operation;
use crate::plan::Intent;
use crate::pod::PodExt;
use crate::spec::MESSAGE_FILE;
use crate::status;

/// Most of a termination message. Source: kubernetes pkg/kubelet/container, `MaxContainerTerminationMessageLength`.
const MESSAGE_MAX_BYTES: usize = 4096;
/// Most that is taken from the log instead, in bytes and lines.
const MESSAGE_LOG_MAX_BYTES: u64 = 2048;
const MESSAGE_LOG_MAX_LINES: usize = 80;
/// A status that was refused so often does not hold up a pod's removal any longer.
const REFUSALS_MAX: u32 = 8;
/// Longest wait between attempts to write a status.
const RETRY_MAX_SECS: i64 = 5;

/// What the API is known to have, and when to try again.
pub(super) struct Report {
    active: bool,
    /// Revision and status of the last write.
    acknowledged: Option<(u64, PodStatus)>,
    failures: u32,
    retry_at: Option<Timestamp>,
}

impl Report {
    pub(super) fn new(active: bool) -> Self {
        Self { active, acknowledged: None, failures: 0, retry_at: None }
    }

    /// The pod is gone from the API: nothing is written any more.
    pub(super) fn stop(&mut self) {
        self.active = false;
    }

    pub(super) fn retry(&mut self, now: Timestamp) {
        let wait = (1_i64 << self.failures.min(8)).min(RETRY_MAX_SECS * 4);
        let wait = SignedDuration::from_millis(wait * 250);
        self.failures += 1;
        self.retry_at = now.checked_add(wait).ok();
    }

    /// Whether the API has what there is to say, or will not take it. `again_at` is when the next
    /// attempt is due.
    pub(super) fn is_settled(&self, again_at: Option<Timestamp>) -> bool {
        !self.active || again_at.is_none() || self.failures >= REFUSALS_MAX
    }

    /// The newest status that the API is known to have.
    fn known(&self, pod: &Pod) -> PodStatus {
        let revision = |pod: &Pod| -> u64 {
            let text = pod.metadata.resource_version.as_deref().unwrap_or("");
            text.parse().unwrap_or(0)
        };
        match &self.acknowledged {
            Some((at, status)) if *at > revision(pod) => status.clone(),
            _ => PodExt::status(pod).cloned().unwrap_or_default(),
        }
    }
}

impl Worker {
    /// Begins to write the status if it differs from what the API has and no write is under way.
    /// Returns when to try again.
    pub(super) fn write_status(&mut self, intent: Intent, now: Timestamp) -> Option<Timestamp> {
        let before = self.report.known(&self.pod);
        let view = status::View {
            pod: &self.pod,
            intent,
            seen: &self.seen,
            before: &before,
            host_ips: &self.context.config.node_ips,
            now,
        };
        let wanted = if self.seen.gone { before.clone() } else { status::status(&view) };
        {
            let mut published = self.handle.published.lock();
            published.status.clone_from(&wanted);
            published.pod = Arc::clone(&self.pod);
            published.sandbox.clone_from(&self.seen.sandbox);
        }
        if !self.report.active || self.seen.in_flight.contains(&Operation::Status) {
            return None;
        }
        if let Some(at) = self.report.retry_at
            && at > now
        {
            return Some(at);
        }
        let patch = status::patch(self.pod.uid(), &before, &wanted)?;
        let action =
            Action::patch::<Pod>(self.pod.key(), PatchType::Strategic, Some("status"), patch);
        let client = self.context.deps.client.clone();
        self.spawn(Operation::Status, async move {
            Done::Status(match carry_out_one(&client, &action).await {
                Ok(written) => {
                    let revision = written.revision.map_or(0, |revision| revision.0);
                    let pod: Result<Pod, _> = serde_json::from_value(written.answer);
                    pod.map(|pod| (revision, pod.status.unwrap_or_default())).map_err(|_| 0)
                }
                Err(error) => {
                    tracing::debug!(error = crate::act::whole(&error), "status not written");
                    Err(error.code())
                }
            })
        });
        None
    }

    pub(super) fn take_status(&mut self, outcome: Result<(u64, PodStatus), u16>, now: Timestamp) {
        match outcome {
            Ok(acknowledged) => {
                self.report.failures = 0;
                self.report.retry_at = None;
                self.report.acknowledged = Some(acknowledged);
            }
            // Gone, or another pod of the same name: the watch will say so.
            Err(404 | 409) if self.pod.is_deleted() => self.report.active = false,
            Err(_) => self.report.retry(now),
        }
    }

    /// Tells the API that nothing is left of the pod, once it knows how the pod ended.
    pub(super) fn begin_forget(&mut self, operation: Operation) {
        if !self.in_api {
            self.finished = true;
            return;
        }
        if self.seen.in_flight.contains(&Operation::Status) {
            return;
        }
        if let Some(at) = self.report.retry_at
            && at > Timestamp::now()
        {
            return;
        }
        let action = delete_now(self.pod.key(), self.pod.uid());
        let client = self.context.deps.client.clone();
        self.spawn(operation, async move {
            let outcome = carry_out_one(&client, &action).await;
            Done::Forget(outcome.map(drop).map_err(|error| {
                tracing::debug!(error = crate::act::whole(&error), "pod not deleted");
                error.code()
            }))
        });
    }
}

/// Deletes the pod with this uid at once.
pub(crate) fn delete_now(key: ObjectKey, uid: &str) -> Action {
    let mut action = Action::delete::<Pod>(key, uid);
    if let Verb::Delete { grace_secs, .. } = &mut action.verb {
        *grace_secs = Some(0);
    }
    action
}

/// What a container wrote to its termination message file, or the end of its log if it asked for
/// that and has failed.
pub(super) async fn last_words(pod: &Pod, container: &ContainerSeen) -> String {
    let listed = pod.find(&container.spec.name);
    let policy = listed.and_then(|listed| listed.spec.termination_message_policy.clone());
    let written = match container.spec.annotations.get(MESSAGE_FILE) {
        Some(path) => tail(path.as_ref(), MESSAGE_MAX_BYTES as u64).await,
        None => Vec::new(),
    };
    if !written.is_empty() {
        return String::from_utf8_lossy(&written).into_owned();
    }
    let failed = matches!(&container.state, ContainerState::Exited(exit) if exit.code != 0);
    if !failed || policy.as_deref() != Some("FallbackToLogsOnError") {
        return String::new();
    }
    // Each line of the log has about 50 bytes of time and stream before its text.
    let log = tail(&container.spec.log_path, MESSAGE_LOG_MAX_BYTES * 4).await;
    log_text(&String::from_utf8_lossy(&log))
}

/// The texts of the last lines of a CRI log. PURE.
fn log_text(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(MESSAGE_LOG_MAX_LINES)..];
    let texts: String = last
        .iter()
        .filter_map(|line| {
            let (tag, text) = line.splitn(3, ' ').nth(2)?.split_once(' ')?;
            Some(if tag == "P" { text.to_owned() } else { format!("{text}\n") })
        })
        .collect();
    let limit = usize::try_from(MESSAGE_LOG_MAX_BYTES).unwrap_or(usize::MAX);
    let start = texts.ceil_char_boundary(texts.len().saturating_sub(limit));
    texts[start..].to_owned()
}

/// The end of a file; nothing if it cannot be read.
async fn tail(path: &std::path::Path, bytes_max: u64) -> Vec<u8> {
    let read = async {
        let mut file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max))).await?;
        let mut content = Vec::new();
        file.take(bytes_max).read_to_end(&mut content).await?;
        Ok::<_, std::io::Error>(content)
    };
    read.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_log_lines() {
        let log = "2026-01-01T00:00:00.0Z stdout P part \n\
                   2026-01-01T00:00:00.1Z stdout F end\n\
                   2026-01-01T00:00:00.2Z stderr F oops: x\n";
        assert_eq!(log_text(log), "part end\noops: x\n");
        assert_eq!(log_text("broken"), "");
    }
}
