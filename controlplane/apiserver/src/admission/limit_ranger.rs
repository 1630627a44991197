//! Limit ranges: defaults for what containers do not say, and bounds for what they say.
//!
//! Source of behaviour: kubernetes `plugin/pkg/admission/limitranger`, v1.36.

#[cfg(test)]
mod tests;

use objects::quantity::Quantity;
use objects::quota::{self, Amounts};
use objects::{ApiError, ObjectExt};
use serde_json::{Value, json};

use super::Admission;
use crate::encode;
use crate::verbs::list;

/// Where it is written down what was set.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The largest value of which upstream compares thousandths.
const MILLI_MAX: i64 = i64::MAX / 1000;

/// The ranges of the write's namespace.
fn ranges(admission: &Admission<'_>) -> Vec<Value> {
    let call = admission.call;
    let Some(kind) = call.registry.resource("", "v1", "limitranges") else { return Vec::new() };
    let records = list::every(admission.server, kind, call.namespace());
    records.iter().map(|record| encode::parse(record)).collect()
}

/// Fills in default requests and limits of a new pod's containers.
pub(super) fn set_defaults(admission: &Admission<'_>, pod: &mut Value) {
    for range in ranges(admission) {
        default_by(&range, pod);
    }
}

/// Refuses a pod or claim outside the limits.
pub(super) fn check(
    admission: &Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let names = &admission.call.kind.names;
    let subresource = admission.call.path.subresource.as_str();
    let judge: fn(&Value, &Value) -> Vec<String> =
        match (names.plural.as_str(), subresource, old.is_some()) {
            ("pods", "", false) | ("pods", "resize", true) => of_pod,
            ("persistentvolumeclaims", "", _) => of_claim,
            _ => return Ok(()),
        };
    let leaving = old.is_some_and(|old| !old.deletion_timestamp().is_empty());
    if !names.group.is_empty() || leaving {
        return Ok(());
    }
    for range in ranges(admission) {
        let broken = judge(&range, new);
        let why = match broken.as_slice() {
            [] => continue,
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return Err(ApiError::forbidden(&admission.call.resource(), new.name(), &why));
    }
    Ok(())
}

/// Sets what a range has defaults for. Pure.
fn default_by(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (json!({}), json!({}));
    for limit in range.list_at(&["spec", "limits"]) {
        if limit.str_at(&["type"]) == "Container" {
            for (from, to) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
                for (name, value) in limit.map_at(&[from]).into_iter().flatten() {
                    to[name] = value.clone();
                }
            }
        }
    }
    let mut texts = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.at_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            for (kind, defaults, what) in
                [("requests", &requests, "request"), ("limits", &limits, "limit")]
            {
                let set = fill(container, kind, defaults);
                if !set.is_empty() {
                    let name = container.str_at(&["name"]);
                    texts.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !texts.is_empty() {
        let text = format!("LimitRanger plugin set: {}", texts.join("; "));
        pod.set_at(&["metadata", "annotations", ANNOTATION], json!(text));
    }
}

/// Sets the missing amounts of a container; the names of those it set.
fn fill(container: &mut Value, kind: &str, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    for (name, value) in defaults.as_object().into_iter().flatten() {
        if container.at(&["resources", kind, name]).is_none() {
            container.set_at(&["resources", kind, name], value.clone());
            set.push(name.clone());
        }
    }
    set
}

/// What is asked for and what may be used, by a container or a pod.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

/// What a pod breaks of a range. Pure.
fn of_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for limit in range.list_at(&["spec", "limits"]) {
        let kind = limit.str_at(&["type"]);
        match kind {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    for container in pod.list_at(&["spec", list]) {
                        let asked = Asked {
                            requests: quota::resources(container, "requests"),
                            limits: quota::resources(container, "limits"),
                        };
                        bounds(limit, kind, &asked, &mut broken);
                    }
                }
            }
            "Pod" => {
                // What running the pod costs besides is not the user's.
                let mut pod = pod.clone();
                pod.remove_at(&["spec", "overhead"]);
                let asked = Asked {
                    requests: quota::pod_resources(&pod, "requests"),
                    limits: quota::pod_resources(&pod, "limits"),
                };
                bounds(limit, kind, &asked, &mut broken);
            }
            _ => {}
        }
    }
    broken
}

/// What a claim breaks of a range. Pure.
fn of_claim(range: &Value, claim: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let requests = quota::resources(&claim["spec"], "requests");
    for limit in range.list_at(&["spec", "limits"]) {
        let kind = limit.str_at(&["type"]);
        if kind != "PersistentVolumeClaim" {
            continue;
        }
        let asked = Asked { requests: requests.clone(), limits: Amounts::new() };
        for (name, bound) in quota::amounts(limit.map_at(&["min"])) {
            broken.extend(below(kind, &name, &bound, &asked));
        }
        for (name, bound) in quota::amounts(limit.map_at(&["max"])) {
            let most = format!("maximum {name} usage per {kind} is {bound}");
            match requests.get(&name) {
                None => broken.push(format!("{most}.  No request is specified")),
                Some(request) if *request > bound => {
                    broken.push(format!("{most}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    broken
}

fn bounds(limit: &Value, kind: &str, asked: &Asked, broken: &mut Vec<String>) {
    for (name, bound) in quota::amounts(limit.map_at(&["min"])) {
        broken.extend(below(kind, &name, &bound, asked));
    }
    for (name, bound) in quota::amounts(limit.map_at(&["max"])) {
        broken.extend(above(kind, &name, &bound, asked));
    }
    for (name, bound) in quota::amounts(limit.map_at(&["maxLimitRequestRatio"])) {
        broken.extend(stretched(kind, &name, &bound, asked));
    }
}

fn below(kind: &str, name: &str, bound: &Quantity, asked: &Asked) -> Option<String> {
    let least = format!("minimum {name} usage per {kind} is {bound}");
    let Some(request) = asked.requests.get(name) else {
        return Some(format!("{least}.  No request is specified"));
    };
    if request < bound {
        return Some(format!("{least}, but request is {request}"));
    }
    let limit = asked.limits.get(name).filter(|limit| *limit < bound)?;
    Some(format!("{least}, but limit is {limit}"))
}

fn above(kind: &str, name: &str, bound: &Quantity, asked: &Asked) -> Option<String> {
    let most = format!("maximum {name} usage per {kind} is {bound}");
    let Some(limit) = asked.limits.get(name) else {
        return Some(format!("{most}.  No limit is specified"));
    };
    if limit > bound {
        return Some(format!("{most}, but limit is {limit}"));
    }
    let request = asked.requests.get(name).filter(|request| *request > bound)?;
    Some(format!("{most}, but request is {request}"))
}

#[expect(clippy::cast_precision_loss, reason = "the ratio is a float upstream, too")]
fn stretched(kind: &str, name: &str, bound: &Quantity, asked: &Asked) -> Option<String> {
    let most = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = asked.requests.get(name).filter(|amount| !amount.is_zero()) else {
        return Some(format!("{most}, but no request is specified or request is 0"));
    };
    let Some(limit) = asked.limits.get(name).filter(|amount| !amount.is_zero()) else {
        return Some(format!("{most}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    let exceeded = if bound.value() <= MILLI_MAX {
        ratio * 1000.0 > bound.milli_value() as f64
    } else {
        ratio > bound.value() as f64
    };
    exceeded.then(|| format!("{most}, but provided ratio is {ratio:.6}"))
}
