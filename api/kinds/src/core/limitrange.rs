//! LimitRanges.

use std::collections::{BTreeMap, BTreeSet};

use objects::k8s::jiff::Timestamp;
use objects::quantity::Quantity;
use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, default_resources};
use crate::kind::{Behaviour, Cell};
use crate::pod::resources::{check_container_name, check_name, may_overcommit};
use crate::read::{Read, part, quantity};

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Behaviour of LimitRanges.
pub(crate) struct LimitRange;

impl Behaviour for LimitRange {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("limits", Value::Null);
        for item in spec.items_mut("limits") {
            for list in LISTS {
                default_resources(item.field_mut(list));
            }
            if item.text("type") == "Container" {
                default_item(item);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec").child("limits");
        let mut seen = BTreeSet::new();
        for (index, item) in part(object, &["spec"]).items("limits").iter().enumerate() {
            let here = path.index(index);
            let kind = item.text("type");
            check_type(kind, &here.child("type"), errors);
            if !seen.insert(kind) {
                errors.duplicate(&here.child("type"), &json!(kind));
            }
            check_item(item, &here, errors);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::name_and_created(object, now)
    }
}

/// Default limits are the maxima; default requests are the default limits, else the minima.
fn default_item(item: &mut Value) {
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
    {
        let source = item.map(from).cloned().unwrap_or_default();
        for (name, value) in source {
            item.map_mut(to).default_to(&name, value);
        }
    }
}

fn check_type(kind: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let faults = names::qualified_name(kind);
    if faults.is_empty() {
        let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
        if !kind.contains('/') && !standard {
            errors.invalid_str(path, kind, "must be a standard limit type or fully qualified");
        }
    }
    check::faults(errors, path, kind, faults);
}

fn check_item(item: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = item.text("type");
    let mut amounts: BTreeMap<&str, BTreeMap<&str, Quantity>> = BTreeMap::new();
    for list in LISTS {
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") {
            if item.is_set(list) {
                errors.forbidden(&path.child(list), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        if list == "maxLimitRequestRatio" {
            check_storage(item, path, errors);
        }
        for (name, value) in item.entries(list) {
            let here = path.child(list).key(name);
            if matches!(kind, "Pod" | "Container") {
                check_container_name(name, &here, errors);
            } else {
                check_name(name, &here, errors);
            }
            if let Some(amount) = quantity(value) {
                amounts.entry(name).or_default().insert(list, amount);
            }
        }
    }
    for (name, amounts) in amounts {
        check_amounts(name, &amounts, path, errors);
    }
}

fn check_storage(item: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let has = |list: &str| part(item, &[list]).field("storage").is_some();
    if item.text("type") == "PersistentVolumeClaim" && !has("min") && !has("max") {
        let detail = "either minimum or maximum storage value is required, but neither was \
                      provided";
        errors.required(&path.child("limits"), detail);
    }
}

/// Checks the amounts of one resource against each other.
fn check_amounts(
    name: &str,
    amounts: &BTreeMap<&str, Quantity>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let get = |list: &str| amounts.get(list);
    let mut compare = |low: (&str, &str), high: (&str, &str), at: &str, print_low: bool| {
        if let (Some(a), Some(b)) = (get(low.0), get(high.0))
            && a > b
        {
            let detail = format!("{} value {a} is greater than {} value {b}", low.1, high.1);
            let value = if print_low { a } else { b }.to_string();
            errors.invalid_str(&path.child(at).key(name), &value, &detail);
        }
    };
    let (min, max) = (("min", "min"), ("max", "max"));
    let (limit, request) = (("default", "default"), ("defaultRequest", "default request"));
    compare(min, max, "min", true);
    compare(min, request, "defaultRequest", false);
    compare(request, max, "defaultRequest", true);
    compare(request, ("default", "default limit"), "defaultRequest", true);
    compare(min, limit, "default", true);
    compare(limit, max, "default", false);
    check_ratio(name, amounts, path, errors);
    if let (Some(limit), Some(request)) = (get("default"), get("defaultRequest"))
        && !may_overcommit(name)
        && limit != request
    {
        let detail =
            format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        let here = path.child("defaultRequest").key(name);
        errors.invalid_str(&here, &request.to_string(), &detail);
    }
}

fn check_ratio(
    name: &str,
    amounts: &BTreeMap<&str, Quantity>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let Some(ratio) = amounts.get("maxLimitRequestRatio") else { return };
    let here = path.child("maxLimitRequestRatio").key(name);
    if ratio.nanos() < 1_000_000_000 {
        let detail = format!("ratio {ratio} is less than 1");
        errors.invalid_str(&here, &ratio.to_string(), &detail);
    }
    if let (Some(min), Some(max)) = (amounts.get("min"), amounts.get("max")) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.invalid_str(&here, &ratio.to_string(), &detail);
        }
    }
}
