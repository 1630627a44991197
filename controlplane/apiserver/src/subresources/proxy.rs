//! `proxy`: HTTP to pods, Services and nodes by way of the API server.
//!
//! Source of behaviour: kubernetes `pkg/registry/core/{pod,service,node}/rest` and apimachinery
//! `pkg/util/proxy`, v1.36. Different: links within HTML are not rewritten.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use objects::{ApiError, ObjectExt};
use serde_json::Value;

use super::kubelet;
use super::relay::Backend;
use crate::answer::{self, Answer};
use crate::auth::PeerAddress;
use crate::body::Body;
use crate::call::Call;
use crate::encode;
use crate::server::Server;

/// What the name in the path says: `web`, `web:http`, `https:web:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named<'a> {
    is_https: bool,
    name: &'a str,
    port: &'a str,
}

/// Answers.
pub(super) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    mut request: Request<Body>,
) -> Result<Answer, ApiError> {
    let what = call.path.resource.trim_end_matches('s');
    let named = named(call.name()).ok_or_else(|| {
        ApiError::bad_request(format!("invalid {what} request {:?}", call.name()))
    })?;
    let before = prefix(request.uri().path(), call);
    let rest = request.uri().path()[before.len()..].to_string();
    let backend = backend(server, call, &named)?;
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if rest.is_empty() && is_read {
        // Relative links would lead elsewhere without the slash.
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut moved = answer::bytes(301, "text/plain; charset=utf-8", "");
        let place = HeaderValue::from_str(&format!("{before}/{query}"));
        let place = place.map_err(|_| ApiError::bad_request("the path is fit for no header"))?;
        moved.headers_mut().insert(header::LOCATION, place);
        return Ok(moved);
    }
    let prefix = before.to_string();
    let scheme = if named.is_https { "https" } else { "http" };
    forwarded(&mut request, &prefix, &rest)?;
    let Some(backend) = backend else {
        let place = kubelet::place(server, named.name)?;
        let answer = kubelet::send(server, &place, request).await?;
        let (mut head, incoming) = answer.into_parts();
        head.headers.remove(header::TRANSFER_ENCODING);
        head.headers.remove(header::CONNECTION);
        return Ok(Answer::from_parts(head, crate::body::boxed(incoming)));
    };
    let authority = backend.authority.clone();
    let mut answer = backend
        .send(server, request)
        .await
        .map_err(|why| unavailable(&format!("error trying to reach service: {why}")))?;
    relocate(answer.headers_mut(), scheme, &authority, &prefix);
    Ok(answer)
}

/// Source: apimachinery `pkg/util/net`, `SplitSchemeNamePort`. PURE.
fn named(text: &str) -> Option<Named<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let is_known = matches!(scheme, "" | "http" | "https");
    (is_known && !name.is_empty()).then_some(Named { is_https: scheme == "https", name, port })
}

/// The part of the path up to `proxy`, as it was sent.
fn prefix<'a>(path: &'a str, call: &Call) -> &'a str {
    // api, version, (namespaces, its name,) resource, name, proxy.
    let segments = if call.namespace().is_empty() { 5 } else { 7 };
    let mut seen = 0;
    let mut within = false;
    for (at, byte) in path.bytes().enumerate() {
        if byte == b'/' {
            if within && seen == segments {
                return &path[..at];
            }
            within = false;
        } else if !within {
            within = true;
            seen += 1;
        }
    }
    path
}

/// Turns the request into the one that the target gets.
fn forwarded(request: &mut Request<Body>, prefix: &str, rest: &str) -> Result<(), ApiError> {
    let path = if rest.is_empty() { "/" } else { rest };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("{path}{query}").parse::<Uri>();
    let uri = uri.map_err(|_| ApiError::bad_request("the path behind proxy is no path"))?;
    let peer = request.extensions().get::<PeerAddress>().map(|PeerAddress(ip)| ip.to_string());
    let authority = request.uri().authority().map(ToString::to_string);
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    // Who the client is to the API server is nothing to the target.
    headers.remove(header::AUTHORIZATION);
    let host = authority.or_else(|| Some(headers.get(header::HOST)?.to_str().ok()?.to_string()));
    let said = [
        ("x-forwarded-uri", Some(format!("{prefix}{rest}"))),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", Some("https".to_string())),
    ];
    for (name, value) in said {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(peer) = peer {
        let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let all = before.map_or(peer.clone(), |before| format!("{before}, {peer}"));
        let all = HeaderValue::from_str(&all);
        headers.insert("x-forwarded-for", all.expect("addresses are fit for a header"));
    }
    Ok(())
}

/// Lets a redirect within the target lead through the proxy.
fn relocate(headers: &mut HeaderMap, scheme: &str, authority: &str, prefix: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let moved = rewritten(location, scheme, authority, prefix);
    if let Some(moved) = moved.and_then(|moved| HeaderValue::from_str(&moved).ok()) {
        headers.insert(header::LOCATION, moved);
    }
}

/// `None` for what stays: other hosts, and relative paths. PURE.
///
/// Source: apimachinery `pkg/util/proxy/transport.go`, `rewriteURL`.
fn rewritten(location: &str, scheme: &str, authority: &str, prefix: &str) -> Option<String> {
    let own = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let path = match own.and_then(|rest| rest.strip_prefix(authority)) {
        Some("") => "/",
        Some(path) => path,
        None => location,
    };
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    if path.starts_with(prefix) {
        return Some(path.to_string());
    }
    Some(format!("{prefix}{path}"))
}

/// Where the target listens; `None` for a kubelet.
fn backend(server: &Server, call: &Call, named: &Named<'_>) -> Result<Option<Backend>, ApiError> {
    let address = match call.path.resource.as_str() {
        "nodes" => match node_address(server, named)? {
            Some(address) => address,
            None => return Ok(None),
        },
        "pods" => pod_address(server, call, named)?,
        _ => service_address(server, call, named)?,
    };
    Ok(Some(if named.is_https { Backend::unverified(address) } else { Backend::plain(address) }))
}

/// Another port of a node than its kubelet's.
fn node_address(server: &Server, named: &Named<'_>) -> Result<Option<SocketAddr>, ApiError> {
    let place = kubelet::place(server, named.name)?;
    let own: SocketAddr = place.authority().parse().expect("a place is an address and a port");
    if named.port.is_empty() {
        return Ok(None);
    }
    let port = named
        .port
        .parse::<u16>()
        .map_err(|_| ApiError::bad_request(format!("invalid node request {:?}", named.name)))?;
    Ok((port != own.port()).then(|| SocketAddr::new(own.ip(), port)))
}

fn pod_address(server: &Server, call: &Call, named: &Named<'_>) -> Result<SocketAddr, ApiError> {
    let not_found = || ApiError::not_found(&call.resource(), named.name);
    let record = server.store.get(&call.key(named.name)).ok_or_else(not_found)?;
    let pod = encode::parse(&record);
    let address = pod.str_at(&["status", "podIP"]).parse::<IpAddr>();
    let address = address.map_err(|_| ApiError::bad_request("address not allowed"))?;
    allowed(address)?;
    let port = pod_port(&pod, named).ok_or_else(|| {
        ApiError::bad_request(format!("no port {:?} found for pod {:?}", named.port, named.name))
    })?;
    Ok(SocketAddr::new(address, port))
}

/// The port by number or name, else the first one, else that of the scheme. PURE.
fn pod_port(pod: &Value, named: &Named<'_>) -> Option<u16> {
    if let Ok(number) = named.port.parse::<u16>() {
        return Some(number);
    }
    let ports = pod.list_at(&["spec", "containers"]).iter().flat_map(|one| one.list_at(&["ports"]));
    let mut ports =
        ports.filter(|one| named.port.is_empty() || one.str_at(&["name"]) == named.port);
    let found = ports.find_map(|one| u16::try_from(one.i64_at(&["containerPort"])?).ok());
    match found {
        None if named.port.is_empty() => Some(if named.is_https { 443 } else { 80 }),
        found => found,
    }
}

/// What the API server itself could reach by such an address is nobody's business.
///
/// Source: kubernetes `pkg/proxy/util`, `IsProxyableIP`.
fn allowed(address: IpAddr) -> Result<(), ApiError> {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local
    {
        return Err(ApiError::bad_request("address not allowed"));
    }
    Ok(())
}

/// A ready endpoint of a Service, chosen by the time of the request.
fn service_address(
    server: &Server,
    call: &Call,
    named: &Named<'_>,
) -> Result<SocketAddr, ApiError> {
    let not_found = || ApiError::not_found(&call.resource(), named.name);
    let record = server.store.get(&call.key(named.name)).ok_or_else(not_found)?;
    let port = service_port(&encode::parse(&record), named)?;
    let endpoints = server.store.get(&format!("/endpoints/{}/{}", call.namespace(), named.name));
    let endpoints = endpoints.map(|record| encode::parse(&record)).unwrap_or_default();
    let found = addresses(&endpoints, &port);
    let turn = usize::try_from(call.now.as_nanosecond().unsigned_abs() % 1_000_003).unwrap_or(0);
    if found.is_empty() {
        let why = format!("no endpoints available for service {:?}", named.name);
        return Err(unavailable(&why));
    }
    let address = found[turn % found.len()];
    allowed(address.ip())?;
    Ok(address)
}

/// The name of the Service's port that is asked for by number or name. PURE.
fn service_port(service: &Value, named: &Named<'_>) -> Result<String, ApiError> {
    let ports = service.list_at(&["spec", "ports"]);
    if let Ok(number) = named.port.parse::<i64>() {
        let found = ports.iter().find(|one| one.i64_at(&["port"]) == Some(number));
        let Some(found) = found else {
            let name = named.name;
            let why = format!("no service port {number} found for service {name:?}");
            return Err(unavailable(&why));
        };
        return Ok(found.str_at(&["name"]).to_string());
    }
    match ports {
        // The only port need not be named.
        [only] if named.port.is_empty() => Ok(only.str_at(&["name"]).to_string()),
        _ => Ok(named.port.to_string()),
    }
}

/// Ready addresses with the port of this name. PURE.
pub(crate) fn addresses(endpoints: &Value, port: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for subset in endpoints.list_at(&["subsets"]) {
        let mut ports = subset.list_at(&["ports"]).iter();
        let number = ports.find(|one| one.str_at(&["name"]) == port);
        let number = number.and_then(|one| u16::try_from(one.i64_at(&["port"])?).ok());
        let Some(number) = number else { continue };
        let addresses = subset.list_at(&["addresses"]).iter();
        let addresses = addresses.filter_map(|one| one.str_at(&["ip"]).parse::<IpAddr>().ok());
        found.extend(addresses.map(|address| SocketAddr::new(address, number)));
    }
    found
}

fn unavailable(why: &str) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        let of = |is_https, name, port| Some(Named { is_https, name, port });
        for (text, wanted) in [
            ("web", of(false, "web", "")),
            ("web:http", of(false, "web", "http")),
            ("https:web:443", of(true, "web", "443")),
            ("http:web:", of(false, "web", "")),
            (":web:80", of(false, "web", "80")),
            ("ftp:web:21", None),
            ("https::443", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(named(text), wanted, "{text}");
        }
    }

    #[test]
    fn redirects_stay_within_the_proxy() {
        let at = |location| rewritten(location, "http", "10.0.0.1:80", "/p/proxy");
        for (location, wanted) in [
            ("/a/b?c=d", Some("/p/proxy/a/b?c=d")),
            ("http://10.0.0.1:80/a", Some("/p/proxy/a")),
            ("http://10.0.0.1:80", Some("/p/proxy/")),
            ("/p/proxy/a", Some("/p/proxy/a")),
            ("a/b", None),
            ("//elsewhere/a", None),
            ("http://elsewhere/a", None),
        ] {
            assert_eq!(at(location).as_deref(), wanted, "{location}");
        }
    }

    #[test]
    fn ports_are_found_by_number_name_or_none() {
        let of = |port| Named { is_https: false, name: "web", port };
        let pod = json!({"spec": {"containers": [{}, {"ports": [
            {"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9000},
        ]}]}});
        assert_eq!(pod_port(&pod, &of("")), Some(8080));
        assert_eq!(pod_port(&pod, &of("admin")), Some(9000));
        assert_eq!(pod_port(&pod, &of("7")), Some(7));
        assert_eq!(pod_port(&pod, &of("absent")), None);
        assert_eq!(pod_port(&json!({}), &of("")), Some(80));
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
        assert_eq!(service_port(&service, &of("")).expect("a port"), "http");
        assert_eq!(service_port(&service, &of("80")).expect("a port"), "http");
        let refused = service_port(&service, &of("81")).expect_err("no such port");
        assert_eq!((refused.code, refused.reason.as_ref()), (503, "ServiceUnavailable"));
        assert_eq!(refused.message, "no service port 81 found for service \"web\"");
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "http", "port": 8080}]}]});
        assert_eq!(addresses(&endpoints, "http"), [SocketAddr::from(([10, 0, 0, 1], 8080))]);
        assert!(addresses(&endpoints, "admin").is_empty());
    }

    #[test]
    fn the_api_servers_own_surroundings_are_out_of_reach() {
        for (address, is_allowed) in
            [("10.0.0.1", true), ("127.0.0.1", false), ("169.254.169.254", false), ("::1", false)]
        {
            let address = address.parse().expect("an address");
            assert_eq!(allowed(address).is_ok(), is_allowed, "{address}");
        }
    }
}
