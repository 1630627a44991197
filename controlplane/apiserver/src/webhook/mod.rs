//! The HTTPS client of webhooks: posts a JSON document to a URL or to a Service of the cluster, and
//! reads the JSON document that comes back.
//!
//! `target.rs` reads a `WebhookClientConfig`, `resolve.rs` finds the address behind a Service,
//! `trust.rs` says whose certificates are believed, and `pool.rs` keeps connections open.
//!
//! Source of behaviour: kubernetes apiserver `pkg/util/webhook`, v1.36. Different: a Service is
//! reached at one of its ready endpoints and not at its cluster IP, as the API server need not be
//! on a node that programs Services.

mod pool;
mod resolve;
mod target;
#[cfg(test)]
mod tests;
mod trust;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use store::Store;

pub use target::Target;

use crate::body::{self, Body};
use pool::Pool;

/// The largest answer that is read: a conversion returns as many objects as it was given.
const ANSWER_MAX_BYTES: usize = 32 << 20;
/// The part of a body that is shown when an answer is no JSON.
const SHOWN_BYTES: usize = 1024;

/// Why a webhook gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration is no place to call.
    #[error("{0}")]
    Config(String),
    /// No answer came.
    #[error("Post {url:?}: {why}")]
    Post {
        /// Where to.
        url: String,
        /// What went wrong, in the words of Go's network library, which clients look for.
        why: String,
    },
    /// An answer that is no success.
    #[error("{0}")]
    Status(String),
    /// An answer that cannot be read.
    #[error("{0}")]
    Answer(String),
}

impl Error {
    /// Whether the webhook took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Post { why, .. } if why == DEADLINE)
    }
}

/// Go's text for a context that has run out.
const DEADLINE: &str = "context deadline exceeded";

/// Posts to webhooks over connections that it keeps.
#[derive(Debug, Default)]
pub struct Client {
    pool: Pool,
}

impl Client {
    /// Posts a document and reads the answer. `timeout` bounds the whole of it, and is told to the
    /// webhook in the query.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post(
        &self,
        store: &Store,
        target: &Target,
        document: &Value,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let path = target.path_with(timeout);
        let url = format!("https://{}{path}", target.authority());
        let failed = |why: String| Error::Post { url: url.clone(), why };
        let exchange = async {
            let sent = Bytes::from(document.to_string());
            let answer = self.exchange(store, target, &path, &sent).await.map_err(failed)?;
            let status = answer.status();
            let bytes = read(answer.into_body()).await.map_err(failed)?;
            judge(status, &bytes)
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(DEADLINE.into())),
        }
    }

    /// One request, sent again on a new connection if a kept one turns out to be closed.
    async fn exchange(
        &self,
        store: &Store,
        target: &Target,
        path: &str,
        sent: &Bytes,
    ) -> Result<http::Response<Incoming>, String> {
        let request = || -> Request<Body> {
            Request::builder()
                .method(Method::POST)
                .uri(format!("https://{}{path}", target.authority()))
                .header(header::HOST, target.authority())
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, */*")
                .header(header::USER_AGENT, concat!("skeg/", env!("CARGO_PKG_VERSION")))
                .body(body::full(sent.clone()))
                .expect("a checked target makes a request")
        };
        if let Some(mut kept) = self.pool.take(target) {
            match kept.send(request()).await {
                Ok(answer) => {
                    self.pool.put(target, kept);
                    return Ok(answer);
                }
                // Closed while it was idle.
                Err(error) if error.is_canceled() || error.is_closed() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let places = resolve::places(store, target).await?;
        let mut connection = pool::connect(target, &places).await?;
        let answer = connection.send(request()).await.map_err(|error| error.to_string())?;
        self.pool.put(target, connection);
        Ok(answer)
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, String> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > ANSWER_MAX_BYTES {
            return Err(format!("the answer is longer than {ANSWER_MAX_BYTES} bytes"));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// What an answer says. A failure that comes as a `Status` says so in its own words.
fn judge(status: StatusCode, bytes: &[u8]) -> Result<Value, Error> {
    let parsed = serde_json::from_slice::<Value>(bytes);
    if status.is_success() {
        return parsed.map_err(|error| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
            Error::Answer(format!(
                "couldn't get version/kind; json parse error: {error}; body: {shown}"
            ))
        });
    }
    if let Ok(object) = &parsed
        && object["kind"] == "Status"
        && let Some(message) = object["message"].as_str()
    {
        return Err(Error::Status(message.to_owned()));
    }
    let code = status.as_u16();
    Err(Error::Status(match code {
        401 => "the server has asked for the client to provide credentials".into(),
        403 => "forbidden".into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        429 => {
            "the server has received too many requests and has asked us to try again later".into()
        }
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be \
             processing the request"
            .into(),
        500.. => {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
            format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                shown.trim()
            )
        }
        _ => format!(
            "the server responded with the status code {code} but did not return more information"
        ),
    }))
}
