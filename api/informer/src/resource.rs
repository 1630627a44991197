//! Where a resource lives in the API's URL space, and what part of it is listed and watched.

use std::borrow::Cow;
use std::fmt;

use objects::ObjectKey;

/// A served resource: the group, version and plural that make up its URLs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePath {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// Version within the group.
    pub version: Cow<'static, str>,
    /// Plural name, such as `pods`.
    pub plural: Cow<'static, str>,
}

impl ResourcePath {
    /// The path of a built-in type.
    pub const fn of<K: k8s_openapi::Resource>() -> Self {
        Self {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
        }
    }

    /// The path of a resource known only at run time.
    pub fn new(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: Cow::Owned(group.to_string()),
            version: Cow::Owned(version.to_string()),
            plural: Cow::Owned(plural.to_string()),
        }
    }

    fn prefix(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// URL path of the collection; of all namespaces (or of a cluster-scoped resource) if
    /// `namespace` is empty.
    pub fn collection(&self, namespace: &str) -> String {
        let prefix = self.prefix();
        if namespace.is_empty() {
            format!("{prefix}/{}", self.plural)
        } else {
            format!("{prefix}/namespaces/{}/{}", encode(namespace), self.plural)
        }
    }

    /// URL path of one object.
    pub fn object(&self, key: &ObjectKey) -> String {
        format!("{}/{}", self.collection(&key.namespace), encode(&key.name))
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// What is listed and watched: a resource, narrowed by namespace and selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The resource.
    pub resource: ResourcePath,
    /// Only this namespace; empty for all.
    pub namespace: String,
    /// Label selector as in a query, empty for none.
    pub labels: String,
    /// Field selector as in a query, empty for none.
    pub fields: String,
}

impl Source {
    /// All objects of a built-in type.
    pub fn of<K: k8s_openapi::Resource>() -> Self {
        Self::all(ResourcePath::of::<K>())
    }

    /// All objects of a resource.
    pub fn all(resource: ResourcePath) -> Self {
        Self { resource, namespace: String::new(), labels: String::new(), fields: String::new() }
    }

    /// Only one namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_string();
        self
    }

    /// Only objects whose labels match (`app=web,tier!=db`).
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = selector.to_string();
        self
    }

    /// Only objects whose fields match (`spec.nodeName=n1`).
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = selector.to_string();
        self
    }

    /// Path and query of a list.
    pub(crate) fn list_url(&self) -> String {
        self.url(&[])
    }

    /// Path and query of a watch that starts after `revision`.
    pub(crate) fn watch_url(&self, revision: u64, timeout_secs: u64) -> String {
        self.url(&[
            ("watch", "true".to_string()),
            ("allowWatchBookmarks", "true".to_string()),
            ("resourceVersion", revision.to_string()),
            ("timeoutSeconds", timeout_secs.to_string()),
        ])
    }

    fn url(&self, extra: &[(&str, String)]) -> String {
        let mut url = self.resource.collection(&self.namespace);
        let mut separator = '?';
        let selectors = [("labelSelector", &self.labels), ("fieldSelector", &self.fields)];
        let selectors = selectors.into_iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in selectors.chain(extra.iter().map(|(name, value)| (*name, value))) {
            url.push(separator);
            url.push_str(name);
            url.push('=');
            url.push_str(&encode(value));
            separator = '&';
        }
        url
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resource.fmt(f)?;
        for part in [&self.namespace, &self.labels, &self.fields] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters: right in a path segment and in
/// a query value alike.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    use super::*;

    #[test]
    fn urls_follow_group_and_namespace() {
        let pods = ResourcePath::of::<Pod>();
        assert_eq!(pods.collection(""), "/api/v1/pods");
        let key = ObjectKey::new("a", "web-1");
        assert_eq!(pods.object(&key), "/api/v1/namespaces/a/pods/web-1");
        let deployments = ResourcePath::of::<Deployment>();
        assert_eq!(deployments.object(&key), "/apis/apps/v1/namespaces/a/deployments/web-1");
    }

    #[test]
    fn selectors_are_encoded_into_the_query() {
        let source = Source::of::<Pod>().fields("spec.nodeName=n1").labels("a in (b,c)");
        assert_eq!(
            source.watch_url(7, 300),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29&fieldSelector=spec.nodeName%3Dn1\
             &watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=300"
        );
        assert_eq!(Source::of::<Pod>().list_url(), "/api/v1/pods");
    }
}
