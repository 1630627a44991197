//! The cluster's root certificates in every namespace, for pods to trust the API server by.
//!
//! Source: kubernetes pkg/controller/certificates/rootcacertpublisher, v1.36.

use std::collections::BTreeMap;

use informer::Action;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use objects::ObjectKey;
use serde_json::json;

use crate::controller::{Context, Controller, Plan};
use crate::serviceaccount::is_open;
use crate::world::{Changed, ROOT_CA, World};

/// Key of the certificates in the map.
const CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver \
     when using internal endpoints such as the internal service IP or kubernetes.default.svc. \
     No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller; its keys are namespaces.
#[derive(Debug)]
pub(crate) struct RootCaMaps {
    /// The certificates, as PEM.
    pub(crate) pem: String,
}

impl Controller for RootCaMaps {
    fn name(&self) -> &'static str {
        "rootca"
    }

    fn component(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }

    fn wakes(&self, _world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Namespace(versions) => vec![versions.key()],
            Changed::ConfigMap(versions) => vec![ObjectKey::new("", &versions.key().namespace)],
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, _context: &Context) -> Plan {
        let namespace = world.namespaces.get(key);
        let map = world.root_ca_maps.get(&ObjectKey::new(&key.name, ROOT_CA));
        plan(&self.pem, namespace.as_deref(), map.as_deref())
    }
}

fn plan(pem: &str, namespace: Option<&Namespace>, map: Option<&ConfigMap>) -> Plan {
    let Some(namespace) = namespace.filter(|namespace| is_open(namespace)) else {
        return Plan::nothing();
    };
    let key = ObjectKey::new(namespace.metadata.name.as_deref().unwrap_or(""), ROOT_CA);
    let data: BTreeMap<String, String> = [(CA_KEY.to_string(), pem.to_string())].into();
    let description = [(DESCRIPTION.to_string(), DESCRIPTION_TEXT.to_string())];
    let Some(map) = map else {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(key.name),
                namespace: Some(key.namespace),
                annotations: Some(description.into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        return Plan::of([Action::create(&map)]);
    };
    let annotations = map.metadata.annotations.as_ref();
    let is_described = annotations.is_some_and(|all| all.contains_key(DESCRIPTION));
    if map.data.as_ref() == Some(&data) && is_described {
        return Plan::nothing();
    }
    // What somebody added goes: pods must be able to rely on the content.
    let mut body = json!({
        "metadata": {"annotations": {DESCRIPTION: DESCRIPTION_TEXT}},
        "data": {CA_KEY: pem},
    });
    for other in map.data.iter().flatten().map(|(name, _)| name).filter(|name| *name != CA_KEY) {
        body["data"][other] = serde_json::Value::Null;
    }
    Plan::of([Action::merge::<ConfigMap>(key, body)])
}

#[cfg(test)]
mod tests {
    use informer::Verb;

    use super::*;

    fn namespace() -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        namespace
    }

    #[test]
    fn the_map_is_made_and_kept_right() {
        let made = plan("PEM", Some(&namespace()), None);
        let Verb::Create(object) = &made.steps[0].action.verb else { panic!("not a create") };
        assert_eq!(object["data"], json!({"ca.crt": "PEM"}));
        let mut map: ConfigMap = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(plan("PEM", Some(&namespace()), Some(&map)), Plan::nothing());
        map.data = Some([("ca.crt".into(), "OLD".into()), ("x".into(), "y".into())].into());
        let fixed = plan("PEM", Some(&namespace()), Some(&map));
        let Verb::Patch { body, .. } = &fixed.steps[0].action.verb else { panic!("not a patch") };
        assert_eq!(body["data"], json!({"ca.crt": "PEM", "x": null}));
    }
}
