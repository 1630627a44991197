//! Feeds a view: list, then watch from there, for as long as the process runs.
//!
//! A lost connection resumes at the last revision seen; a revision that the server has forgotten
//! (410) leads to a new list, whose differences are announced like any other change.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{ACCEPT, HeaderValue};
use http_body_util::BodyExt;
use kube::Client;
use objects::Revision;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::decode::{self, Lines, WatchEvent};
use crate::{Backoff, Index, Object, Partial, Source, View, ViewWriter};

/// First wait after a failure: short, because in one process the server is ready within
/// milliseconds of the first attempt.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// Longest wait after failures: as long as a person would wait for a node to notice the server.
const BACKOFF_CAP: Duration = Duration::from_secs(10);
/// The server is asked to end each watch after this time, so that long-lived watches spread again
/// over servers.
const WATCH_SECS: u64 = 300;
/// A watch that says nothing, not even a bookmark (one a minute), for this long past its end is
/// taken for dead.
const WATCH_IDLE: Duration = Duration::from_secs(WATCH_SECS + 30);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PARTIAL_LIST: HeaderValue = HeaderValue::from_static(
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json",
);
const PARTIAL: HeaderValue = HeaderValue::from_static(
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json",
);

/// Keeps a view of `source` until `shutdown`, or until nobody holds it any more. Returns at once; the view says when it is synced.
///
/// # Panics
/// Outside a tokio runtime.
pub fn reflect<K: Object>(
    client: Client,
    source: Source,
    indexes: Vec<Index<K>>,
    shutdown: CancellationToken,
) -> View<K> {
    spawn(client, source, indexes, shutdown, Accept { list: JSON, watch: JSON })
}

/// As [`reflect()`], for the metadata of any resource.
pub fn reflect_metadata(
    client: Client,
    source: Source,
    indexes: Vec<Index<Partial>>,
    shutdown: CancellationToken,
) -> View<Partial> {
    spawn(client, source, indexes, shutdown, Accept { list: PARTIAL_LIST, watch: PARTIAL })
}

struct Accept {
    list: HeaderValue,
    watch: HeaderValue,
}

fn spawn<K: Object>(
    client: Client,
    source: Source,
    indexes: Vec<Index<K>>,
    shutdown: CancellationToken,
    accept: Accept,
) -> View<K> {
    let (view, writer) = View::new(indexes);
    let span = info_span!("reflect", %source);
    let reflector = Reflector { client, source, accept, writer };
    let task = async move {
        tokio::select! {
            () = reflector.run() => {}
            () = shutdown.cancelled() => debug!("stopped"),
        }
    };
    tokio::spawn(task.instrument(span));
    view
}

/// Why a list or a watch ended early. All are retried.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("request failed")]
    Request(#[source] kube::Error),
    #[error("server said {code}: {message}")]
    Server { code: u16, message: String },
    #[error("answer does not decode")]
    Decode(#[source] serde_json::Error),
    #[error("watch stream")]
    Line(#[source] decode::LineTooLong),
    #[error("watch was silent for {} s", WATCH_IDLE.as_secs())]
    Silent,
}

impl Failure {
    /// Whether the revision asked for is gone, so that only a new list helps.
    fn is_expired(&self) -> bool {
        match self {
            Self::Request(kube::Error::Api(status)) => status.code == 410,
            Self::Server { code, .. } => *code == 410,
            _ => false,
        }
    }
}

struct Reflector<K> {
    client: Client,
    source: Source,
    accept: Accept,
    writer: ViewWriter<K>,
}

impl<K: Object> Reflector<K> {
    async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_CAP);
        let mut revision = None;
        let mut failures = 0_u32;
        while self.writer.is_wanted() {
            let before = revision;
            let failure = self.step(&mut revision).await.err();
            if failure.as_ref().is_some_and(Failure::is_expired) {
                debug!("revision is gone, listing again");
                revision = None;
            }
            // Anything seen means that the server works: the next failure is a new one.
            if revision != before {
                failures = 0;
                backoff.reset();
            }
            if let Some(failure) = failure {
                failures += 1;
                report(&failure, failures);
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }

    /// Lists if there is no revision to resume from, else watches until the watch ends.
    async fn step(&self, revision: &mut Option<Revision>) -> Result<(), Failure> {
        match revision {
            None => {
                *revision = Some(self.list().await?);
                Ok(())
            }
            Some(from) => self.watch(from).await,
        }
    }

    async fn list(&self) -> Result<Revision, Failure> {
        let request = get(&self.source.list_url(), &self.accept.list);
        let text = self.client.request_text(request).await.map_err(Failure::Request)?;
        let list = decode::list::<K>(text.as_bytes()).map_err(Failure::Decode)?;
        for (key, error) in &list.bad {
            warn!(%key, %error, "object does not decode and is left out");
        }
        debug!(objects = list.objects.len(), revision = %list.revision, "listed");
        self.writer.replace(list.objects.into_iter().map(Arc::new).collect(), list.revision);
        Ok(list.revision)
    }

    async fn watch(&self, revision: &mut Revision) -> Result<(), Failure> {
        let url = self.source.watch_url(revision.0, WATCH_SECS);
        let request = get(&url, &self.accept.watch).map(kube::client::Body::from);
        let response = self.client.send(request).await.map_err(Failure::Request)?;
        let code = response.status().as_u16();
        let mut body = response.into_body();
        if code >= 400 {
            // The body is a Status; its text adds nothing to the code that retrying would use.
            return Err(Failure::Server { code, message: "watch refused".into() });
        }
        let mut lines = Lines::default();
        // A view that everybody has dropped ends with its next event.
        while self.writer.is_wanted() {
            let frame = tokio::time::timeout(WATCH_IDLE, body.frame());
            let Some(frame) = frame.await.map_err(|_| Failure::Silent)? else { return Ok(()) };
            let frame = frame.map_err(Failure::Request)?;
            let Some(chunk) = frame.data_ref() else { continue };
            lines.push(chunk).map_err(Failure::Line)?;
            while let Some(line) = lines.next_line() {
                let event = decode::watch_event::<K>(&line).map_err(Failure::Decode)?;
                self.take(event, revision)?;
            }
        }
        Ok(())
    }

    fn take(&self, event: WatchEvent<K>, revision: &mut Revision) -> Result<(), Failure> {
        let seen = match event {
            WatchEvent::Applied(object) => {
                let seen = Revision(object.revision());
                self.writer.apply(object);
                seen
            }
            WatchEvent::Deleted(key, seen) => {
                self.writer.remove(key, seen);
                seen
            }
            WatchEvent::Bookmark(seen) => {
                self.writer.advance_to(seen);
                seen
            }
            WatchEvent::Undecodable(key, seen, error) => {
                // The last good version stays: acting on "it is gone" would be worse than acting
                // on what it was.
                warn!(%key, %error, "object does not decode and keeps its last good version");
                self.writer.advance_to(seen);
                seen
            }
            WatchEvent::Failed(code, message) => return Err(Failure::Server { code, message }),
        };
        *revision = (*revision).max(seen);
        Ok(())
    }
}

fn get(url: &str, accept: &HeaderValue) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = url.parse().expect("the path and query were percent-encoded");
    request.headers_mut().insert(ACCEPT, accept.clone());
    request
}

/// The first failures are ordinary (server starting, connection re-made); a row of them is not.
fn report(failure: &Failure, failures: u32) {
    let error = failure as &dyn std::error::Error;
    if failures < 5 || failure.is_expired() {
        debug!(error, failures, "retrying");
    } else {
        warn!(error, failures, "retrying");
    }
}
