//! `proxy`: HTTP to pods, Services and nodes by way of the API server.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/{pod,service,node}/rest`, v1.36.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use objects::{ApiError, ObjectExt};
use tokio::net::TcpStream;
use tracing::debug;

use super::kubelet;
use crate::answer::Answer;
use crate::body::{self, Body};
use crate::call::Call;
use crate::encode;
use crate::server::Server;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Answers.
pub(super) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    request: Request<Body>,
) -> Result<Answer, ApiError> {
    // The name may carry a scheme and a port: `https:web:443`.
    let parts: Vec<&str> = call.name().split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("http", *name, ""),
        [name, port] => ("http", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return Err(ApiError::bad_request(format!("invalid proxy target {:?}", call.name()))),
    };
    if scheme == "https" && call.path.resource != "nodes" {
        return Err(ApiError::bad_request("https proxy targets are not supported yet"));
    }
    let request = forwarded(call, request)?;
    match call.path.resource.as_str() {
        "nodes" => {
            let place = kubelet::place(server, name)?;
            let answer = kubelet::send(server, &place, request).await?;
            Ok(handed_on(answer))
        }
        "pods" => send(pod_address(server, call, name, port)?, request).await,
        _ => send(service_address(server, call, name, port)?, request).await,
    }
}

/// The request with the path behind `proxy`.
fn forwarded(call: &Call, request: Request<Body>) -> Result<Request<Body>, ApiError> {
    let (mut head, body) = request.into_parts();
    let rest = call.path.rest.trim_start_matches('/');
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    head.uri = format!("/{rest}{query}")
        .parse::<Uri>()
        .map_err(|_| ApiError::bad_request("the path behind proxy is no path"))?;
    head.headers.remove(http::header::AUTHORIZATION);
    Ok(Request::from_parts(head, body))
}

fn pod_address(
    server: &Server,
    call: &Call,
    name: &str,
    port: &str,
) -> Result<SocketAddr, ApiError> {
    let record = server.store.get(&call.key(name)).ok_or_else(|| call.not_found())?;
    let pod = encode::parse(&record);
    let address = pod.str_at(&["status", "podIP"]).parse::<IpAddr>();
    let address = address.map_err(|_| unavailable("address not allowed"))?;
    let ports = pod.list_at(&["spec", "containers"]).iter().flat_map(|one| one.list_at(&["ports"]));
    let mut ports =
        ports.filter_map(|one| Some((one.str_at(&["name"]), one.i64_at(&["containerPort"])?)));
    let number = match port.parse::<u16>() {
        Ok(number) => Some(number),
        Err(_) if port.is_empty() => {
            ports.next().and_then(|(_, number)| u16::try_from(number).ok())
        }
        Err(_) => {
            ports.find(|(name, _)| *name == port).and_then(|(_, number)| u16::try_from(number).ok())
        }
    };
    Ok(SocketAddr::new(address, number.unwrap_or(80)))
}

/// A ready endpoint of a Service, chosen by the time of the request.
fn service_address(
    server: &Server,
    call: &Call,
    name: &str,
    port: &str,
) -> Result<SocketAddr, ApiError> {
    let record = server.store.get(&call.key(name)).ok_or_else(|| call.not_found())?;
    let service = encode::parse(&record);
    let ports = service.list_at(&["spec", "ports"]);
    let chosen = ports.iter().find(|one| {
        port.is_empty()
            || one.str_at(&["name"]) == port
            || one.i64_at(&["port"]).is_some_and(|number| number.to_string() == port)
    });
    let Some(chosen) = chosen else {
        return Err(unavailable(&format!("no service port {port:?} found for service {name:?}")));
    };
    let endpoints = server.store.get(&format!("/endpoints/{}/{name}", call.namespace()));
    let endpoints = endpoints.map(|record| encode::parse(&record)).unwrap_or_default();
    let mut found: Vec<SocketAddr> = Vec::new();
    for subset in endpoints.list_at(&["subsets"]) {
        let number = subset
            .list_at(&["ports"])
            .iter()
            .find(|one| one.str_at(&["name"]) == chosen.str_at(&["name"]))
            .and_then(|one| u16::try_from(one.i64_at(&["port"])?).ok());
        let Some(number) = number else { continue };
        let addresses = subset.list_at(&["addresses"]).iter();
        let addresses = addresses.filter_map(|one| one.str_at(&["ip"]).parse::<IpAddr>().ok());
        found.extend(addresses.map(|address| SocketAddr::new(address, number)));
    }
    let turn = usize::try_from(call.now.as_nanosecond().unsigned_abs() % 1_000_003).unwrap_or(0);
    match found.len() {
        0 => Err(unavailable(&format!("no endpoints available for service {name:?}"))),
        count => Ok(found[turn % count]),
    }
}

fn unavailable(why: &str) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", why)
}

async fn send(address: SocketAddr, mut request: Request<Body>) -> Result<Answer, ApiError> {
    let failed = |error: &dyn std::fmt::Display| {
        unavailable(&format!("error trying to reach service: dial tcp {address}: {error}"))
    };
    let stream = match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&"i/o timeout")),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%address, %error, "proxied connection ended");
        }
    });
    let host = HeaderValue::from_str(&address.to_string()).expect("an address is a header value");
    request.headers_mut().insert(http::header::HOST, host);
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    Ok(handed_on(answer))
}

fn handed_on(answer: http::Response<hyper::body::Incoming>) -> Answer {
    let (mut head, incoming) = answer.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Upgrades through `proxy` are not joined: nobody would read what follows.
        head.status = StatusCode::BAD_GATEWAY;
    }
    head.headers.remove(http::header::TRANSFER_ENCODING);
    head.headers.remove(http::header::CONNECTION);
    Answer::from_parts(head, body::boxed(incoming))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailability_is_a_503() {
        let error = unavailable("no endpoints available for service \"web\"");
        assert_eq!((error.code, &*error.reason), (503, "ServiceUnavailable"));
    }
}
