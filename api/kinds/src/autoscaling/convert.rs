//! Between `autoscaling/v1`, which keeps what it has no field for in annotations, and
//! `autoscaling/v2`.

use objects::ObjectExt;
use serde_json::{Map, Value, json};

use super::{DEFAULT_CPU_PERCENT, cpu_metric};
use crate::edit::Edit;
use crate::read::{Read, part};

pub(super) const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 4] =
    [METRICS_ANNOTATION, CURRENT_ANNOTATION, CONDITIONS_ANNOTATION, BEHAVIOR_ANNOTATION];

/// Turns a v1 autoscaler into v2.
pub(crate) fn to_v2(object: &mut Value) {
    let annotated = |key: &str| -> Option<Value> {
        serde_json::from_str(part(object, &["metadata", "annotations", key]).as_str()?).ok()
    };
    let list = |key: &str, word: &str| -> Option<Vec<Value>> {
        let list = annotated(key)?;
        Some(list.as_array()?.iter().map(|metric| metric_to_v2(metric, word)).collect())
    };
    let mut metrics = list(METRICS_ANNOTATION, "target").unwrap_or_default();
    let current = list(CURRENT_ANNOTATION, "current");
    let conditions = annotated(CONDITIONS_ANNOTATION);
    let behavior = annotated(BEHAVIOR_ANNOTATION).map(|value| rename_keys(value, lower_first));
    let spec = object.map_mut("spec");
    metrics.extend(spec.int("targetCPUUtilizationPercentage").map(cpu_metric));
    if metrics.is_empty() {
        metrics.push(cpu_metric(DEFAULT_CPU_PERCENT));
    }
    spec.drop_field("targetCPUUtilizationPercentage");
    spec["metrics"] = Value::Array(metrics);
    if let Some(behavior) = behavior.filter(|behavior| behavior.is_object()) {
        spec["behavior"] = behavior;
    }
    let status = object.map_mut("status");
    let percent = status.int("currentCPUUtilizationPercentage");
    status.drop_field("currentCPUUtilizationPercentage");
    let cpu = percent.map(|percent| {
        let resource = json!({"name": "cpu", "current": {"averageUtilization": percent}});
        vec![json!({"type": "Resource", "resource": resource})]
    });
    status["currentMetrics"] = json!(current.or(cpu));
    if let Some(conditions) = conditions.filter(Value::is_array) {
        status["conditions"] = conditions;
    }
    drop_annotations(object);
    object["apiVersion"] = json!("autoscaling/v2");
}

/// Turns a v2 autoscaler into v1.
pub(crate) fn from_v2(object: &mut Value) {
    drop_annotations(object);
    let metrics = object.list_at(&["spec", "metrics"]).to_vec();
    let percents = metrics.iter().filter_map(cpu_percent).collect::<Vec<_>>();
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| cpu_percent(metric).is_none())
        .map(|metric| metric_to_v1(metric, "target"))
        .collect();
    let current = object.list_at(&["status", "currentMetrics"]).to_vec();
    let used = current
        .iter()
        .filter(|metric| part(metric, &["resource"]).text("name") == "cpu")
        .filter_map(|metric| part(metric, &["resource", "current"]).int("averageUtilization"))
        .next_back();
    let current: Vec<Value> =
        current.iter().map(|metric| metric_to_v1(metric, "current")).collect();
    let conditions = object.list_at(&["status", "conditions"]).to_vec();
    let spec = object.map_mut("spec");
    let behavior = spec.field("behavior").cloned();
    spec.drop_field("behavior");
    spec.drop_field("metrics");
    if let Some(percent) = percents.first() {
        spec["targetCPUUtilizationPercentage"] = json!(percent);
    }
    let status = object.map_mut("status");
    status.drop_field("currentMetrics");
    status.drop_field("conditions");
    status.default_to("currentReplicas", 0);
    if let Some(percent) = used {
        status["currentCPUUtilizationPercentage"] = json!(percent);
    }
    annotate(object, METRICS_ANNOTATION, Some(others).filter(|list| !list.is_empty()));
    annotate(object, CURRENT_ANNOTATION, Some(current).filter(|list| !list.is_empty()));
    annotate(object, CONDITIONS_ANNOTATION, Some(conditions).filter(|list| !list.is_empty()));
    annotate(object, BEHAVIOR_ANNOTATION, behavior.map(|value| rename_keys(value, upper_first)));
    object["apiVersion"] = json!("autoscaling/v1");
}

fn annotate(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        let text = value.into().to_string();
        object.set_at(&["metadata", "annotations", key], json!(text));
    }
}

fn drop_annotations(object: &mut Value) {
    for key in ANNOTATIONS {
        object.remove_at(&["metadata", "annotations", key]);
    }
    if object.map_at(&["metadata", "annotations"]).is_some_and(Map::is_empty) {
        object.remove_at(&["metadata", "annotations"]);
    }
}

/// The target of the one metric that v1 has a field for.
fn cpu_percent(metric: &Value) -> Option<i64> {
    let resource = part(metric, &["resource"]);
    let is_cpu = metric.text("type") == "Resource" && resource.text("name") == "cpu";
    part(resource, &["target"]).int("averageUtilization").filter(|_| is_cpu)
}

/// What v1 calls a number of a target (or of the current state): the word and the number's name.
fn flat_key(word: &str, key: &str) -> String {
    format!("{word}{}", upper_first(key))
}

const NUMBERS: [&str; 3] = ["value", "averageValue", "averageUtilization"];
/// Each kind of source: its field, and what v1 calls its selector if it has one.
const SOURCES: [(&str, &str); 5] = [
    ("resource", ""),
    ("containerResource", ""),
    ("pods", "selector"),
    ("object", "selector"),
    ("external", "metricSelector"),
];

/// A metric in v1's form; `word` is `target` for a specification and `current` for a status.
fn metric_to_v1(metric: &Value, word: &str) -> Value {
    let mut out = json!({"type": metric.text("type")});
    for (field, selector) in SOURCES {
        let Some(source) = metric.field(field) else { continue };
        let mut flat = json!({});
        for key in ["name", "container"] {
            copy(source, key, &mut flat, key);
        }
        let id = part(source, &["metric"]);
        copy(id, "name", &mut flat, "metricName");
        if !selector.is_empty() {
            copy(id, "selector", &mut flat, selector);
        }
        copy(source, "describedObject", &mut flat, "target");
        for key in NUMBERS {
            // An object's average is the one number without a prefix.
            let plain = field == "object" && key == "averageValue";
            let name = if plain { key.to_string() } else { flat_key(word, key) };
            copy(part(source, &[word]), key, &mut flat, &name);
        }
        if field == "object" {
            flat.default_to(&flat_key(word, "value"), "0");
        }
        out[field] = flat;
    }
    out
}

/// The reverse of [`metric_to_v1`].
fn metric_to_v2(metric: &Value, word: &str) -> Value {
    let mut out = json!({"type": metric.text("type")});
    for (field, selector) in SOURCES {
        let Some(flat) = metric.field(field) else { continue };
        let (mut source, mut numbers) = (json!({}), json!({}));
        for key in ["name", "container"] {
            copy(flat, key, &mut source, key);
        }
        if !selector.is_empty() {
            let mut id = json!({});
            copy(flat, "metricName", &mut id, "name");
            copy(flat, selector, &mut id, "selector");
            source["metric"] = id;
        }
        if field == "object" {
            copy(flat, "target", &mut source, "describedObject");
        }
        for key in NUMBERS {
            let plain = field == "object" && key == "averageValue";
            let name = if plain { key.to_string() } else { flat_key(word, key) };
            copy(flat, &name, &mut numbers, key);
        }
        if field == "object"
            && numbers.field("averageValue").is_some()
            && numbers.text("value") == "0"
        {
            numbers.drop_field("value");
        }
        if word == "target" {
            numbers["type"] = json!(target_type(field, &numbers));
        }
        source[word] = numbers;
        out[field] = source;
    }
    out
}

fn target_type(field: &str, numbers: &Value) -> &'static str {
    if numbers.field("averageUtilization").is_some() {
        return "Utilization";
    }
    let average = numbers.field("averageValue").is_some();
    match field {
        "external" if numbers.field("value").is_some() => "Value",
        "object" if !average => "Value",
        _ => "AverageValue",
    }
}

fn copy(from: &Value, key: &str, to: &mut Value, name: &str) {
    if let Some(value) = from.field(key) {
        to[name] = value.clone();
    }
}

/// The behaviour's annotation is written with capital field names.
fn rename_keys(value: Value, rename: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(key, v)| (rename(&key), rename_keys(v, rename)));
            Value::Object(renamed.collect())
        }
        Value::Array(items) => {
            items.into_iter().map(|item| rename_keys(item, rename)).collect::<Vec<_>>().into()
        }
        other => other,
    }
}

fn upper_first(key: &str) -> String {
    let mut chars = key.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn lower_first(key: &str) -> String {
    let mut chars = key.chars();
    chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
