//! What a request asks for: a pure reading of its method, path and query.
//!
//! Source of behaviour: kubernetes apiserver `pkg/endpoints/request/requestinfo.go`, v1.36.

use http::Method;

use crate::query::Query;

/// The verb that authorization and admission see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads a collection.
    List,
    /// Follows a collection or one object.
    Watch,
    /// Creates an object, or posts to a subresource.
    Create,
    /// Replaces an object.
    Update,
    /// Changes an object.
    Patch,
    /// Deletes one object.
    Delete,
    /// Deletes every selected object.
    DeleteCollection,
    /// Another method, on a path that is no resource: `post`, `put`, `options`.
    Post,
    /// `put` outside resources.
    Put,
    /// `head` outside resources.
    Head,
    /// `options`.
    Options,
}

impl Verb {
    /// The name in rules, messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Post => "post",
            Self::Put => "put",
            Self::Head => "head",
            Self::Options => "options",
        }
    }

    /// Whether nothing is changed by it.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// The resource part of a path. Empty strings stand for absent parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace; for the namespace object itself its own name, as authorization wants it.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Object name.
    pub name: String,
    /// Subresource.
    pub subresource: String,
    /// What follows the subresource (a proxied path), with its leading slash.
    pub rest: String,
}

impl ResourcePath {
    /// The namespace of the object itself: empty when the object is a namespace.
    pub fn object_namespace(&self) -> &str {
        if self.group.is_empty() && self.resource == "namespaces" { "" } else { &self.namespace }
    }
}

/// A request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Verb.
    pub verb: Verb,
    /// Decoded path.
    pub path: String,
    /// Query parameters.
    pub query: Query,
    /// The resource, if the path names one.
    pub resource: Option<ResourcePath>,
}

impl RequestInfo {
    /// Whether the request goes on until somebody ends it: watches and streams.
    pub fn is_long_running(&self) -> bool {
        let streams = |path: &ResourcePath| {
            matches!(path.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy" | "log")
        };
        self.verb == Verb::Watch || self.resource.as_ref().is_some_and(streams)
    }
}

/// Reads a request line. `None` for a path that is not valid percent-encoded UTF-8.
pub fn parse(method: &Method, uri: &http::Uri) -> Option<RequestInfo> {
    let query = Query::parse(uri.query().unwrap_or(""));
    let path = decode(uri.path())?;
    let parts: Vec<String> =
        uri.path().split('/').filter(|part| !part.is_empty()).map(decode).collect::<Option<_>>()?;
    let resource = resource_path(&parts, uri.path().ends_with('/'));
    let verb = verb(method, resource.as_ref(), &parts, &query);
    Some(RequestInfo { verb, path, query, resource })
}

fn decode(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn resource_path(parts: &[String], trailing_slash: bool) -> Option<ResourcePath> {
    let (group, rest) = match parts.first().map(String::as_str) {
        Some("api") => ("", &parts[1..]),
        Some("apis") => (parts.get(1)?.as_str(), parts.get(2..)?),
        _ => return None,
    };
    let (version, rest) = rest.split_first()?;
    // The old `watch` prefix: /api/v1/watch/namespaces/x/pods.
    let rest = match rest.first().map(String::as_str) {
        Some("watch") if rest.len() > 1 => &rest[1..],
        _ => rest,
    };
    if rest.is_empty() {
        return None;
    }
    let mut out =
        ResourcePath { group: group.into(), version: version.into(), ..Default::default() };
    let rest = if rest[0] == "namespaces" && rest.len() > 1 {
        out.namespace = rest[1].clone();
        // /namespaces/x and its own subresources stay with the namespace object.
        let own = rest.len() > 2 && matches!(rest[2].as_str(), "status" | "finalize");
        if rest.len() > 2 && !own { &rest[2..] } else { rest }
    } else {
        rest
    };
    let mut rest = rest.iter();
    let mut next = || rest.next().cloned().unwrap_or_default();
    out.resource = next();
    out.name = next();
    out.subresource = next();
    let tail: Vec<&str> = rest.map(String::as_str).collect();
    if !tail.is_empty() {
        out.rest = format!("/{}", tail.join("/"));
    }
    if trailing_slash && !out.subresource.is_empty() {
        out.rest.push('/');
    }
    Some(out)
}

fn verb(method: &Method, resource: Option<&ResourcePath>, parts: &[String], query: &Query) -> Verb {
    let Some(resource) = resource else {
        return match *method {
            Method::GET => Verb::Get,
            Method::HEAD => Verb::Head,
            Method::POST => Verb::Post,
            Method::PUT => Verb::Put,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ => Verb::Options,
        };
    };
    let collection = resource.name.is_empty();
    let old_watch = parts.iter().skip(2).take(2).any(|part| part == "watch");
    match *method {
        Method::GET | Method::HEAD if collection => {
            if query.flag("watch") || old_watch {
                Verb::Watch
            } else {
                Verb::List
            }
        }
        Method::GET | Method::HEAD => {
            if old_watch {
                Verb::Watch
            } else {
                Verb::Get
            }
        }
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if collection => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => Verb::Options,
    }
}

#[cfg(test)]
mod tests;
