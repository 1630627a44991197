//! `/containerLogs`: the log of the last attempt of a container, or of the one before.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use runtime::logs::{LogStream, Query, read};
use runtime::{ContainerSeen, ContainerState};
use tokio_util::sync::CancellationToken;

use super::query::Parameters;
use super::route::Target;
use super::{Body, Server, text};
use crate::pod::PodExt;

/// Whoever follows a log is told that its container has ended at most this much later.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        let server = Arc::clone(server);
        let (uid, id) = (target.published.pod.uid().to_owned(), container.spec.id.clone());
        tokio::spawn(tell_end(server, uid, id, ended.clone()));
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

/// Cancels `ended` once the container has ended, or nobody reads any more (which cancels it too).
async fn tell_end(server: Arc<Server>, uid: String, id: String, ended: CancellationToken) {
    loop {
        let runs = server.registry.get(&uid).is_some_and(|handle| {
            let published = handle.published();
            let mut all = published.sandbox.iter().flat_map(|sandbox| &sandbox.containers);
            all.any(|c| c.spec.id == id && !matches!(c.state, ContainerState::Exited(_)))
        });
        if !runs {
            return ended.cancel();
        }
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
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
        assert!(parse("tailLines=x").is_err() && parse("stream=x").is_err());
        let at = parse("sinceTime=1970-01-01T00:00:05Z").unwrap();
        assert_eq!(at.since_nanos, Some(5_000_000_000));
    }
}
