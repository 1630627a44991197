//! Service-account tokens: signed claims bound to a service account and, often, to a pod.
//!
//! Source of behaviour: kubernetes `pkg/serviceaccount` (claims.go, jwt.go), v1.36.

use std::collections::{BTreeMap, HashMap};

use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use objects::ObjectExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::encode;
use crate::identity::User;
use crate::server::Server;

/// Verified tokens that are remembered, so that a client's every request does not cost a signature
/// check; a few times the pods of a busy cluster, at about 600 bytes each.
const REMEMBERED: usize = 4096;

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither a P-256 nor an RSA key.
    #[error("neither a P-256 nor an RSA private key in PKCS#8 PEM")]
    Kind,
    /// The public half cannot be derived.
    #[error("derive the public key")]
    Public(#[source] jsonwebtoken::errors::Error),
}

/// The signing key and its public half.
pub struct TokenKeys {
    algorithm: Algorithm,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Jwk,
    verified: Mutex<HashMap<[u8; 32], Claims>>,
}

/// A named, identified object in claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// Uid; absent for nodes that are gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The `kubernetes.io` claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// Namespace of the account.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Reference,
    /// The pod that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The node that the token (or its pod) is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The secret that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// When users of a prolonged token are warned, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// A token's claims. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    pub aud: Vec<String>,
    /// Expiry.
    pub exp: i64,
    /// Time of issue.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// Identity of the token.
    #[serde(default)]
    pub jti: String,
    /// What Kubernetes says.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    /// Not valid before.
    pub nbf: i64,
    /// User name.
    pub sub: String,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of ours, or what it is bound to is gone.
    #[error("invalid bearer token")]
    Invalid,
    /// It is for somebody else.
    #[error(
        "[invalid bearer token, token audiences {token} is invalid for the target audiences {target}]"
    )]
    Audience {
        /// The token's audiences, as Go prints a list.
        token: String,
        /// Those it should have one of.
        target: String,
    },
}

/// What a valid token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The user.
    pub user: User,
    /// Audiences that the token has of those asked for.
    pub audiences: Vec<String>,
}

impl TokenKeys {
    /// Reads the key of the configuration.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(config: &Config) -> Result<Self, KeyError> {
        let pem = config.service_account_key_pem.as_bytes();
        let (algorithm, encoding) = EncodingKey::from_ec_pem(pem)
            .map(|key| (Algorithm::ES256, key))
            .or_else(|_| EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key)))
            .map_err(|_| KeyError::Kind)?;
        let mut public = Jwk::from_encoding_key(&encoding, algorithm).map_err(KeyError::Public)?;
        let id = public.thumbprint(ThumbprintHash::SHA256).map_err(KeyError::Public)?;
        public.common.key_id = Some(id);
        public.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&public).map_err(KeyError::Public)?;
        Ok(Self { algorithm, encoding, decoding, public, verified: Mutex::default() })
    }

    /// `ES256` or `RS256`.
    pub fn algorithm_name(&self) -> &'static str {
        if self.algorithm == Algorithm::ES256 { "ES256" } else { "RS256" }
    }

    /// The public half, as a JSON Web Key.
    pub fn public_key(&self) -> &Jwk {
        &self.public
    }

    /// Signs claims. `None` only if the key is broken, which would have shown at start.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = self.public.common.key_id.clone();
        jsonwebtoken::encode(&header, claims, &self.encoding).ok()
    }

    /// Checks the signature and the times.
    fn verify(&self, token: &str, issuer: &str, now_secs: i64) -> Option<Claims> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.verified.lock().get(&hash).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let mut validation = Validation::new(self.algorithm);
                validation.set_issuer(&[issuer]);
                validation.validate_aud = false;
                validation.validate_exp = false;
                let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
                let claims = data.ok()?.claims;
                let mut verified = self.verified.lock();
                if verified.len() >= REMEMBERED {
                    verified.clear();
                }
                verified.insert(hash, claims.clone());
                claims
            }
        };
        // A minute of leeway before, for clocks that differ; none after.
        (claims.nbf <= now_secs + 60 && claims.exp > now_secs).then_some(claims)
    }
}

/// Authenticates a token for one of some audiences.
///
/// # Errors
/// [`TokenError`].
pub fn authenticate(server: &Server, token: &str, audiences: &[&str]) -> Result<Proof, TokenError> {
    let now_secs = jiff::Timestamp::now().as_second();
    let issuer = &server.config.service_account_issuer;
    let claims = server.tokens.verify(token, issuer, now_secs).ok_or(TokenError::Invalid)?;
    let shared: Vec<String> = audiences
        .iter()
        .filter(|wanted| claims.aud.iter().any(|own| own == *wanted))
        .map(|wanted| (*wanted).to_string())
        .collect();
    if shared.is_empty() {
        let target: Vec<String> = audiences.iter().map(|item| (*item).to_string()).collect();
        return Err(TokenError::Audience { token: go_list(&claims.aud), target: go_list(&target) });
    }
    check_bound(server, &claims, now_secs)?;
    Ok(Proof { user: user(&claims), audiences: shared })
}

fn go_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// The account, and whatever else the token is bound to, must still be there.
fn check_bound(server: &Server, claims: &Claims, now_secs: i64) -> Result<(), TokenError> {
    let Private { namespace, serviceaccount, pod, secret, node, .. } = &claims.kubernetes;
    let alive = |resource: &str, namespace: &str, wanted: &Reference| {
        let record = server.store.get(&format!("/{resource}/{namespace}/{}", wanted.name));
        record.is_some_and(|record| {
            let object = encode::parse(&record);
            object.uid() == wanted.uid && !long_deleted(&object, now_secs)
        })
    };
    let account = alive("serviceaccounts", namespace, serviceaccount);
    let pod_alive = pod.as_ref().is_none_or(|pod| alive("pods", namespace, pod));
    let secret_alive = secret.as_ref().is_none_or(|secret| alive("secrets", namespace, secret));
    // The node of a pod-bound token is only for information.
    let node_alive = pod.is_some() || node.as_ref().is_none_or(|node| alive("nodes", "", node));
    if account && pod_alive && secret_alive && node_alive {
        Ok(())
    } else {
        Err(TokenError::Invalid)
    }
}

/// Tokens stay valid for a minute after the deletion of what they are bound to, so that a pod can
/// still say goodbye.
fn long_deleted(object: &Value, now_secs: i64) -> bool {
    match objects::time::parse_time(object.deletion_timestamp()) {
        Ok(end) => end.as_second() + 60 < now_secs,
        Err(_) => false,
    }
}

fn user(claims: &Claims) -> User {
    let Private { namespace, serviceaccount, pod, node, .. } = &claims.kubernetes;
    let own = format!("system:serviceaccounts:{namespace}");
    let name = format!("system:serviceaccount:{namespace}:{}", serviceaccount.name);
    let mut user = User::authenticated(&name, &["system:serviceaccounts", &own]);
    user.uid = serviceaccount.uid.clone();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_string()]);
        }
    };
    put(
        "credential-id",
        &match claims.jti.is_empty() {
            true => String::new(),
            false => format!("JTI={}", claims.jti),
        },
    );
    if let Some(pod) = pod {
        put("pod-name", &pod.name);
        put("pod-uid", &pod.uid);
    }
    if let Some(node) = node {
        put("node-name", &node.name);
        put("node-uid", &node.uid);
    }
    user.extra = extra;
    user
}
