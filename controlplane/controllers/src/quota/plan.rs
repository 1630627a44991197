//! The status of one ResourceQuota. PURE.
//!
//! Source of behaviour: kubernetes pkg/controller/resourcequota, v1.36.

use std::collections::BTreeMap;

use informer::Action;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use objects::quantity::{Format, Quantity};
use objects::quota::{self, Amounts};
use serde_json::Value;

use crate::controller::{Plan, Step};

/// An object, and what it counts for.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    group: String,
    plural: String,
    object: Value,
}

impl Counted {
    /// An object of which only the number counts.
    pub(super) fn one(group: &str, plural: &str) -> Self {
        Self::full(group, plural, Value::Null)
    }

    /// An object with what it asks for.
    pub(super) fn full(group: &str, plural: &str, object: Value) -> Self {
        Self { group: group.to_owned(), plural: plural.to_owned(), object }
    }
}

pub(super) fn plan(quota: &ResourceQuota, counted: &[Counted]) -> Plan {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    let as_value = serde_json::to_value(quota).expect("API types serialise to JSON");
    let zero = Quantity::from_units(0, Format::DecimalSi);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), zero)).collect();
    for one in counted {
        if !quota::is_in_scope(&as_value, &one.group, &one.plural, &one.object) {
            continue;
        }
        for (name, amount) in quota::usage(&one.group, &one.plural, &one.object) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = if sum.is_zero() { amount } else { sum.add(&amount) };
            }
        }
    }
    let used: BTreeMap<String, Text> =
        used.into_iter().map(|(name, amount)| (name, Text(amount.to_string()))).collect();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if quota.status.as_ref() == Some(&status) {
        return Plan::nothing();
    }
    let changed = ResourceQuota { status: Some(status), ..quota.clone() };
    Plan { steps: vec![Step::from(Action::update_status(&changed))], ..Plan::nothing() }
}

#[cfg(test)]
mod tests {
    use informer::Verb;
    use serde_json::json;

    use super::*;

    fn quota(hard: Value, scopes: Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "q", "namespace": "a"},
            "spec": {"hard": hard, "scopes": scopes},
        }))
        .unwrap()
    }

    fn used(plan: &Plan) -> Value {
        let Verb::UpdateSubresource("status", object) = &plan.steps[0].action.verb else {
            panic!("{plan:?}")
        };
        object["status"]["used"].clone()
    }

    #[test]
    fn what_is_limited_is_counted() {
        let pod = |cpu: &str| {
            let object = json!({"spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
            Counted::full("", "pods", object)
        };
        let counted = [
            pod("500m"),
            pod("1"),
            Counted::one("apps", "deployments"),
            Counted::one("", "secrets"),
        ];
        let hard = json!({"pods": "5", "requests.cpu": "3", "count/deployments.apps": "2",
            "secrets": "1", "services": "4"});
        let mut quota = quota(hard, json!([]));
        let made = plan(&quota, &counted);
        assert_eq!(
            used(&made),
            json!({"pods": "2", "requests.cpu": "1500m", "count/deployments.apps": "1",
                "secrets": "1", "services": "0"})
        );
        let Verb::UpdateSubresource(_, object) = &made.steps[0].action.verb else { panic!() };
        quota.status = serde_json::from_value(object["status"].clone()).unwrap();
        assert_eq!(plan(&quota, &counted), Plan::nothing());
    }

    #[test]
    fn scopes_leave_others_out() {
        let counted = [
            Counted::full("", "pods", json!({"spec": {"containers": [{"name": "c"}]}})),
            Counted::one("", "secrets"),
        ];
        let hard = json!({"pods": "5"});
        assert_eq!(used(&plan(&quota(hard.clone(), json!(["BestEffort"])), &counted))["pods"], "1");
        assert_eq!(used(&plan(&quota(hard, json!(["NotBestEffort"])), &counted))["pods"], "0");
    }
}
