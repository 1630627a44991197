//! Requests to aggregated servers.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use objects::ObjectExt;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use super::front_proxy;
use super::table::Target;
use crate::answer::{self, Answer};
use crate::body::Body;
use crate::encode;
use crate::identity::User;
use crate::server::Server;
use crate::subresources::proxy::addresses;
use crate::subresources::relay::{Backend, Unverified};

/// Why a server is not there to be asked, with upstream's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unavailable {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Hands a request on. What the server answers is the client's answer.
pub(super) async fn forward(
    server: &Arc<Server>,
    mut request: Request<Body>,
    user: &User,
    target: &Target,
) -> Answer {
    if !target.is_available {
        return answer::text(503, "service unavailable\n");
    }
    let backend = match backend(server, target) {
        Ok(backend) => backend,
        Err(why) => {
            tracing::debug!(apiservice = target.name, reason = why.reason, why = why.message);
            return answer::text(503, "service unavailable\n");
        }
    };
    front_proxy::introduce(request.headers_mut(), user);
    // Clients inside this process send whole addresses.
    let path = request.uri().path_and_query().map(ToString::to_string);
    if let Some(Ok(uri)) = path.map(|path| path.parse()) {
        *request.uri_mut() = uri;
    }
    match backend.send(server, request).await {
        Ok(answer) => answer,
        Err(why) => answer::text(503, format!("error trying to reach service: {why}\n")),
    }
}

/// Where a server listens, and how it is spoken to.
pub(super) fn backend(server: &Server, target: &Target) -> Result<Backend, Unavailable> {
    let found = endpoints(server, target)?;
    let turn = usize::try_from(jiff::Timestamp::now().as_nanosecond().unsigned_abs() % 1_000_003);
    let address = found[turn.unwrap_or(0) % found.len()];
    let failed = |why: String| Unavailable { reason: "FailedDiscoveryCheck", message: why };
    let name = target.server_name();
    let tls = client_config(server, target).map_err(failed)?;
    let server_name =
        ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?;
    Ok(Backend {
        address,
        authority: format!("{name}:{}", target.port),
        tls: Some((tls, server_name)),
    })
}

/// Ready addresses of the Service; never empty.
fn endpoints(server: &Server, target: &Target) -> Result<Vec<SocketAddr>, Unavailable> {
    let (namespace, name) = (&target.namespace, &target.service);
    let get = |resource: &str| {
        let record = server.store.get(&format!("/{resource}/{namespace}/{name}"));
        record.map(|record| encode::parse(&record))
    };
    plan(target, get("services").as_ref(), get("endpoints").as_ref())
}

/// Source: kube-aggregator `pkg/controllers/status/remote`, v1.36. PURE.
fn plan(
    target: &Target,
    service: Option<&Value>,
    endpoints: Option<&Value>,
) -> Result<Vec<SocketAddr>, Unavailable> {
    let (namespace, name, port) = (&target.namespace, &target.service, target.port);
    let missing = |reason, message| Err(Unavailable { reason, message });
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return missing("ServiceNotFound", message);
    };
    let mut ports = service.list_at(&["spec", "ports"]).iter();
    let Some(found) = ports.find(|one| one.i64_at(&["port"]) == Some(i64::from(port))) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return missing("ServicePortError", message);
    };
    let Some(endpoints) = endpoints else {
        let message = format!("cannot find endpoints for service/{name} in {namespace:?}");
        return missing("EndpointsNotFound", message);
    };
    let port_name = found.str_at(&["name"]);
    let found = addresses(endpoints, port_name);
    if found.is_empty() {
        let message = format!(
            "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return missing("MissingEndpoints", message);
    }
    Ok(found)
}

/// TLS that shows the front proxy's certificate and believes the bundle's authorities.
fn client_config(server: &Server, target: &Target) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if target.is_unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified))
    } else {
        let mut roots = rustls::RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&target.ca_bundle);
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        builder.with_root_certificates(roots)
    };
    let config = match server.aggregation.identity.get() {
        Some(own) => builder
            .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_named_as_upstream_names_it() {
        let target = Target::parse(&json!({
            "metadata": {"name": "v1.wardle"},
            "spec": {"group": "wardle", "version": "v1", "service": {"namespace": "n", "name": "s"}},
        }));
        let target = target.expect("a target");
        let service = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
        let other = json!({"spec": {"ports": [{"port": 80}]}});
        let ready = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}],
            "ports": [{"name": "https", "port": 8443}]}]});
        let empty = json!({});
        let reason = |service, endpoints| {
            plan(&target, service, endpoints).map_err(|unavailable| unavailable.reason)
        };
        assert_eq!(reason(None, None), Err("ServiceNotFound"));
        assert_eq!(reason(Some(&other), Some(&ready)), Err("ServicePortError"));
        assert_eq!(reason(Some(&service), None), Err("EndpointsNotFound"));
        assert_eq!(reason(Some(&service), Some(&empty)), Err("MissingEndpoints"));
        let address = SocketAddr::from(([10, 0, 0, 1], 8443));
        assert_eq!(reason(Some(&service), Some(&ready)), Ok(vec![address]));
    }
}
