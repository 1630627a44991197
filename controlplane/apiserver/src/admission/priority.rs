//! A pod's priority comes from its class.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/priority`, v1.36.

use objects::{ApiError, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use crate::encode;
use crate::verbs::list;

/// Sets `priority`, `preemptionPolicy` and, for the default class, `priorityClassName`.
pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = pod.str_at(&["spec", "priorityClassName"]).to_string();
    let refuse = |why: &str| Err(ApiError::forbidden(&admission.call.resource(), pod.name(), why));
    let class = match name.as_str() {
        "" => default_class(admission),
        name => match class(admission, name) {
            Some(class) => Some(class),
            None => return refuse(&format!("no PriorityClass with name {name} was found")),
        },
    };
    let (value, policy) = match &class {
        Some(class) => (
            class.i64_at(&["value"]).unwrap_or(0),
            match class.str_at(&["preemptionPolicy"]) {
                "" => "PreemptLowerPriority".to_string(),
                policy => policy.to_string(),
            },
        ),
        None => (0, "PreemptLowerPriority".to_string()),
    };
    if let Some(sent) = pod.i64_at(&["spec", "priority"])
        && sent != value
    {
        return refuse(&format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        ));
    }
    let sent_policy = pod.str_at(&["spec", "preemptionPolicy"]);
    if !sent_policy.is_empty() && sent_policy != policy {
        return refuse(&format!(
            "the string value of PreemptionPolicy ({sent_policy}) must not be provided in pod \
             spec; priority admission controller computed {policy} from the given PriorityClass \
             name"
        ));
    }
    if name.is_empty()
        && let Some(class) = &class
    {
        pod.set_at(&["spec", "priorityClassName"], json!(class.name()));
    }
    pod.set_at(&["spec", "priority"], json!(value));
    pod.set_at(&["spec", "preemptionPolicy"], json!(policy));
    Ok(())
}

/// An update that does not name what was set at creation keeps it.
pub(super) fn keep(new: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if new.at(&["spec", field]).is_none()
            && let Some(value) = old.at(&["spec", field])
        {
            new.set_at(&["spec", field], value.clone());
        }
    }
}

fn class(admission: &Admission<'_>, name: &str) -> Option<Value> {
    let key = format!("scheduling.k8s.io/priorityclasses//{name}");
    admission.server.store.get(&key).map(|record| encode::parse(&record))
}

/// The default class; of several the one of the lowest value.
fn default_class(admission: &Admission<'_>) -> Option<Value> {
    let kind = admission.call.registry.resource("scheduling.k8s.io", "v1", "priorityclasses")?;
    list::every(admission.server, kind, "")
        .iter()
        .map(|record| encode::parse(record))
        .filter(|class| class.bool_at(&["globalDefault"]) == Some(true))
        .min_by_key(|class| class.i64_at(&["value"]).unwrap_or(0))
}
