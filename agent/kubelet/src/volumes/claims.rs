//! Persistent volume claims that lead to a path of this node: `hostPath` and `local` volumes.
//!
//! Others need a CSI driver, which this node does not serve yet.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client};

use super::VolumeError;
use super::apply::Content;
use crate::pod::PodExt;

/// What the claim's volume holds.
pub(super) async fn content(
    client: &Client,
    pod: &Pod,
    claim_name: &str,
) -> Result<Content, VolumeError> {
    let failed = |reason: String| VolumeError::Claim { claim: claim_name.to_owned(), reason };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod.namespace());
    let claim = claims.get(claim_name).await.map_err(|error| failed(error.to_string()))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let name = claim.spec.and_then(|spec| spec.volume_name).filter(|name| !name.is_empty());
    let Some(name) = name.filter(|_| bound) else {
        return Err(failed("it is not bound to a volume yet".into()));
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes.get(&name).await.map_err(|error| failed(error.to_string()))?;
    let spec = volume.spec.unwrap_or_default();
    if let Some(source) = spec.host_path {
        let kind = source.type_.unwrap_or_default();
        return Ok(Content::HostPath { path: PathBuf::from(source.path), kind });
    }
    if let Some(source) = spec.local {
        let path = PathBuf::from(source.path);
        return Ok(Content::HostPath { path, kind: "Directory".into() });
    }
    Err(failed(format!("volume {name} needs a storage driver, which this node does not have")))
}
