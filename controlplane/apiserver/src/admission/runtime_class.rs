//! A pod of a runtime class gets the class's overhead and its rules for scheduling.

use objects::{ApiError, ObjectExt};
use serde_json::{Map, Value};

use super::Admission;
use crate::encode;

/// Applies the class.
pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = pod.str_at(&["spec", "runtimeClassName"]).to_string();
    let refuse =
        |why: String| Err(ApiError::forbidden(&admission.call.resource(), pod.name(), &why));
    if name.is_empty() {
        if pod.map_at(&["spec", "overhead"]).is_some_and(|map| !map.is_empty()) {
            return refuse(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined \
                 Overhead"
                    .into(),
            );
        }
        return Ok(());
    }
    let key = format!("node.k8s.io/runtimeclasses//{name}");
    let Some(record) = admission.server.store.get(&key) else {
        return refuse(format!("pod rejected: RuntimeClass {name:?} not found"));
    };
    let class = encode::parse(&record);
    let overhead = class.at(&["overhead", "podFixed"]).cloned();
    match (overhead, pod.at(&["spec", "overhead"])) {
        (Some(wanted), Some(sent)) if *sent != wanted => {
            return refuse(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into(),
            );
        }
        (Some(wanted), _) => pod.set_at(&["spec", "overhead"], wanted),
        (None, _) => {}
    }
    schedule(admission, pod, &class)
}

fn schedule(admission: &Admission<'_>, pod: &mut Value, class: &Value) -> Result<(), ApiError> {
    if let Some(selector) = class.map_at(&["scheduling", "nodeSelector"]) {
        let own = pod.map_at(&["spec", "nodeSelector"]).cloned().unwrap_or_default();
        let mut merged: Map<String, Value> = own.clone();
        for (key, value) in selector {
            if let Some(own) = own.get(key).filter(|own| *own != value) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; \
                     pod.spec.nodeSelector[{key}] = {}",
                    text(value),
                    text(own),
                );
                return Err(ApiError::forbidden(&admission.call.resource(), pod.name(), &why));
            }
            merged.insert(key.clone(), value.clone());
        }
        if !merged.is_empty() {
            pod.set_at(&["spec", "nodeSelector"], Value::Object(merged));
        }
    }
    let wanted = class.list_at(&["scheduling", "tolerations"]);
    if !wanted.is_empty() {
        let mut list = pod.list_at(&["spec", "tolerations"]).to_vec();
        for toleration in wanted {
            if !list.contains(toleration) {
                list.push(toleration.clone());
            }
        }
        pod.set_at(&["spec", "tolerations"], Value::Array(list));
    }
    Ok(())
}
