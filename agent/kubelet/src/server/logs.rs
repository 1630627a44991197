//! `/containerLogs`: the log of the last attempt of a container, or of the one before.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use runtime::logs::{LogStream, Query, read};
use runtime::{ContainerSeen, ContainerState, RuntimeError, SandboxSeen};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::query::Parameters;
use super::route::Target;
use super::{Body, Server, text};
use crate::pod::PodExt;

/// The next look at a runtime that did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Answers with the log.
pub(super) fn answer(
    server: &Arc<Server>,
    target: &Target,
    parameters: &Parameters,
) -> Response<Body> {
    let query = match parse(parameters, Timestamp::now()) {
        Ok(query) => query,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let previous = parameters.flag(&["previous"]);
    let container = match choose(target, previous) {
        Ok(container) => container,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let ended = CancellationToken::new();
    if query.follow {
        let (server, ended) = (Arc::clone(server), ended.clone());
        let (uid, id) = (target.published.pod.uid().to_owned(), container.spec.id.clone());
        // Listening begins before the first look: what happens between the two is not missed.
        let changes = server.context.deps.runtime.changes();
        let tasks = server.streams.tasks.clone();
        // It ends at shutdown by itself, so that what was written until then is still sent.
        tasks.spawn(async move {
            let look = || async {
                let sandbox = server.context.observer.pod(&uid).await?;
                Ok(is_alive(sandbox.as_deref(), &id))
            };
            tell_end(changes, &uid, look, &ended, &server.streams.shutdown).await;
        });
    }
    let guard = ended.clone().drop_guard();
    let pieces = read(container.spec.log_path, query, ended);
    let pieces = futures::stream::unfold((pieces, guard), |(mut pieces, guard)| async move {
        let piece = pieces.recv().await?;
        Some((piece.map(Frame::data), (pieces, guard)))
    });
    let mut response = Response::new(StreamBody::new(pieces.boxed()).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Cancels `ended` once the container is not alive any more, or at shutdown; stops looking
/// when nobody reads any more (which cancels it too).
async fn tell_end<F: Future<Output = Result<bool, RuntimeError>>>(
    mut changes: broadcast::Receiver<String>,
    uid: &str,
    is_alive: impl Fn() -> F,
    ended: &CancellationToken,
    shutdown: &CancellationToken,
) {
    loop {
        let changed = match is_alive().await {
            Ok(false) => return ended.cancel(),
            Ok(true) => changed(&mut changes, uid).left_future(),
            Err(error) => {
                tracing::debug!(%error, "whether the container runs is not known");
                tokio::time::sleep(LOOK_AGAIN).right_future()
            }
        };
        tokio::select! {
            () = ended.cancelled() => return,
            () = shutdown.cancelled() => return ended.cancel(),
            () = changed => {}
        }
    }
}

/// Whether the container is there and may still write.
fn is_alive(sandbox: Option<&SandboxSeen>, id: &str) -> bool {
    let mut all = sandbox.into_iter().flat_map(|sandbox| &sandbox.containers);
    all.any(|seen| seen.spec.id == id && !matches!(seen.state, ContainerState::Exited(_)))
}

/// Waits until something of the pod may have changed.
async fn changed(changes: &mut broadcast::Receiver<String>, uid: &str) {
    loop {
        match changes.recv().await {
            Ok(other) if other != uid => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The runtime is gone, and the server will be.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The attempt whose log is wanted. The texts are upstream's.
fn choose(target: &Target, previous: bool) -> Result<ContainerSeen, String> {
    let (name, pod) = (&target.container, &target.published.pod);
    let sandbox = target.published.sandbox.iter();
    let mut attempts: Vec<&ContainerSeen> =
        sandbox.flat_map(|s| &s.containers).filter(|c| c.spec.name == *name).collect();
    attempts.sort_by_key(|container| container.spec.attempt);
    let last = attempts.pop();
    let chosen = if previous {
        // While the container waits to run again, its last attempt is the previous one.
        let waiting = target.published.status.container_statuses.iter().flatten().any(|status| {
            status.name == *name && status.state.as_ref().is_some_and(|s| s.waiting.is_some())
        });
        if waiting { last } else { attempts.pop() }
    } else {
        last
    };
    chosen.cloned().ok_or_else(|| {
        if previous {
            return format!(
                "previous terminated container \"{name}\" in pod \"{}\" not found",
                pod.name()
            );
        }
        let lists = [
            &target.published.status.container_statuses,
            &target.published.status.init_container_statuses,
        ];
        let mut statuses = lists.into_iter().flatten().flatten();
        let status = statuses.find(|status| status.name == *name);
        let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default();
        let message = match reason.as_str() {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            "" => "ContainerCreating",
            other => other,
        };
        format!("container \"{name}\" in pod \"{}\" is waiting to start: {message}", pod.name())
    })
}

fn parse(parameters: &Parameters, now: Timestamp) -> Result<Query, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let text = parameters.get(name).filter(|text| !text.is_empty());
        let parsed = text.map(|text| {
            text.parse::<u64>().map_err(|_| format!("{name}: {text:?} is not a number"))
        });
        parsed.transpose()
    };
    let tail_lines = match parameters.get("tailLines").or(parameters.get("tail")) {
        // Upstream's own `tail=all`.
        Some("all" | "") | None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| format!("tailLines: {text:?} is not a number"))?)
        }
    };
    let since_time = match parameters.get("sinceTime").filter(|text| !text.is_empty()) {
        Some(text) => Some(objects::time::parse_time(text).map_err(|error| error.to_string())?),
        None => None,
    };
    let since_secs = number("sinceSeconds")?.and_then(|secs| i64::try_from(secs).ok());
    let since_secs = since_secs.map(|secs| now.as_nanosecond() - i128::from(secs) * 1_000_000_000);
    Ok(Query {
        follow: parameters.flag(&["follow"]),
        tail_lines,
        since_nanos: since_time.map(|time| time.as_nanosecond()).or(since_secs),
        timestamps: parameters.flag(&["timestamps"]),
        limit_bytes: number("limitBytes")?,
        stream: match parameters.get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some(LogStream::Stdout),
            Some("Stderr") => Some(LogStream::Stderr),
            Some(other) => return Err(format!("stream: {other:?} is none of All, Stdout, Stderr")),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[test]
    fn parameters_become_a_query() {
        let now = Timestamp::from_second(100).unwrap();
        let parse = |query: &str| parse(&Parameters::parse(query), now);
        let query = parse("follow=true&tailLines=5&sinceSeconds=10&limitBytes=7&stream=Stderr");
        let wanted = Query {
            follow: true,
            tail_lines: Some(5),
            since_nanos: Some(90_000_000_000),
            limit_bytes: Some(7),
            stream: Some(LogStream::Stderr),
            ..Query::default()
        };
        assert_eq!(query, Ok(wanted));
        assert_eq!(parse(""), Ok(Query::default()));
        for bad in [
            "tailLines=x",
            "tailLines=-1",
            "limitBytes=1k",
            "sinceSeconds=1.5",
            "sinceTime=yesterday",
            "stream=x",
            "stream=stdout",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for (same, plain) in [
            ("tailLines=", ""),
            ("tail=all", ""),
            ("tail=3", "tailLines=3"),
            ("stream=All&limitBytes=", ""),
            ("follow=0&timestamps=false", ""),
            ("follow", "follow=1"),
            // The time counts if both are given.
            ("sinceSeconds=1&sinceTime=1970-01-01T00:00:05Z", "sinceTime=1970-01-01T00:00:05Z"),
        ] {
            assert_eq!(parse(same), parse(plain), "{same}");
        }
        let at = parse("sinceTime=1970-01-01T00:00:05Z").unwrap();
        assert_eq!(at.since_nanos, Some(5_000_000_000));
    }

    #[tokio::test]
    async fn only_the_own_pod_wakes() {
        let (sender, mut changes) = broadcast::channel(2);
        sender.send("other".to_owned()).unwrap();
        assert!(changed(&mut changes, "own").now_or_never().is_none());
        sender.send("own".to_owned()).unwrap();
        assert!(changed(&mut changes, "own").now_or_never().is_some());
        // Three for a queue of two: one is missed, and it may have been about this pod.
        for _ in 0..3 {
            sender.send("other".to_owned()).unwrap();
        }
        assert!(changed(&mut changes, "own").now_or_never().is_some());
        drop(sender);
        assert!(changed(&mut changes, "own").now_or_never().is_none());
    }

    #[tokio::test]
    async fn followers_are_told_of_the_end() {
        let (sender, changes) = broadcast::channel(8);
        let (ended, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let (alive, looks) = (AtomicBool::new(true), AtomicU32::new(0));
        let look = || {
            looks.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(alive.load(Ordering::Relaxed)))
        };
        let mut telling = Box::pin(tell_end(changes, "own", look, &ended, &shutdown));
        assert!((&mut telling).now_or_never().is_none() && !ended.is_cancelled());
        sender.send("other".to_owned()).unwrap();
        assert!((&mut telling).now_or_never().is_none());
        assert_eq!(looks.load(Ordering::Relaxed), 1, "another pod is no reason to look");
        sender.send("own".to_owned()).unwrap();
        assert!((&mut telling).now_or_never().is_none());
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        alive.store(false, Ordering::Relaxed);
        sender.send("own".to_owned()).unwrap();
        assert!(telling.now_or_never().is_some() && ended.is_cancelled());
    }

    #[tokio::test]
    async fn followers_end_with_the_server() {
        let (_sender, changes) = broadcast::channel(8);
        let (ended, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let look = || std::future::ready(Ok(true));
        let mut telling = Box::pin(tell_end(changes, "own", look, &ended, &shutdown));
        assert!((&mut telling).now_or_never().is_none());
        shutdown.cancel();
        assert!(telling.now_or_never().is_some() && ended.is_cancelled());
    }
}
