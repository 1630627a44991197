//! Recording of Events: what happened to an object, for people.
//!
//! Recording never waits: occurrences go into a bounded queue, and a full queue drops them (an
//! Event is a hint, not a record). One task takes them out, lets the pure [`correlate`] module
//! turn repetitions into counts and hold back floods, and writes to the API.

mod correlate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

use crate::{Action, Object, carry_out_one};
use correlate::{Correlator, Source, Write};

/// Occurrences waiting to be written: a burst of one per pod of a full node (110), for a few
/// nodes' worth of pods at once.
const QUEUE_MAX: usize = 1024;

/// Whether an Event reports the ordinary or a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// As planned.
    Normal,
    /// Something a person may want to look at.
    Warning,
}

impl EventType {
    /// `type` of the Event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// The object.
    pub regarding: ObjectReference,
    /// Ordinary or a problem.
    pub kind: EventType,
    /// Machine-readable reason in CamelCase, such as `ScalingReplicaSet`.
    pub reason: String,
    /// Text for people; cut at 1,024 bytes.
    pub message: String,
}

impl Occurrence {
    /// Something that happened to `object`.
    pub fn of<K>(object: &K, kind: EventType, reason: &str, message: impl Into<String>) -> Self
    where
        K: Object + k8s_openapi::Resource,
    {
        let (reason, message) = (reason.to_string(), message.into());
        Self { regarding: reference(object), kind, reason, message }
    }
}

/// The reference that an Event about `object` holds.
pub fn reference<K: Object + k8s_openapi::Resource>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_string()),
        kind: Some(K::KIND.to_string()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Records Events in the name of one component; clones share its queue.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Occurrence>,
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// A recorder for `component` (such as `default-scheduler`), which runs on `host` if that says
    /// anything. Its task ends with `shutdown`, or with the last clone.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        client: Client,
        component: &str,
        host: Option<&str>,
        shutdown: CancellationToken,
    ) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUE_MAX);
        let source =
            Source { component: component.to_string(), host: host.unwrap_or("").to_string() };
        let span = info_span!("events", component);
        let task = async move {
            tokio::select! {
                () = write_all(client, source, occurrences) => {}
                () = shutdown.cancelled() => {}
            }
        };
        tokio::spawn(task.instrument(span));
        Self { queue, dropped: Arc::default() }
    }

    /// A recorder that keeps what it is given in the returned channel (of `QUEUE_MAX`): for tests
    /// that check what would be recorded.
    pub fn to_channel() -> (Self, mpsc::Receiver<Occurrence>) {
        let (queue, occurrences) = mpsc::channel(QUEUE_MAX);
        (Self { queue, dropped: Arc::default() }, occurrences)
    }

    /// Records an occurrence. Never waits.
    pub fn record(&self, occurrence: Occurrence) {
        if self.queue.try_send(occurrence).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            debug!(dropped, "event dropped: the queue is full or closed");
        }
    }
}

async fn write_all(client: Client, source: Source, mut occurrences: mpsc::Receiver<Occurrence>) {
    let mut correlator = Correlator::new(source);
    while let Some(occurrence) = occurrences.recv().await {
        let now = Timestamp::now();
        let Some(write) = correlator.take(occurrence, now) else { continue };
        let (action, whole) = match write {
            Write::Create(event) => (Action::create(&*event), None),
            Write::Count { event, body } => {
                (Action::merge::<Event>(event.key(), body), Some(event))
            }
        };
        let mut result = carry_out_one(&client, &action).await;
        // A counted Event may have gone past its time to live: it begins again.
        if let (Err(error), Some(event)) = (&result, whole)
            && error.code() == 404
        {
            result = carry_out_one(&client, &Action::create(&*event)).await;
        }
        if let Err(error) = result {
            debug!(error = &error as &dyn std::error::Error, "event not written");
        }
    }
}
