//! Kubernetes' `EncryptionConfiguration`.
//!
//! Source: k8s.io/apiserver pkg/apis/apiserver (v1) and pkg/server/options/encryptionconfig, v1.36.
//! Of the providers, `aesgcm` and `identity` are known; the others are refused by name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{AesKey, EncryptionError, Pattern, Provider, Rule, Rules};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderConfig {
    aesgcm: Option<Keys>,
    identity: Option<Identity>,
    aescbc: Option<serde::de::IgnoredAny>,
    secretbox: Option<serde::de::IgnoredAny>,
    kms: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

pub(super) fn parse(text: &str) -> Result<Rules, EncryptionError> {
    let read: Configuration =
        serde_saphyr::from_str(text).map_err(|error| EncryptionError::Syntax(error.to_string()))?;
    if read.kind != "EncryptionConfiguration" {
        return Err(field("kind", "must be EncryptionConfiguration"));
    }
    if read.api_version != "apiserver.config.k8s.io/v1" {
        return Err(field("apiVersion", "must be apiserver.config.k8s.io/v1"));
    }
    if read.resources.is_empty() {
        return Err(field("resources", "at least one entry is required"));
    }
    let rules = read.resources.into_iter().enumerate().map(|(index, one)| rule(index, one));
    rules.collect::<Result<_, _>>().map(Rules)
}

fn rule(index: usize, read: Resources) -> Result<Rule, EncryptionError> {
    let path = format!("resources[{index}]");
    if read.resources.is_empty() {
        return Err(field(&format!("{path}.resources"), "at least one resource is required"));
    }
    if read.providers.is_empty() {
        return Err(field(&format!("{path}.providers"), "at least one provider is required"));
    }
    let patterns = read.resources.iter().enumerate().map(|(at, text)| {
        let wrong = "must be RESOURCE, RESOURCE.GROUP, *.GROUP or *.*";
        pattern(text).ok_or_else(|| field(&format!("{path}.resources[{at}]"), wrong))
    });
    let resources = patterns.collect::<Result<_, _>>()?;
    let providers = read
        .providers
        .into_iter()
        .enumerate()
        .map(|(at, one)| provider(&format!("{path}.providers[{at}]"), one));
    Ok(Rule { resources, providers: providers.collect::<Result<_, _>>()? })
}

fn pattern(text: &str) -> Option<Pattern> {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    match (resource, group) {
        ("", _) => None,
        ("*", "*") => Some(Pattern::All),
        ("*", _) if !text.contains('.') => None,
        ("*", group) => Some(Pattern::Group(group.to_owned())),
        (resource, group) if !resource.contains('*') && !group.contains('*') => {
            Some(Pattern::One { group: group.to_owned(), resource: resource.to_owned() })
        }
        _ => None,
    }
}

fn provider(path: &str, read: ProviderConfig) -> Result<Provider, EncryptionError> {
    let unknown = [
        (read.aescbc.is_some(), "aescbc"),
        (read.secretbox.is_some(), "secretbox"),
        (read.kms.is_some(), "kms"),
    ];
    if let Some((_, name)) = unknown.iter().find(|(given, _)| *given) {
        let reason = "this provider is not built in; use aesgcm";
        return Err(field(&format!("{path}.{name}"), reason));
    }
    match (read.aesgcm, read.identity) {
        (Some(keys), None) => keys_of(&format!("{path}.aesgcm"), &keys).map(Provider::AesGcm),
        (None, Some(Identity {})) => Ok(Provider::Identity),
        _ => Err(field(path, "exactly one provider is required in each entry")),
    }
}

fn keys_of(path: &str, read: &Keys) -> Result<Vec<AesKey>, EncryptionError> {
    if read.keys.is_empty() {
        return Err(field(&format!("{path}.keys"), "at least one key is required"));
    }
    let mut keys = Vec::new();
    for (at, key) in read.keys.iter().enumerate() {
        let at = format!("{path}.keys[{at}]");
        if key.name.is_empty() || key.name.contains(':') {
            return Err(field(&format!("{at}.name"), "must not be empty or contain a colon"));
        }
        if read.keys.iter().filter(|other| other.name == key.name).count() > 1 {
            return Err(field(&format!("{at}.name"), "must be unique"));
        }
        let made = STANDARD.decode(&key.secret).ok();
        let made = made.and_then(|secret| AesKey::new(&key.name, &secret));
        let wrong = "must be the base64 form of 16 or 32 random bytes";
        keys.push(made.ok_or_else(|| field(&format!("{at}.secret"), wrong))?);
    }
    Ok(keys)
}

fn field(path: &str, reason: &str) -> EncryptionError {
    EncryptionError::Field { path: path.to_owned(), reason: reason.to_owned() }
}
