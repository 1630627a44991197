//! The columns of HorizontalPodAutoscalers.

use objects::ObjectExt;
use objects::k8s::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cells::{self, NONE, UNKNOWN, UNSET};
use crate::kind::Cell;
use crate::read::{Read, part};

/// Metrics shown before the rest is only counted.
const SHOWN: usize = 2;

pub(super) fn cells(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = part(object, &["spec"]);
    let target = part(spec, &["scaleTargetRef"]);
    let least = spec.int("minReplicas").map_or(UNSET.to_string(), |count| count.to_string());
    vec![
        cells::name(object),
        json!(format!("{}/{}", target.text("kind"), target.text("name"))),
        json!(metrics(spec.items("metrics"), object.list_at(&["status", "currentMetrics"]))),
        json!(least),
        json!(spec.int("maxReplicas").unwrap_or(0)),
        cells::number(object, &["status", "currentReplicas"]),
        cells::age(object, now),
    ]
}

fn metrics(wanted: &[Value], current: &[Value]) -> String {
    if wanted.is_empty() {
        return NONE.to_string();
    }
    let shown = wanted.iter().enumerate().take(SHOWN);
    let shown: Vec<String> =
        shown.map(|(index, metric)| shown_metric(metric, current.get(index))).collect();
    let shown = shown.join(", ");
    match wanted.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// `now/target` of a metric.
fn shown_metric(metric: &Value, current: Option<&Value>) -> String {
    let (field, name) = match metric.text("type") {
        "External" => ("external", None),
        "Pods" => ("pods", None),
        "Object" => ("object", None),
        "Resource" => ("resource", Some(part(metric, &["resource"]).text("name"))),
        "ContainerResource" => {
            ("containerResource", Some(part(metric, &["containerResource"]).text("name")))
        }
        _ => return "<unknown type>".to_string(),
    };
    let target = part(metric, &[field, "target"]);
    let current = current.map_or(&crate::read::NOTHING, |metric| part(metric, &[field, "current"]));
    let number = |key: &str| current.text_opt(key).unwrap_or(UNKNOWN).to_string();
    let percent = |of: &Value| of.int("averageUtilization").map(|percent| format!("{percent}%"));
    let shown = match (target.text_opt("averageValue"), name) {
        (Some(wanted), None) if field != "pods" => {
            format!("{}/{wanted} (avg)", number("averageValue"))
        }
        (Some(wanted), _) => format!("{}/{wanted}", number("averageValue")),
        (None, None) => format!("{}/{}", number("value"), target.text("value")),
        (None, Some(_)) => {
            let used = percent(current).unwrap_or_else(|| UNKNOWN.to_string());
            let wanted = percent(target).unwrap_or_else(|| "<auto>".to_string());
            format!("{used}/{wanted}")
        }
    };
    name.map_or(shown.clone(), |name| format!("{name}: {shown}"))
}
