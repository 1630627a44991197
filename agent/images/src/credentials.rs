//! Pull secrets, pure: Docker's config file in its two forms, and which entries fit an image.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Credentials;
use crate::references::Reference;

/// Credentials by registry, as pull secrets and Docker's config file hold them.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Vec<(String, Credentials)>);

#[derive(Deserialize)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

impl Keyring {
    /// Adds the entries of a `kubernetes.io/dockerconfigjson` Secret (or Docker's `config.json`).
    ///
    /// # Errors
    /// What is wrong with it, in words without secrets in them.
    pub fn add_config_json(&mut self, json: &[u8]) -> Result<(), String> {
        // serde's messages may quote the input, which is secret.
        let file: ConfigFile = serde_json::from_slice(json)
            .map_err(|error| format!("not a Docker config (line {})", error.line()))?;
        self.add(file.auths)
    }

    /// Adds the entries of a `kubernetes.io/dockercfg` Secret.
    ///
    /// # Errors
    /// What is wrong with it, in words without secrets in them.
    pub fn add_dockercfg(&mut self, json: &[u8]) -> Result<(), String> {
        let entries = serde_json::from_slice(json)
            .map_err(|error| format!("not a dockercfg (line {})", error.line()))?;
        self.add(entries)
    }

    fn add(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), String> {
        for (registry, entry) in entries {
            let credentials =
                decode(entry).ok_or_else(|| format!("the entry for {registry:?} has no auth"))?;
            let place = registry.trim_start_matches("https://").trim_start_matches("http://");
            let place = place.trim_end_matches('/');
            let place = place.strip_suffix("/v1").or(place.strip_suffix("/v2")).unwrap_or(place);
            let place = place
                .strip_prefix("index.docker.io")
                .map_or_else(|| place.to_owned(), |path| format!("docker.io{path}"));
            self.0.push((place, credentials));
        }
        Ok(())
    }

    /// What to try for an image, most specific first. Entries may name a path (`host/team`) and use
    /// `*` within the parts of a host name, as the kubelet has it.
    pub fn lookup(&self, reference: &Reference) -> Vec<Credentials> {
        let mut found: Vec<&(String, Credentials)> =
            self.0.iter().filter(|(place, _)| covers(place, reference)).collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.into_iter().map(|(_, credentials)| credentials.clone()).collect()
    }
}

fn decode(entry: Entry) -> Option<Credentials> {
    let Entry { mut username, mut password, auth, identitytoken } = entry;
    if !auth.is_empty() {
        let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (user, rest) = text.split_once(':')?;
        (username, password) = (user.to_owned(), rest.to_owned());
    }
    if password.is_empty() {
        password = identitytoken;
    }
    (!username.is_empty() || !password.is_empty()).then_some(Credentials { username, password })
}

fn covers(place: &str, reference: &Reference) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let within = reference.repository == path
        || path.is_empty()
        || reference.repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    within && host_matches(host, &reference.registry)
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| match text.split_once(':') {
        Some((name, port)) => (name.to_owned(), Some(port.to_owned())),
        None => (text.to_owned(), None),
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (patterns, hosts) = (parts(&pattern), parts(&host));
    pattern_port == port
        && patterns.len() == hosts.len()
        && patterns.iter().zip(&hosts).all(|(pattern, part)| glob(pattern, part))
}

/// `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && glob(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keyring: &Keyring, image: &str) -> Vec<String> {
        let reference = image.parse().expect("reference");
        keyring.lookup(&reference).into_iter().map(|c| c.username).collect()
    }

    #[test]
    fn the_most_specific_entry_comes_first() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:p:w"));
        let json = format!(
            r#"{{"auths":{{
            "https://index.docker.io/v1/":{{"auth":"{}"}},
            "a.io":{{"auth":"{}"}},
            "a.io/team":{{"username":"team","password":"x"}},
            "*.b.io":{{"auth":"{}"}},
            "127.0.0.1:5000":{{"auth":"{}"}}}}}}"#,
            auth("hub"),
            auth("a"),
            auth("wild"),
            auth("local"),
        );
        let mut keyring = Keyring::default();
        keyring.add_config_json(json.as_bytes()).expect("config");
        assert_eq!(names(&keyring, "busybox"), ["hub"]);
        assert_eq!(names(&keyring, "a.io/other/x"), ["a"]);
        assert_eq!(names(&keyring, "a.io/team/x"), ["team", "a"]);
        assert_eq!(names(&keyring, "a.io/teams/x"), ["a"]);
        assert_eq!(names(&keyring, "x.b.io/x"), ["wild"]);
        assert_eq!(names(&keyring, "y.x.b.io/x"), [""; 0]);
        assert_eq!(names(&keyring, "127.0.0.1:5000/x"), ["local"]);
        assert_eq!(names(&keyring, "127.0.0.1:5001/x"), [""; 0]);
        let hub = keyring.lookup(&"busybox".parse().expect("reference"));
        assert_eq!(hub[0].password, "p:w");
    }

    #[test]
    fn broken_secrets_are_described_without_showing_them() {
        let mut keyring = Keyring::default();
        for bad in
            ["hunter2", r#"{"auths":{"a.io":{"auth":"hunter2"}}}"#, r#"{"auths":{"a.io":{}}}"#]
        {
            let error = keyring.add_config_json(bad.as_bytes()).expect_err(bad);
            assert!(!error.contains("hunter2"), "{error}");
        }
        keyring.add_dockercfg(br#"{"a.io":{"username":"u","password":"p"}}"#).expect("old form");
        assert_eq!(names(&keyring, "a.io/x"), ["u"]);
    }
}
