//! Tokens of service accounts: asked for when a volume is set up, again at 80 % of their life.
//!
//! Source of behaviour: kubernetes pkg/kubelet/token/token_manager.go, v1.36.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use parking_lot::Mutex;
use serde_json::Value;

use super::VolumeError;
use crate::pod::PodExt;

/// Upstream's default life of a token.
const LIFE_DEFAULT_SECS: i64 = 3600;
/// A token is exchanged at the latest when it is this old.
const AGE_MAX_SECS: i64 = 24 * 60 * 60;
/// A token whose exchange failed is tried again after this time, until it works.
const RETRY_SECS: i64 = 15;

/// What tells tokens apart: pod, audience and life.
type TokenKey = (String, String, i64);

#[derive(Debug, Clone)]
struct Kept {
    token: String,
    expires_at: Timestamp,
    refresh_at: Timestamp,
}

/// The tokens of this node's pods. Lost at a restart: new ones are asked for then.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<TokenKey, Kept>>);

/// When a token is to be exchanged.
fn refresh_at(issued_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life_secs = expires_at.duration_since(issued_at).as_secs();
    let wait = (life_secs * 4 / 5).min(AGE_MAX_SECS);
    issued_at.saturating_add(SignedDuration::from_secs(wait)).unwrap_or(expires_at)
}

impl Tokens {
    /// A token for a pod, and when it is to be exchanged. One that is due but cannot be exchanged
    /// now is used on until it expires.
    pub(crate) async fn get(
        &self,
        client: &kube::Client,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<(String, Timestamp), VolumeError> {
        let audience = source.audience.clone().unwrap_or_default();
        let life_secs = source.expiration_seconds.unwrap_or(LIFE_DEFAULT_SECS);
        let key = (pod.uid().to_owned(), audience.clone(), life_secs);
        let kept = self.0.lock().get(&key).cloned();
        if let Some(kept) = &kept
            && kept.refresh_at > now
        {
            return Ok((kept.token.clone(), kept.refresh_at));
        }
        match request(client, pod, &audience, life_secs).await {
            Ok((token, expires_at)) => {
                let refresh_at = refresh_at(now, expires_at);
                let fresh = Kept { token: token.clone(), expires_at, refresh_at };
                self.0.lock().insert(key, fresh);
                Ok((token, refresh_at))
            }
            Err(error) => match kept.filter(|kept| kept.expires_at > now) {
                Some(kept) => {
                    tracing::warn!(pod = %pod.key(), %error, "token not exchanged, trying again");
                    let again = now.saturating_add(SignedDuration::from_secs(RETRY_SECS));
                    Ok((kept.token, again.unwrap_or(now)))
                }
                None => Err(error),
            },
        }
    }

    /// Forgets the tokens of a pod.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.0.lock().retain(|(uid, ..), _| uid != pod_uid);
    }
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    audience: &str,
    life_secs: i64,
) -> Result<(String, Timestamp), VolumeError> {
    let account = PodExt::spec(pod).service_account_name.as_deref().unwrap_or("default");
    let failed = |reason: String| VolumeError::Token { account: account.to_owned(), reason };
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
            }),
            expiration_seconds: Some(life_secs),
        }),
        ..TokenRequest::default()
    };
    let url = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", pod.namespace());
    let text = serde_json::to_vec(&body).expect("a token request serialises");
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(text)
        .map_err(|error| failed(error.to_string()))?;
    let answer: Value = client.request(request).await.map_err(|error| failed(error.to_string()))?;
    let token = answer["status"]["token"].as_str().unwrap_or("").to_owned();
    let expires_at = answer["status"]["expirationTimestamp"].as_str().unwrap_or("");
    let expires_at = objects::time::parse_time(expires_at);
    match (token.is_empty(), expires_at) {
        (false, Ok(expires_at)) => Ok((token, expires_at)),
        _ => Err(failed("the answer holds no token".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_exchanged_at_four_fifths_of_their_life() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        assert_eq!(refresh_at(at(0), at(3600)), at(2880));
        assert_eq!(refresh_at(at(0), at(10 * AGE_MAX_SECS)), at(AGE_MAX_SECS));
    }
}
