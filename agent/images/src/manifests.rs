//! Manifests, indexes and configs of OCI and Docker, pure.

use serde::{Deserialize, Serialize};

use crate::ImageConfig;
use crate::digest::Digest;

/// Largest manifest, index or config that is read. Registries refuse bigger manifests.
pub(crate) const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

/// Most layers an image may have: overlayfs takes more, but one page of mount options does not.
pub(crate) const LAYERS_LIMIT: usize = 128;

/// Media types asked of a registry.
pub(crate) const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Points at a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// In an index: which machines the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    /// In an index of an archive: names of the image.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

/// Which machines something is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub(crate) architecture: String,
    /// `linux`.
    #[serde(default)]
    pub(crate) os: String,
    /// `v8`, `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine.
    pub(crate) fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }
}

/// A manifest: an image's config and layers, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Always 2.
    pub(crate) schema_version: u32,
    /// May be missing in OCI manifests.
    #[serde(default)]
    pub(crate) media_type: String,
    /// The config blob.
    pub(crate) config: Descriptor,
    /// The layer blobs, base first.
    pub(crate) layers: Vec<Descriptor>,
}

/// An index: manifests of one image for several machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    /// Always 2.
    pub(crate) schema_version: u32,
    /// May be missing in OCI indexes.
    #[serde(default)]
    pub(crate) media_type: String,
    /// In the order of preference.
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a registry or an archive holds under an image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Reads a manifest or an index: told apart by what is in them, since media types may be missing.
pub(crate) fn parse_document(bytes: &[u8]) -> Result<Document, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) != Some(2) {
        return Err("manifest schema version 1 is not supported".to_owned());
    }
    let is_index = value.get("manifests").is_some();
    if is_index && value.get("layers").is_some() {
        return Err("both a manifest and an index".to_owned());
    }
    let read = |error: serde_json::Error| format!("not a manifest: {error}");
    if is_index {
        return serde_json::from_value(value).map(Document::Index).map_err(read);
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(read)?;
    if manifest.layers.len() > LAYERS_LIMIT {
        return Err(format!("{} layers; at most {LAYERS_LIMIT} work", manifest.layers.len()));
    }
    Ok(Document::Manifest(manifest))
}

/// The manifest of an index for a machine: the exact variant first, then any that is not another.
pub(crate) fn choose<'a>(index: &'a Index, host: &Platform) -> Result<&'a Descriptor, String> {
    let fits = |descriptor: &&Descriptor| match &descriptor.platform {
        // An index of one image may leave it out.
        None => index.manifests.len() == 1,
        Some(platform) => platform.os == host.os && platform.architecture == host.architecture,
    };
    let variant = |descriptor: &Descriptor| {
        descriptor.platform.as_ref().and_then(|platform| platform.variant.clone())
    };
    let fitting: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
    fitting
        .iter()
        .find(|descriptor| variant(descriptor) == host.variant)
        .or_else(|| fitting.iter().find(|descriptor| variant(descriptor).is_none()))
        .or_else(|| fitting.first())
        .copied()
        .ok_or_else(|| format!("no match for platform {}/{}", host.os, host.architecture))
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes, which do not lie, unlike media types.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A config blob, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) run: ImageConfig,
    /// Digests of the unpacked layers, base first.
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) platform: Platform,
}

pub(crate) fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    let raw: RawConfig =
        serde_json::from_slice(bytes).map_err(|error| format!("not an image config: {error}"))?;
    if raw.rootfs.kind != "layers" {
        return Err(format!("not an image config: rootfs type {:?}", raw.rootfs.kind));
    }
    let run = raw.config.unwrap_or_default();
    Ok(Config {
        run: ImageConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.unwrap_or_default(),
        },
        diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
        platform: raw.platform,
    })
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<Vec<Digest>>,
}

/// Names the stack of layers up to each layer: two images share a layer only if everything below is
/// the same too (the OCI chain id).
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn entry(n: u8, os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: digest(n),
            size: 1,
            platform: Some(Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            }),
            annotations: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn the_platform_is_chosen_by_system_architecture_and_variant() {
        let index = |manifests| Index { schema_version: 2, media_type: String::new(), manifests };
        let host = |architecture: &str, variant: Option<&str>| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        };
        let all = index(vec![
            entry(1, "windows", "amd64", None),
            entry(2, "unknown", "unknown", None),
            entry(3, "linux", "arm", Some("v6")),
            entry(4, "linux", "arm", Some("v7")),
            entry(5, "linux", "amd64", None),
            entry(6, "linux", "arm64", None),
        ]);
        let chosen = |host| choose(&all, &host).map(|d| d.digest.clone());
        assert_eq!(chosen(host("amd64", None)), Ok(digest(5)));
        assert_eq!(chosen(host("arm", Some("v7"))), Ok(digest(4)));
        assert_eq!(chosen(host("arm64", Some("v8"))), Ok(digest(6)));
        assert_eq!(
            chosen(host("s390x", None)),
            Err("no match for platform linux/s390x".to_owned())
        );
        let mut single = index(vec![entry(1, "", "", None)]);
        single.manifests[0].platform = None;
        assert!(choose(&single, &host("amd64", None)).is_ok());
    }

    #[test]
    fn configs_of_all_builders_are_read() {
        let diff = digest(1);
        let full = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/a"],"Cmd":null,
            "Env":["A=b"],"WorkingDir":"/w","User":"1:2","StopSignal":"SIGINT","Labels":{{}}}},
            "rootfs":{{"type":"layers","diff_ids":["{diff}"]}},"history":[]}}"#
        );
        let config = parse_config(full.as_bytes()).expect("full");
        assert_eq!(config.run.entrypoint, ["/a"]);
        assert_eq!(config.run.cmd, [""; 0]);
        assert_eq!(config.run.env, ["A=b"]);
        assert_eq!((&*config.run.working_dir, &*config.run.user), ("/w", "1:2"));
        assert_eq!(config.run.stop_signal, "SIGINT");
        assert_eq!(config.diff_ids, [diff]);
        let empty = br#"{"rootfs":{"type":"layers","diff_ids":null}}"#;
        assert_eq!(parse_config(empty).expect("empty").run, ImageConfig::default());
        for bad in [
            "",
            "{}",
            r#"{"rootfs":{"type":"x"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#,
        ] {
            assert!(parse_config(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn documents_are_told_apart_by_their_content() {
        let digest = digest(1);
        let descriptor = format!(r#"{{"digest":"{digest}","size":3}}"#);
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
        assert!(matches!(parse_document(manifest.as_bytes()), Ok(Document::Manifest(_))));
        assert!(matches!(parse_document(index.as_bytes()), Ok(Document::Index(_))));
        let both =
            format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{descriptor}}}"#);
        for bad in ["", "[]", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2}"#, &both] {
            assert!(parse_document(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_chain_names_everything_below() {
        let (a, b) = (digest(1), digest(2));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_ids(std::slice::from_ref(&b))[0], chain[1]);
    }
}
