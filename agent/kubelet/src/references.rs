//! Which config maps and secrets a pod refers to. PURE.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use objects::ObjectKey;

use crate::pod::PodExt;

/// The objects that a pod needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<ObjectKey>,
    pub(crate) secrets: BTreeSet<ObjectKey>,
}

/// Everything that a pod refers to, in volumes, environments and pull secrets.
pub(crate) fn references(pod: &Pod) -> References {
    let mut config_maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    let spec = PodExt::spec(pod);
    for volume in spec.volumes.iter().flatten() {
        config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
        for source in projected {
            config_maps.extend(source.config_map.as_ref().map(|source| source.name.clone()));
            secrets.extend(source.secret.as_ref().map(|source| source.name.clone()));
        }
    }
    for listed in pod.listed() {
        for from in listed.spec.env_from.iter().flatten() {
            config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for source in listed.spec.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    let keyed = |names: BTreeSet<String>| {
        let names = names.into_iter().filter(|name| !name.is_empty());
        names.map(|name| ObjectKey::new(pod.namespace(), &name)).collect()
    };
    References { config_maps: keyed(config_maps), secrets: keyed(secrets) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_everywhere() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "n"},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [{"name": "a", "configMap": {"name": "c1"}}, {"name": "b", "secret": {"secretName": "s1"}},
                    {"name": "p", "projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s2"}}]}}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "c3"}}]}],
                "containers": [{"name": "m", "env": [{"name": "X",
                    "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]}],
            },
        }))
        .unwrap();
        let found = references(&pod);
        let names = |keys: &BTreeSet<ObjectKey>| {
            keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&found.config_maps), "c1 c2 c3");
        assert_eq!(names(&found.secrets), "pull s1 s2 s3");
    }
}
