//! The standard gRPC health check, over plain HTTP/2.
//!
//! The two messages have one field each, so they are written and read by hand.

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks whether a service is being served.
pub(super) async fn check(host: &str, port: u16, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| {
        format!("timeout: failed to connect service \"{host}:{port}\": {error}")
    })?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(http::header::USER_AGENT, "kube-probe/1.36")
        .body(Full::new(request(service)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let from_headers = grpc_status(response.headers());
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        let status = body.trailers().and_then(grpc_status).or(from_headers);
        match status.as_deref() {
            None | Some("0") => {}
            Some(code) => return Err(format!("rpc error: code = {code}")),
        }
        match serving_status(&body.to_bytes()) {
            Some(SERVING) => Ok(()),
            other => Err(format!("service unhealthy (responded with {other:?})")),
        }
    };
    let mut answer = std::pin::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

/// `HealthCheckRequest { service = 1 }` in a gRPC frame.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).expect("less than 128"));
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.extend_from_slice(&[0]);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// `HealthCheckResponse { status = 1 }` of a gRPC frame; an empty message is status 0.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    if message.is_empty() {
        return Some(0);
    }
    if message[0] != 0x08 {
        return None;
    }
    let mut value = 0_u64;
    for (index, byte) in message[1..].iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 0x08, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 0x08, 2]), Some(2));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[]), None);
    }
}
