//! Encryption of values at rest.
//!
//! What a value is encrypted with is decided by the key it is stored under, as Kubernetes'
//! `EncryptionConfiguration` says (`config.rs`). An encrypted value is
//! `k8s:enc:aesgcm:v1:NAME:`, a nonce of 12 bytes and the AES-GCM ciphertext; the storage key is
//! authenticated with it, so that a value moved to another key does not open. Values that do not
//! begin with `k8s:enc:` are plain JSON. Only what is on disk is encrypted: the view in memory and
//! dumps hold plain objects.
//!
//! Source of the form: k8s.io/apiserver pkg/storage/value/encrypt/aes, v1.36.

mod config;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::RwLock;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

/// What every encrypted value begins with.
const MARK: &[u8] = b"k8s:enc:";

/// What is said of a value that no key opens.
pub(crate) const NO_KEY: &str =
    "is encrypted with a key that the encryption configuration does not have";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncryptionError {
    /// The text is not a configuration.
    #[error("encryption configuration: {0}")]
    Syntax(String),
    /// A field has a value that does not do.
    #[error("encryption configuration, {path}: {reason}")]
    Field {
        /// The field.
        path: String,
        /// What is wrong, and what would do.
        reason: String,
    },
}

/// How values are encrypted: shared by a backend and whoever changes the configuration.
#[derive(Debug, Default)]
pub struct Encryption {
    rules: RwLock<Arc<Rules>>,
}

/// In order; the first that names a resource decides.
#[derive(Debug, Default)]
struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    resources: Vec<Pattern>,
    /// The first encrypts; any may decrypt.
    providers: Vec<Provider>,
}

/// Some resources.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// `*.*`
    All,
    /// `*.GROUP`; `*.` is the core group.
    Group(String),
    /// `RESOURCE` or `RESOURCE.GROUP`.
    One { group: String, resource: String },
}

impl Pattern {
    fn matches(&self, key: &str) -> bool {
        let mut parts = key.splitn(3, '/');
        let (of_group, of_resource) = (parts.next(), parts.next());
        match self {
            Self::All => true,
            Self::Group(group) => of_group == Some(group),
            Self::One { group, resource } => {
                of_group == Some(group) && of_resource == Some(resource)
            }
        }
    }
}

#[derive(Debug)]
enum Provider {
    Identity,
    AesGcm(Vec<AesKey>),
}

struct AesKey {
    /// `k8s:enc:aesgcm:v1:NAME:`
    prefix: Vec<u8>,
    key: LessSafeKey,
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.prefix))
    }
}

impl AesKey {
    /// `None` if the secret has not 16 or 32 bytes.
    fn new(name: &str, secret: &[u8]) -> Option<Self> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, secret).ok()?);
        Some(Self { prefix: format!("k8s:enc:aesgcm:v1:{name}:").into_bytes(), key })
    }

    fn seal(&self, key: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the kernel gives random bytes");
        let mut stored = self.prefix.clone();
        stored.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(key.as_bytes()), &mut text)
            .expect("values are far below the 64 GiB that one nonce can encrypt");
        stored.extend_from_slice(&text);
        stored
    }

    /// `None` if the bytes were not made with this key for this storage key.
    fn open(&self, key: &str, stored: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = stored.strip_prefix(&*self.prefix)?.split_first_chunk()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(key.as_bytes()), &mut text).ok()?.len();
        text.truncate(plain);
        Some(text)
    }
}

impl Encryption {
    /// Reads an `EncryptionConfiguration` (YAML or JSON).
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn from_config(text: &str) -> Result<Self, EncryptionError> {
        Ok(Self { rules: RwLock::new(Arc::new(config::parse(text)?)) })
    }

    /// Puts another configuration into force. Values written from now on follow it;
    /// [`crate::Store::reseal`] writes the others anew.
    ///
    /// # Errors
    /// [`EncryptionError`]; the configuration stays as it was.
    pub fn replace(&self, text: &str) -> Result<(), EncryptionError> {
        *self.rules.write() = Arc::new(config::parse(text)?);
        Ok(())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// A value as it goes to disk.
    pub(crate) fn seal<'a>(&self, key: &str, plain: &'a [u8]) -> Cow<'a, [u8]> {
        match self.rules().providers(key).first() {
            Some(Provider::AesGcm(keys)) => match keys.first() {
                Some(first) => Cow::Owned(first.seal(key, plain)),
                None => Cow::Borrowed(plain),
            },
            Some(Provider::Identity) | None => Cow::Borrowed(plain),
        }
    }

    /// A value as it was before [`Encryption::seal`]; `None` if no provider of its resource has
    /// the key it was encrypted with.
    pub(crate) fn open<'a>(&self, key: &str, stored: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if !stored.starts_with(MARK) {
            // Written before there was encryption, or by `identity`.
            return Some(Cow::Borrowed(stored));
        }
        let rules = self.rules();
        let opened = rules.providers(key).iter().find_map(|provider| match provider {
            Provider::Identity => None,
            Provider::AesGcm(keys) => keys.iter().find_map(|one| one.open(key, stored)),
        });
        opened.map(Cow::Owned)
    }

    /// Whether a stored value is not as [`Encryption::seal`] would make it now.
    pub(crate) fn is_stale(&self, key: &str, stored: &[u8]) -> bool {
        let rules = self.rules();
        match rules.providers(key).first() {
            Some(Provider::AesGcm(keys)) if !keys.is_empty() => {
                !stored.starts_with(&keys[0].prefix)
            }
            Some(_) | None => stored.starts_with(MARK),
        }
    }
}

impl Rules {
    fn providers(&self, key: &str) -> &[Provider] {
        let rule = self.0.iter().find(|rule| rule.resources.iter().any(|one| one.matches(key)));
        rule.map_or(&[], |rule| &rule.providers)
    }
}
