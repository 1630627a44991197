//! Answers: the HTTP side of objects and failures.

use std::io::Write as _;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use objects::{ApiError, ObjectExt as _};
use serde_json::Value;

use crate::body::{self, Body};
use crate::encode;
use crate::negotiate::{Encoding, Form};

/// An answer.
pub(crate) type Answer = Response<Body>;

/// Answers larger than this are compressed if the client can read that; below, the time costs more
/// than the bytes. Upstream uses the same figure.
const COMPRESS_FROM_BYTES: usize = 128 * 1024;

fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer of bytes.
pub(crate) fn bytes(status: u16, media_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body::full(bytes));
    *answer.status_mut() = code(status);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// Plain text.
pub(crate) fn text(status: u16, text: impl Into<String>) -> Answer {
    bytes(status, "text/plain; charset=utf-8", text.into())
}

/// What an unknown path outside the API gets.
pub(crate) fn page_not_found() -> Answer {
    text(404, "404 page not found\n")
}

/// Writes a value in a form (its shape is the caller's business).
pub(crate) fn write(form: Form, value: &Value) -> Bytes {
    match form.encoding {
        Encoding::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => text.into(),
            Err(_) => encode::encode(value),
        },
        Encoding::Json if form.pretty => {
            let mut out = serde_json::to_vec_pretty(value).expect("a value becomes JSON");
            out.push(b'\n');
            out.into()
        }
        Encoding::Json | Encoding::Protobuf => {
            let mut out = serde_json::to_vec(value).expect("a value becomes JSON");
            out.push(b'\n');
            out.into()
        }
    }
}

/// The protobuf form of a value, if its type has one: Tables, for one, have none.
pub(crate) fn protobuf(value: &Value) -> Option<Vec<u8>> {
    let schema = patch::schema::for_kind(value.api_version(), value.kind())?;
    patch::protobuf::encode(value, &schema).ok()
}

/// An answer of one value. One without a protobuf form is answered as JSON.
pub(crate) fn value(status: u16, form: Form, value: &Value) -> Answer {
    if form.encoding == Encoding::Protobuf
        && let Some(written) = protobuf(value)
    {
        return bytes(status, Encoding::Protobuf.media_type(), written);
    }
    let media_type = match form.encoding {
        Encoding::Yaml => Encoding::Yaml.media_type(),
        Encoding::Json | Encoding::Protobuf => Encoding::Json.media_type(),
    };
    bytes(status, media_type, write(form, value))
}

/// A failure.
pub(crate) fn failure(form: Form, error: &ApiError) -> Answer {
    let mut answer = value(error.code, form, &error.to_status());
    if let Some(secs) = error.retry_after_secs {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    answer
}

/// Adds `Warning` headers, each text once.
///
/// Source of the form: RFC 7234 section 5.5 as apimachinery `net.NewWarningHeader` writes it.
pub(crate) fn warn(answer: &mut Answer, warnings: &[String]) {
    let mut seen: Vec<&String> = Vec::new();
    for text in warnings {
        if seen.contains(&text) {
            continue;
        }
        seen.push(text);
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// Whether a client reads gzip.
pub(crate) fn reads_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.split(';').next().unwrap_or("").trim() == "gzip")
}

/// Compresses an answer of known, large size.
pub(crate) fn compress(answer: Answer, size: usize) -> Answer {
    if size < COMPRESS_FROM_BYTES {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(http::header::CONTENT_LENGTH);
    // Level 1: the time of a higher one is not won back on a fast network.
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    let chunks = http_body_util::BodyDataStream::new(body);
    let compressed = futures::stream::unfold(Some((chunks, encoder)), |state| async {
        let (mut chunks, mut encoder) = state?;
        match chunks.next().await {
            Some(Ok(chunk)) => match encoder.write_all(&chunk) {
                Ok(()) => {
                    let out = std::mem::take(encoder.get_mut());
                    Some((Ok(out.into()), Some((chunks, encoder))))
                }
                Err(error) => Some((Err(error.into()), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None => match encoder.finish() {
                Ok(out) => Some((Ok(Bytes::from(out)), None)),
                Err(error) => Some((Err(error.into()), None)),
            },
        }
    });
    Response::from_parts(head, body::stream(compressed))
}

/// An answer of one object of a kind, as a whole.
pub(crate) fn object(status: u16, form: Form, _kind: &kinds::Kind, object: &Value) -> Answer {
    value(status, form, object)
}

/// An answer of a list of a kind, as a whole.
pub(crate) fn list(form: Form, _kind: &kinds::Kind, list: &Value) -> Answer {
    value(200, form, list)
}
