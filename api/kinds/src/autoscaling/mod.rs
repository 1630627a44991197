//! HorizontalPodAutoscalers, stored as `autoscaling/v2`.
//!
//! Source of behaviour: kubernetes `pkg/apis/autoscaling` and
//! `pkg/registry/autoscaling/horizontalpodautoscaler`, v1.36.

mod cells;
mod convert;
mod validate;

pub(crate) use convert::{from_v2, to_v2};

use std::borrow::Cow;

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, ObjectExt};
use serde_json::{Value, json};

use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::Read;

/// Share of the requested CPU that an autoscaler without metrics aims at, in percent.
const DEFAULT_CPU_PERCENT: i64 = 80;

/// Behaviour of HorizontalPodAutoscalers, in either version.
pub(crate) struct HorizontalPodAutoscaler {
    /// Whether objects come in the form of `autoscaling/v1`.
    pub(crate) v1: bool,
}

impl HorizontalPodAutoscaler {
    /// The object in the form of `autoscaling/v2`.
    fn v2<'a>(&self, object: &'a Value) -> Cow<'a, Value> {
        if !self.v1 {
            return Cow::Borrowed(object);
        }
        let mut object = object.clone();
        to_v2(&mut object);
        Cow::Owned(object)
    }

    fn empty_status(&self) -> Value {
        match self.v1 {
            true => json!({"currentReplicas": 0, "desiredReplicas": 0}),
            false => json!({"currentMetrics": null, "desiredReplicas": 0}),
        }
    }
}

impl Behaviour for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("minReplicas", 1);
        if self.v1 {
            let annotations = object.map_at(&["metadata", "annotations"]);
            let has_metrics =
                annotations.is_some_and(|map| map.contains_key(convert::METRICS_ANNOTATION));
            if !has_metrics {
                let spec = object.map_mut("spec");
                spec.default_to("targetCPUUtilizationPercentage", DEFAULT_CPU_PERCENT);
            }
        } else {
            default_v2(spec);
        }
        let status = self.empty_status();
        let target = object.map_mut("status");
        for (key, value) in status.as_object().into_iter().flatten() {
            target.default_to(key, value.clone());
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = self.empty_status();
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        let kept = if context.subresource == "status" { "spec" } else { "status" };
        restore(new, old, &[kept]);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::check(&self.v2(object), None, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            validate::check_status(new, errors);
        } else {
            validate::check(&self.v2(new), Some(&self.v2(old)), errors);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::cells(&self.v2(object), now)
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

/// The metric of an autoscaler that names none.
fn cpu_metric(percent: i64) -> Value {
    json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent},
        },
    })
}

fn default_v2(spec: &mut Value) {
    if spec.items("metrics").is_empty() {
        spec["metrics"] = json!([cpu_metric(DEFAULT_CPU_PERCENT)]);
    }
    let Some(behavior) = spec.field_mut("behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = behavior.map_mut("scaleUp");
    up.default_to("stabilizationWindowSeconds", 0);
    up.default_to("policies", json!([pods, percent.clone()]));
    up.default_to("selectPolicy", "Max");
    // The window of scaling down is the controller's to choose.
    let down = behavior.map_mut("scaleDown");
    down.default_to("policies", json!([percent]));
    down.default_to("selectPolicy", "Max");
}
