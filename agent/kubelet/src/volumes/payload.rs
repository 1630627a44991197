//! Files of config map, secret, downward API and projected volumes. PURE.
//!
//! Source of behaviour: kubernetes pkg/volume/{configmap,secret,downwardapi,projected}, v1.36.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::pod::PodExt;
use crate::spec::fields::{self, Context};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner, if not root.
    pub(crate) uid: Option<u32>,
}

/// Files by path relative to the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Why a payload cannot be made. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("{kind} references non-existent {what} key: {key}")]
    NoKey { kind: &'static str, what: &'static str, key: String },
    #[error("{0}: the path leaves the volume")]
    Path(String),
    #[error("unsupported field of the downward API: {0}")]
    Field(String),
}

fn permissions(mode: Option<i32>, default: Option<i32>) -> u32 {
    let mode = mode.or(default).unwrap_or(0o644);
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

/// What selects files of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    pub(crate) name: &'a str,
    pub(crate) items: Option<&'a [KeyToPath]>,
    pub(crate) optional: bool,
    pub(crate) default_mode: Option<i32>,
}

fn select(
    kind: &'static str,
    what: &'static str,
    data: BTreeMap<&str, &[u8]>,
    selection: Selection<'_>,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    let file = |content: &[u8], mode| File { content: content.to_vec(), mode, uid: None };
    match selection.items {
        None => {
            for (key, content) in data {
                let mode = permissions(None, selection.default_mode);
                payload.insert(key.to_owned(), file(content, mode));
            }
        }
        Some(items) => {
            for item in items {
                let Some(content) = data.get(item.key.as_str()) else {
                    if selection.optional {
                        continue;
                    }
                    return Err(PayloadError::NoKey { kind, what, key: item.key.clone() });
                };
                let mode = permissions(item.mode, selection.default_mode);
                payload.insert(relative(&item.path)?, file(content, mode));
            }
        }
    }
    Ok(payload)
}

/// A path that stays within the volume. The API server has checked it; this is the last door.
pub(crate) fn relative(path: &str) -> Result<String, PayloadError> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.split('/').any(|part| part == "..")
        || path.starts_with("..");
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if bad || parts.is_empty() {
        Err(PayloadError::Path(path.to_owned()))
    } else {
        Ok(parts.join("/"))
    }
}

/// Files of a config map.
pub(crate) fn config_map(
    object: Option<&ConfigMap>,
    selection: Selection<'_>,
) -> Result<Payload, PayloadError> {
    let Some(object) = object else { return absent("configmap", selection) };
    let text = object.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary =
        object.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select("configmap", "config", text.chain(binary).collect(), selection)
}

/// Files of a secret.
pub(crate) fn secret(
    object: Option<&Secret>,
    selection: Selection<'_>,
) -> Result<Payload, PayloadError> {
    let Some(object) = object else { return absent("secret", selection) };
    let data = object.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select("secret", "secret", data.collect(), selection)
}

fn absent(kind: &'static str, selection: Selection<'_>) -> Result<Payload, PayloadError> {
    if selection.optional {
        return Ok(Payload::new());
    }
    Err(PayloadError::NoObject { kind, name: selection.name.to_owned() })
}

/// Files of the downward API.
pub(crate) fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    context: &Context,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    for item in items {
        let value = if let Some(reference) = &item.field_ref {
            fields::field(pod, &reference.field_path, context)
                .ok_or_else(|| PayloadError::Field(reference.field_path.clone()))?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or("");
            let listed = pod.find(name);
            let value = listed.and_then(|c| fields::resource(&c.spec, selector, context));
            value.ok_or_else(|| PayloadError::Field(selector.resource.clone()))?
        } else {
            continue;
        };
        let mode = permissions(item.mode, default_mode);
        let file = File { content: value.into_bytes(), mode, uid: None };
        payload.insert(relative(&item.path)?, file);
    }
    Ok(payload)
}

/// The one user that all containers run as, if the pod says so.
pub(crate) fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.security().run_as_user;
    let mut users = pod.listed().into_iter().map(|container| {
        let own = container.spec.security_context.as_ref().and_then(|own| own.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

/// The file of a service account token: for the group of the volume if it has one, else for the
/// one user of the pod, else for all.
pub(crate) fn token(pod: &Pod, token: String, default_mode: Option<i32>) -> File {
    let content = token.into_bytes();
    if pod.security().fs_group.is_some() {
        return File { content, mode: 0o600, uid: None };
    }
    match common_user(pod) {
        Some(uid) => File { content, mode: 0o600, uid: Some(uid) },
        None => File { content, mode: permissions(None, default_mode), uid: None },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(name: &str) -> Selection<'_> {
        Selection { name, items: None, optional: false, default_mode: None }
    }

    fn printed(payload: &Payload) -> String {
        let files = payload.iter().map(|(path, file)| {
            format!("{path}:{:o}={}", file.mode, String::from_utf8_lossy(&file.content))
        });
        files.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn config_maps_and_secrets() {
        let map: ConfigMap = serde_json::from_value(json!({
            "data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="},
        }))
        .unwrap();
        let payload = config_map(Some(&map), all("m")).unwrap();
        assert_eq!(payload.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(payload["c"].content, [255]);
        let items: Vec<KeyToPath> = serde_json::from_value(
            json!([{"key": "a", "path": "x/y", "mode": 256}, {"key": "b", "path": "z"}]),
        )
        .unwrap();
        let chosen = Selection { items: Some(&items), default_mode: Some(0o600), ..all("m") };
        assert_eq!(printed(&config_map(Some(&map), chosen).unwrap()), "x/y:400=1 z:600=2");
        let missing: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "no", "path": "x"}])).unwrap();
        let chosen = Selection { items: Some(&missing), ..all("m") };
        let error = config_map(Some(&map), chosen).unwrap_err().to_string();
        assert_eq!(error, "configmap references non-existent config key: no");
        let chosen = Selection { optional: true, ..chosen };
        assert_eq!(config_map(Some(&map), chosen).unwrap(), Payload::new());
        assert_eq!(secret(None, all("s")).unwrap_err().to_string(), "secret \"s\" not found");
        assert!(secret(None, Selection { optional: true, ..all("s") }).unwrap().is_empty());
    }

    #[test]
    fn paths_stay_within_the_volume() {
        for (path, wanted) in [
            ("a/b", Some("a/b")),
            ("a//./b", Some("a/b")),
            ("../a", None),
            ("a/../b", None),
            ("/a", None),
            ("..data", None),
            ("", None),
        ] {
            assert_eq!(relative(path).ok().as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn tokens_are_for_those_who_need_them() {
        let pod = |security: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"securityContext": security,
                "containers": [{"name": "a"}, {"name": "b"}]}}))
            .unwrap()
        };
        let made = |security| {
            let file = token(&pod(security), "t".into(), Some(0o644));
            (file.mode, file.uid)
        };
        assert_eq!(made(json!({})), (0o644, None));
        assert_eq!(made(json!({"runAsUser": 7})), (0o600, Some(7)));
        assert_eq!(made(json!({"runAsUser": 7, "fsGroup": 1})), (0o600, None));
    }
}
