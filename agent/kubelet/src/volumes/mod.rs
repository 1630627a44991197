//! Volumes of pods: what they are to hold (`gather`), on disk (`apply`), in containers (`mounts`).

pub(crate) mod apply;
mod atomic;
mod claims;
pub(crate) mod payload;
mod subpath;
mod token;
pub(crate) mod unmount;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount, VolumeProjection};
use objects::ObjectKey;
use objects::quantity::Quantity;
use runtime::Mount;

use crate::context::Context;
use crate::pod::{Listed, PodExt};
use crate::spec::env::Environment;
use crate::spec::expand::expand;
use crate::spec::fields;
use crate::watched::LookTimeout;
use apply::{Content, Wanted};
use payload::{Payload, PayloadError, Selection};
pub(crate) use token::Tokens;

/// Why volumes cannot be set up. All are tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
    Setup { volume: String, reason: String },
    #[error("failed to fetch token of service account {account}: {reason}")]
    Token { account: String, reason: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Payload {
        volume: String,
        #[source]
        source: PayloadError,
    },
    #[error(transparent)]
    Look(#[from] LookTimeout),
    #[error("volume \"{volume}\" has a type that this node does not serve: {kind}")]
    Unsupported { volume: String, kind: &'static str },
    #[error("claim \"{claim}\": {reason}")]
    Claim { claim: String, reason: String },
}

/// Volumes as wanted, and when to look again although nothing changes.
pub(crate) struct Gathered {
    pub(crate) volumes: Vec<Wanted>,
    pub(crate) refresh_at: Option<Timestamp>,
}

/// Asks the API for all that a pod's volumes are to hold.
pub(crate) async fn gather(
    context: &Context,
    pod: &Pod,
    shown: &fields::Context,
    now: Timestamp,
) -> Result<Gathered, VolumeError> {
    let mut gathered = Gathered { volumes: Vec::new(), refresh_at: None };
    for volume in PodExt::spec(pod).volumes.iter().flatten() {
        let content = content(context, pod, volume, shown, now, &mut gathered.refresh_at).await?;
        gathered.volumes.push(Wanted { name: volume.name.clone(), content });
    }
    Ok(gathered)
}

async fn content(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    shown: &fields::Context,
    now: Timestamp,
    refresh_at: &mut Option<Timestamp>,
) -> Result<Content, VolumeError> {
    let named = |source| VolumeError::Payload { volume: volume.name.clone(), source };
    let key = |name: &str| ObjectKey::new(pod.namespace(), name);
    if let Some(source) = &volume.empty_dir {
        let size = source.size_limit.as_ref().and_then(|size| Quantity::parse(&size.0).ok());
        return Ok(Content::Empty {
            memory: source.medium.as_deref() == Some("Memory"),
            size_bytes: size.map(|size| size.value()).filter(|bytes| *bytes > 0),
        });
    }
    if let Some(source) = &volume.host_path {
        let kind = source.type_.clone().unwrap_or_default();
        return Ok(Content::HostPath { path: PathBuf::from(&source.path), kind });
    }
    if let Some(source) = &volume.config_map {
        let object = context.config_maps.get(&key(&source.name)).await?;
        let selection = Selection {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            default_mode: source.default_mode,
        };
        return payload::config_map(object.as_deref(), selection)
            .map(Content::Files)
            .map_err(named);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or("");
        let object = context.secrets.get(&key(name)).await?;
        let selection = Selection {
            name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            default_mode: source.default_mode,
        };
        return payload::secret(object.as_deref(), selection).map(Content::Files).map_err(named);
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or(&[]);
        let files = payload::downward(pod, items, source.default_mode, shown);
        return files.map(Content::Files).map_err(named);
    }
    if let Some(source) = &volume.projected {
        let mut all = Payload::new();
        for part in source.sources.iter().flatten() {
            let mode = source.default_mode;
            all.extend(projected(context, pod, volume, part, mode, shown, now, refresh_at).await?);
        }
        return Ok(Content::Files(all));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claims::content(&context.deps.client, pod, &source.claim_name).await;
    }
    if volume.ephemeral.is_some() {
        let claim = format!("{}-{}", pod.name(), volume.name);
        return claims::content(&context.deps.client, pod, &claim).await;
    }
    let kind = if volume.csi.is_some() {
        "csi"
    } else if volume.nfs.is_some() {
        "nfs"
    } else if volume.image.is_some() {
        "image"
    } else {
        "unknown"
    };
    Err(VolumeError::Unsupported { volume: volume.name.clone(), kind })
}

#[expect(clippy::too_many_arguments, reason = "the parts of one question, used in one place")]
async fn projected(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    part: &VolumeProjection,
    default_mode: Option<i32>,
    shown: &fields::Context,
    now: Timestamp,
    refresh_at: &mut Option<Timestamp>,
) -> Result<Payload, VolumeError> {
    let named = |source| VolumeError::Payload { volume: volume.name.clone(), source };
    let key = |name: &str| ObjectKey::new(pod.namespace(), name);
    if let Some(source) = &part.service_account_token {
        let (token, again) = context.tokens.get(&context.deps.client, pod, source, now).await?;
        *refresh_at = Some(refresh_at.map_or(again, |known| known.min(again)));
        let path = payload::relative(&source.path).map_err(named)?;
        return Ok(Payload::from([(path, payload::token(pod, token, default_mode))]));
    }
    if let Some(source) = &part.config_map {
        let object = context.config_maps.get(&key(&source.name)).await?;
        let selection = Selection {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            default_mode,
        };
        return payload::config_map(object.as_deref(), selection).map_err(named);
    }
    if let Some(source) = &part.secret {
        let object = context.secrets.get(&key(&source.name)).await?;
        let selection = Selection {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            default_mode,
        };
        return payload::secret(object.as_deref(), selection).map_err(named);
    }
    if let Some(source) = &part.downward_api {
        let items = source.items.as_deref().unwrap_or(&[]);
        return payload::downward(pod, items, default_mode, shown).map_err(named);
    }
    let kind = if part.cluster_trust_bundle.is_some() {
        "projected clusterTrustBundle"
    } else {
        "projected podCertificate"
    };
    Err(VolumeError::Unsupported { volume: volume.name.clone(), kind })
}

/// The mounts of a container's volumes. Blocking: paths within volumes are looked up and pinned.
pub(crate) fn mounts(
    pod_dir: &Path,
    listed: &Listed<'_>,
    places: &BTreeMap<String, PathBuf>,
    env: &Environment,
) -> Result<Vec<Mount>, VolumeError> {
    let mut mounts = Vec::new();
    for (index, mount) in listed.spec.volume_mounts.iter().flatten().enumerate() {
        let volume = || mount.name.clone();
        let failed = |reason: String| VolumeError::Setup { volume: volume(), reason };
        let place = places.get(&mount.name);
        let place = place.ok_or_else(|| failed("there is no such volume".into()))?;
        let sub_path = sub_path(mount, env).map_err(failed)?;
        let source = match sub_path {
            None => place.clone(),
            Some(sub_path) => {
                let pins = pod_dir.join("volume-subpaths");
                let pin = pins.join(&mount.name).join(listed.name()).join(index.to_string());
                subpath::pin(place, &sub_path, &pin).map_err(|error| failed(error.to_string()))?
            }
        };
        let read_only = mount.read_only == Some(true);
        let recursive = mount.recursive_read_only.as_deref();
        mounts.push(Mount {
            source,
            destination: Path::new("/").join(&mount.mount_path),
            read_only,
            recursive_read_only: read_only && matches!(recursive, Some("Enabled" | "IfPossible")),
            propagation: match mount.mount_propagation.as_deref() {
                Some("Bidirectional") => "rshared",
                Some("HostToContainer") => "rslave",
                _ => "private",
            }
            .to_owned(),
        });
    }
    Ok(mounts)
}

/// The path within the volume, if only a part of it is mounted.
fn sub_path(mount: &VolumeMount, env: &Environment) -> Result<Option<String>, String> {
    let path = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
        (_, Some(expression)) if !expression.is_empty() => {
            let expanded = expand(expression, |name| env.get(name));
            if expanded.contains("$(") {
                return Err(format!("missing value for {expression:?}"));
            }
            expanded
        }
        (Some(path), _) => path.to_owned(),
        (None, _) => String::new(),
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("subPath {path:?} leads out of the volume"));
    }
    Ok(Some(path).filter(|path| !path.is_empty()))
}
