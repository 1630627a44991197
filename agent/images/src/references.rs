//! Image references as people write them, pure: `busybox`, `ghcr.io/a/b:1.2`, `host:5000/x@sha256:…`.

use std::fmt;
use std::str::FromStr;

use crate::ImageError;
use crate::digest::Digest;

/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Where names of one part live on [`DEFAULT_REGISTRY`].
const DEFAULT_FOLDER: &str = "library/";

/// Longest `REGISTRY/REPOSITORY`, as registries have it.
const NAME_LIMIT: usize = 255;

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host, with a port if there is one: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/busybox`.
    pub repository: String,
    /// `1.36`; `latest` if there was neither a tag nor a digest.
    pub tag: Option<String>,
    /// The manifest's digest. If there is one, it decides and the tag is only a label.
    pub digest: Option<Digest>,
}

impl Reference {
    /// `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `docker.io/library/busybox:1.36`, unless a digest decides.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            (Some(_) | None, _) => None,
        }
    }

    /// `docker.io/library/busybox@sha256:…`.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|reason| ImageError::InvalidReference {
            reference: text.to_owned(),
            reason: reason.to_owned(),
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| "invalid digest")?)),
        None => (text, None),
    };
    // A colon after the last slash starts the tag; one before it belongs to the registry's port.
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("invalid tag");
    }
    let (registry, path) = split_registry(name);
    let mut repository = path.to_owned();
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        repository.insert_str(0, DEFAULT_FOLDER);
    }
    check_name(registry, path, &repository)?;
    let tag = tag.map(str::to_owned);
    let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The first part is a registry if it cannot be a folder on the default one.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, path))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if host == "index.docker.io" { DEFAULT_REGISTRY } else { host }, path)
        }
        Some(_) | None => (DEFAULT_REGISTRY, name),
    }
}

fn check_name(registry: &str, path: &str, repository: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    if path.is_empty() || !path.split('/').all(is_path_part) || !is_host(registry) {
        return Err("invalid reference format");
    }
    if path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("a name cannot be 64 hexadecimal digits: that is an image id");
    }
    if registry.len() + 1 + repository.len() > NAME_LIMIT {
        return Err("repository name must not be more than 255 characters");
    }
    Ok(())
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|b| b.is_some_and(|b| plain(*b)))
        && bytes.split(|b| plain(*b)).all(|join| {
            matches!(join, b"" | b"." | b"_" | b"__") || join.iter().all(|b| *b == b'-')
        })
}

fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let ok = address.parse::<std::net::Ipv6Addr>().is_ok();
            (
                if ok { "ipv6" } else { "" },
                port.strip_prefix(':').or((!port.is_empty()).then_some("")),
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_completed_as_docker_does() {
        let at = |name: &str| format!("{name}@{DIGEST}");
        let cases = [
            ("busybox".to_owned(), "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36".into(), "docker.io/library/busybox:1.36".into()),
            ("user/app".into(), "docker.io/user/app:latest".into()),
            ("index.docker.io/busybox".into(), "docker.io/library/busybox:latest".into()),
            ("localhost/app".into(), "localhost/app:latest".into()),
            ("localhost:5000/app".into(), "localhost:5000/app:latest".into()),
            ("127.0.0.1:5000/a/b/c:v1".into(), "127.0.0.1:5000/a/b/c:v1".into()),
            ("[::1]:5000/app:1".into(), "[::1]:5000/app:1".into()),
            ("registry.k8s.io/e2e/agnhost:2.5".into(), "registry.k8s.io/e2e/agnhost:2.5".into()),
            ("a/b-c/d__e.f".into(), "docker.io/a/b-c/d__e.f:latest".into()),
            (at("busybox"), at("docker.io/library/busybox")),
            (at("busybox:1"), at("docker.io/library/busybox:1")),
        ];
        for (text, expected) in cases {
            let parsed: Reference = text.parse().expect(&text);
            assert_eq!(parsed.to_string(), expected);
            assert_eq!(expected.parse::<Reference>().expect("stable"), parsed);
        }
    }

    #[test]
    fn what_is_not_a_reference_says_why() {
        let hex = &DIGEST[7..];
        let long = format!("a.io/{}", "a".repeat(260));
        let cases = [
            ("", "invalid reference format"),
            ("UPPER", "repository name must be lowercase"),
            ("a//b", "invalid reference format"),
            ("/a", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("../../etc", "invalid reference format"),
            ("host:port/a", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a:", "invalid tag"),
            ("a:-x", "invalid tag"),
            ("a:b:c", "invalid tag"),
            ("a@sha256:12", "invalid digest"),
            ("a@", "invalid digest"),
            (hex, "a name cannot be 64 hexadecimal digits: that is an image id"),
            (&long, "repository name must not be more than 255 characters"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.ends_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        let parsed: Reference = format!("busybox:1@{DIGEST}").parse().expect("both");
        assert_eq!(parsed.tagged(), None);
        let digest = parsed.digest.clone().expect("given");
        assert_eq!(parsed.with_digest(&digest), format!("docker.io/library/busybox@{DIGEST}"));
    }
}
