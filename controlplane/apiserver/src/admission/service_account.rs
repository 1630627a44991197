//! A pod runs as a service account, and has its token at hand.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/serviceaccount`, v1.36.

use objects::{ApiError, ObjectExt, names};
use rand::Rng;
use serde_json::{Value, json};

use super::Admission;
use crate::encode;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour, and seven seconds by which tokens of this origin are told from others.
const TOKEN_SECS: i64 = 3607;

/// Fills in the account, its token's volume, and its image pull secrets.
pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let mirror =
        pod.annotations().is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"));
    if mirror {
        return Ok(());
    }
    let name = match pod.str_at(&["spec", "serviceAccountName"]) {
        "" => "default".to_string(),
        name => name.to_string(),
    };
    pod.set_at(&["spec", "serviceAccountName"], json!(name));
    pod.set_at(&["spec", "serviceAccount"], json!(name));
    let namespace = admission.call.namespace();
    let key = format!("/serviceaccounts/{namespace}/{name}");
    let Some(record) = admission.server.store.get(&key) else {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        );
        return Err(ApiError::forbidden(&admission.call.resource(), pod.name(), &why));
    };
    let account = encode::parse(&record);
    let automount = pod
        .bool_at(&["spec", "automountServiceAccountToken"])
        .or_else(|| account.bool_at(&["automountServiceAccountToken"]))
        .unwrap_or(true);
    if automount {
        mount(pod);
    }
    let secrets = account.list_at(&["imagePullSecrets"]);
    if pod.list_at(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
        pod.set_at(&["spec", "imagePullSecrets"], Value::Array(secrets.to_vec()));
    }
    Ok(())
}

/// Adds the volume, and mounts it in every container that has nothing at its place.
fn mount(pod: &mut Value) {
    let volumes = pod.list_at(&["spec", "volumes"]);
    let present = volumes
        .iter()
        .find(|volume| volume.str_at(&["name"]).starts_with("kube-api-access-"))
        .map(|volume| volume.str_at(&["name"]).to_string());
    let name = present.clone().unwrap_or_else(fresh_name);
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod.at_mut(&["spec", list]).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let mut mounts = container.list_at(&["volumeMounts"]).to_vec();
            if mounts.iter().any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            container["volumeMounts"] = Value::Array(mounts);
            needed = true;
        }
    }
    if needed && present.is_none() {
        let mut volumes = pod.list_at(&["spec", "volumes"]).to_vec();
        volumes.push(volume(&name));
        pod.set_at(&["spec", "volumes"], Value::Array(volumes));
    }
}

fn fresh_name() -> String {
    let mut rng = rand::rng();
    let letters = names::GENERATED_ALPHABET;
    let suffix: String =
        (0..5).map(|_| char::from(letters[rng.random_range(0..letters.len())])).collect();
    format!("kube-api-access-{suffix}")
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}
