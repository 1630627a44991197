//! Who asks (authentication) and whether they may (authorization).

pub mod bootstrap_token;
pub mod impersonate;
pub mod node;
pub mod oidc;
pub mod rbac;
pub mod tokens;
pub mod x509;

use std::sync::Arc;

use http::Request;
use http::header::AUTHORIZATION;
use objects::{ApiError, GroupResource};

use crate::body::Body;
use crate::identity::{MASTERS, User};
use crate::route::RequestInfo;
use crate::server::Server;

/// The identity that a connection proved by its client certificate: an extension of its requests.
#[derive(Debug, Clone)]
pub struct PeerIdentity(pub Arc<User>);

/// The address at the other end of a connection: an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub std::net::IpAddr);

/// Who makes a request.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The user that the request is made as.
    pub user: User,
    /// The user who makes it, if that is another: an impersonator.
    pub impersonator: Option<User>,
}

/// Finds out who makes a request, impersonation included.
///
/// # Errors
/// 401 for credentials that prove nothing, 403 for impersonation that is not allowed.
pub fn authenticate(
    server: &Server,
    request: &Request<Body>,
    info: &RequestInfo,
) -> Result<Identity, ApiError> {
    let user = credentials(server, request)?;
    impersonate::apply(server, user, request.headers(), info)
}

fn credentials(server: &Server, request: &Request<Body>) -> Result<User, ApiError> {
    if let Some(user) = request.extensions().get::<User>() {
        return Ok(user.clone());
    }
    if let Some(PeerIdentity(user)) = request.extensions().get() {
        return Ok(User::clone(user));
    }
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header.and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            bearer(server, token.trim()).ok_or_else(ApiError::unauthorized)
        }
        _ if server.config.anonymous => Ok(User::anonymous()),
        _ => Err(ApiError::unauthorized()),
    }
}

fn bearer(server: &Server, token: &str) -> Option<User> {
    if let Some(user) = bootstrap_token::authenticate(server, token) {
        return Some(user);
    }
    let audience = server.config.service_account_issuer.as_str();
    tokens::authenticate(server, token, &[audience]).ok().map(|proof| proof.user)
}

/// What somebody wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Verb.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Version; no rule looks at it.
    pub version: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Plural; empty for a path that is no resource.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// Object name.
    pub name: &'a str,
    /// Path, when `resource` is empty.
    pub path: &'a str,
}

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
}

/// Decides whether a user may do something.
pub fn decide(server: &Server, user: &User, attributes: &Attributes<'_>) -> Decision {
    if user.is_in(MASTERS) {
        return Decision { allowed: true, reason: String::new() };
    }
    if let Some(decision) = node::decide(server, user, attributes) {
        return decision;
    }
    server.rbac.decide(user, attributes)
}

/// The attributes of a request.
pub fn attributes(info: &RequestInfo) -> Attributes<'_> {
    match &info.resource {
        None => Attributes { verb: info.verb.as_str(), path: &info.path, ..Attributes::default() },
        Some(path) => Attributes {
            verb: info.verb.as_str(),
            group: &path.group,
            version: &path.version,
            namespace: &path.namespace,
            resource: &path.resource,
            subresource: &path.subresource,
            name: &path.name,
            path: "",
        },
    }
}

/// 403 in the words of upstream's authorization filter.
pub fn forbidden(user: &User, attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let mut why = refusal(user, attributes);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let resource = GroupResource::new(attributes.group, attributes.resource);
    ApiError::forbidden(&resource, attributes.name, &why)
}

fn refusal(user: &User, attributes: &Attributes<'_>) -> String {
    let Attributes { verb, group, namespace, resource, subresource, path, .. } = attributes;
    let name = &user.name;
    if resource.is_empty() {
        return format!("User {name:?} cannot {verb} path {path:?}");
    }
    let resource = match subresource.is_empty() {
        true => (*resource).to_string(),
        false => format!("{resource}/{subresource}"),
    };
    let place = match namespace.is_empty() {
        true => "at the cluster scope".to_string(),
        false => format!("in the namespace {namespace:?}"),
    };
    format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
}
