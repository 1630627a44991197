//! Compute resources of containers and pods: names, sums, validation.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/helper`, `component-helpers/resource` and
//! `pkg/apis/core/validation`, v1.36.

use std::collections::BTreeMap;

use objects::quantity::Quantity;
use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::check;
use crate::read::{Read, amount, quantity};

/// The lists of containers in a pod's spec, in the order in which they are validated.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["containers", "initContainers", "ephemeralContainers"];

/// Resource names without a prefix that Kubernetes itself knows, with what they may count:
/// anything (""), containers' resources ("c"), quotas ("q"), whole numbers ("i").
const STANDARD: &[(&str, &str)] = &[
    ("cpu", "cq"),
    ("memory", "cq"),
    ("ephemeral-storage", "cq"),
    ("requests.cpu", "q"),
    ("requests.memory", "q"),
    ("requests.ephemeral-storage", "q"),
    ("limits.cpu", "q"),
    ("limits.memory", "q"),
    ("limits.ephemeral-storage", "q"),
    ("pods", "qi"),
    ("resourcequotas", "qi"),
    ("services", "qi"),
    ("replicationcontrollers", "qi"),
    ("secrets", "qi"),
    ("configmaps", "qi"),
    ("persistentvolumeclaims", "qi"),
    ("services.nodeports", "qi"),
    ("services.loadbalancers", "qi"),
    ("storage", ""),
    ("requests.storage", "q"),
];

fn standard(name: &str) -> Option<&'static str> {
    STANDARD.iter().find(|(known, _)| *known == name).map(|(_, uses)| *uses)
}

/// Whether a name is that of huge pages of some size.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_page(name: &str) -> bool {
    is_huge_page(name) || name.starts_with("requests.hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether requests may be below limits.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether a resource can be given for a whole pod.
pub(crate) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a resource is counted in whole numbers.
pub(crate) fn is_integer(name: &str) -> bool {
    standard(name).is_some_and(|uses| uses.contains('i')) || is_extended(name)
}

/// Whether a name without prefix may be used in a quota.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    standard(name).is_some_and(|uses| uses.contains('q')) || is_quota_huge_page(name)
}

/// Checks any resource name; says whether it is fine.
pub(crate) fn check_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let faults = names::qualified_name(name);
    let well_formed = faults.is_empty();
    check::faults(errors, path, name, faults);
    if well_formed && !name.contains('/') && standard(name).is_none() && !is_quota_huge_page(name) {
        let detail = "must be a standard resource type or fully qualified";
        errors.invalid_str(path, name, detail);
        return false;
    }
    well_formed
}

/// Checks the name of a container's resource.
pub(crate) fn check_container_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    check_name(name, path, errors);
    if !name.contains('/') {
        let fits = standard(name).is_some_and(|uses| uses.contains('c')) || is_huge_page(name);
        if !fits {
            errors.invalid_str(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid_str(path, name, "doesn't follow extended resource name standard");
    }
}

fn check_pod_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if check_name(name, path, errors) && !is_pod_level(name) {
        errors.not_supported(path, &json!(name), &["cpu", "hugepages-", "memory"]);
    }
}

/// Checks that an amount is not negative, and whole where it counts things.
pub(crate) fn check_amount(name: &str, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(amount) = quantity(value) else { return };
    check::nonnegative_quantity(errors, path, &amount);
    if is_integer(name) && amount.milli_value() % 1000 != 0 {
        errors.invalid_str(path, &amount.to_string(), "must be an integer");
    }
}

/// Checks a container's `resources`. `claims` are the names of the pod's resource claims.
pub(crate) fn check_container(
    resources: &Value,
    claims: &[&str],
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    check_requirements(resources, check_container_name, path, errors);
    check_claims(resources, claims, &path.child("claims"), errors);
}

/// Checks a pod's `overhead`, a list of amounts.
pub(crate) fn check_overhead(overhead: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let resources = json!({"limits": overhead});
    check_requirements(&resources, check_container_name, path, errors);
}

fn check_requirements(
    resources: &Value,
    check_name: fn(&str, &FieldPath, &mut FieldErrors),
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let limits_path = path.child("limits");
    let requests_path = path.child("requests");
    let mut has_compute = false;
    let mut has_huge_pages = false;
    for (name, value) in resources.entries("limits") {
        let here = limits_path.key(name);
        check_name(name, &here, errors);
        check_amount(name, value, &here, errors);
        check_huge_page(name, value, &here, errors);
        has_huge_pages |= is_huge_page(name);
        has_compute |= matches!(name, "cpu" | "memory");
    }
    for (name, value) in resources.entries("requests") {
        let here = requests_path.key(name);
        check_name(name, &here, errors);
        check_amount(name, value, &here, errors);
        check_against_limit(resources, name, value, path, errors);
        check_huge_page(name, value, &here, errors);
        has_huge_pages |= is_huge_page(name);
        has_compute |= matches!(name, "cpu" | "memory");
    }
    if has_huge_pages && !has_compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn check_against_limit(
    resources: &Value,
    name: &str,
    request: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let Some(request) = quantity(request) else { return };
    let requests_path = path.child("requests");
    match amount(resources.field("limits"), name) {
        Some(limit) if request != limit && !may_overcommit(name) => {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid_str(&requests_path, &request.to_string(), &detail);
        }
        Some(limit) if request > limit => {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid_str(&requests_path, &request.to_string(), &detail);
        }
        None if !may_overcommit(name) => {
            let detail = "Limit must be set for non overcommitable resources";
            errors.required(&path.child("limits"), detail);
        }
        _ => {}
    }
}

fn check_huge_page(name: &str, value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let Some(amount) = quantity(value) else { return };
    let divisible = Quantity::parse(size).is_ok_and(|size| {
        size.sign() > 0 && size.nanos() % 1_000_000_000 == 0 && amount.value() % size.value() == 0
    });
    if !divisible {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.invalid_str(path, &amount.to_string(), &detail);
    }
}

fn check_claims(resources: &Value, known: &[&str], path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen: Vec<String> = Vec::new();
    for (index, claim) in resources.items("claims").iter().enumerate() {
        let here = path.index(index);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&here, "");
            continue;
        }
        if seen.iter().any(|other| other == name) {
            errors.duplicate(&here, &json!(name));
        } else {
            let request = claim.text("request");
            let mut key = name.to_string();
            if !request.is_empty() {
                check::label(errors, &here.child("request"), request);
                key = format!("{name}/{request}");
            }
            let prefix = format!("{name}/");
            if seen.contains(&key) {
                errors.duplicate(&here, &json!(key));
            } else if request.is_empty() && seen.iter().any(|other| other.starts_with(&prefix)) {
                errors.duplicate(&here, &json!(name));
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            let which = if known.is_empty() {
                " which is empty".into()
            } else {
                format!(": {}", sorted.join(", "))
            };
            errors.not_found(&here, &json!(name));
            let error = errors.0.last_mut().expect("added above");
            error.detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
        }
    }
}

/// Checks a pod's `spec.resources`.
pub(crate) fn check_pod_level(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(resources) = spec.field("resources") else { return };
    let path = path.child("resources");
    if crate::read::part(spec, &["os"]).text("name") == "windows" {
        errors.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if resources.field("claims").is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.forbidden(&path.child("claims"), detail);
    }
    check_requirements(resources, check_pod_name, &path, errors);
    check_consistency(spec, resources, &path, errors);
}

fn check_consistency(spec: &Value, resources: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (name, total) in container_totals(spec, "requests") {
        if let Some(own) = amount(resources.field("requests"), &name).filter(|own| total > *own) {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {total}");
            errors.invalid_str(&path.child("requests").key(&name), &own.to_string(), &detail);
        }
    }
    for (name, total) in container_totals(spec, "limits") {
        let own = amount(resources.field("limits"), &name).filter(|own| total > *own);
        if let Some(own) = own.filter(|_| is_huge_page(&name)) {
            let detail =
                format!("must be greater than or equal to aggregate container limits of {total}");
            errors.invalid_str(&path.child("limits").key(&name), &own.to_string(), &detail);
        }
    }
    for (index, container) in spec.items("containers").iter().enumerate() {
        for (name, value) in crate::read::part(container, &["resources"]).entries("limits") {
            let Some(limit) = quantity(value) else { continue };
            if let Some(own) = amount(resources.field("limits"), name).filter(|own| limit > *own) {
                let here = path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {own}");
                errors.invalid_str(&here, &limit.to_string(), &detail);
            }
        }
    }
}

/// Whether an init container keeps running beside the main ones.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

/// What a pod's containers need together, by resource: the sum of the main containers and
/// sidecars, or what an init container needs beside the sidecars before it, if that is more.
pub(crate) fn container_totals(spec: &Value, list: &str) -> BTreeMap<String, Quantity> {
    let of = |container: &Value| -> BTreeMap<String, Quantity> {
        crate::read::part(container, &["resources"])
            .entries(list)
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_string(), quantity(value)?)))
            .collect()
    };
    let mut total = BTreeMap::new();
    for container in spec.items("containers") {
        add(&mut total, &of(container));
    }
    let mut sidecars = BTreeMap::new();
    let mut highest: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in spec.items("initContainers") {
        let mut needs = of(container);
        if is_sidecar(container) {
            add(&mut total, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut highest, needs);
    }
    raise(&mut total, highest);
    total
}

fn add(sum: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.add(amount);
    }
}

fn raise(highest: &mut BTreeMap<String, Quantity>, other: BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let entry = highest.entry(name).or_insert(amount);
        if amount > *entry {
            *entry = amount;
        }
    }
}
