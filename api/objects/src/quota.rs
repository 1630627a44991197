//! What objects count for against a ResourceQuota. PURE.
//!
//! Source of behaviour: kubernetes `pkg/quota/v1/evaluator/core` and apiserver
//! `pkg/quota/v1/generic`, v1.36.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ObjectExt;
use crate::quantity::{Format, Quantity};

/// Amounts by resource name, as `spec.hard` names them.
pub type Amounts = BTreeMap<String, Quantity>;

/// Kinds that are also counted under their plain name.
const PLAIN: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

/// Resources that every container must name if a quota limits them.
const NAMED_BY_CONTAINERS: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn add(amounts: &mut Amounts, name: impl Into<String>, more: &Quantity) {
    let name = name.into();
    let sum = amounts.get(&name).map_or_else(|| *more, |known| known.add(more));
    amounts.insert(name, sum);
}

/// The name under which objects of any kind are counted: `count/PLURAL.GROUP`.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// What an object counts for.
pub fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, count_name(group, plural), &one());
    if !group.is_empty() {
        return amounts;
    }
    match plural {
        "pods" => pod(object, &mut amounts),
        "services" => service(object, &mut amounts),
        "persistentvolumeclaims" => claim(object, &mut amounts),
        _ => {}
    }
    if plural != "pods" && PLAIN.contains(&plural) {
        add(&mut amounts, plural, &one());
    }
    amounts
}

fn pod(pod: &Value, amounts: &mut Amounts) {
    // Finished pods hold nothing.
    if matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed") {
        return;
    }
    add(amounts, "pods", &one());
    for (resource, amount) in pod_resources(pod, "requests") {
        if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || resource.starts_with("hugepages-")
        {
            add(amounts, resource.clone(), &amount);
        }
        add(amounts, format!("requests.{resource}"), &amount);
    }
    for (resource, amount) in pod_resources(pod, "limits") {
        add(amounts, format!("limits.{resource}"), &amount);
    }
}

/// The `requests` or `limits` of a container, or of the spec of a pod.
pub fn resources(owner: &Value, kind: &str) -> Amounts {
    let map = owner.map_at(&["resources", kind]);
    let entries = map.into_iter().flatten();
    entries
        .filter_map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((name.clone(), Quantity::parse(&text).ok()?))
        })
        .collect()
}

/// The most of two amounts, resource by resource.
fn most(mut a: Amounts, b: Amounts) -> Amounts {
    for (name, amount) in b {
        let known = a.get(&name).is_none_or(|known| *known < amount);
        if known {
            a.insert(name, amount);
        }
    }
    a
}

fn sum(mut a: Amounts, b: &Amounts) -> Amounts {
    for (name, amount) in b {
        add(&mut a, name.clone(), amount);
    }
    a
}

/// What a pod as a whole asks for (`requests`) or may use (`limits`), with its overhead: its containers
/// together, or more while it is initialised.
pub fn pod_resources(pod: &Value, kind: &str) -> Amounts {
    let containers = pod.list_at(&["spec", "containers"]);
    let running = containers.iter().fold(Amounts::new(), |a, one| sum(a, &resources(one, kind)));
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in pod.list_at(&["spec", "initContainers"]) {
        let own = resources(container, kind);
        if container.str_at(&["restartPolicy"]) == "Always" {
            sidecars = sum(sidecars, &own);
            starting = most(starting, sidecars.clone());
        } else {
            starting = most(starting, sum(own, &sidecars));
        }
    }
    let mut total = most(sum(running, &sidecars), starting);
    // Resources of the whole pod stand for those of its containers.
    if let Some(spec) = pod.at(&["spec"]) {
        total.extend(resources(spec, kind));
    }
    let overhead = pod.map_at(&["spec", "overhead"]);
    for (name, value) in overhead.into_iter().flatten() {
        let known = kind == "requests" || total.contains_key(name);
        if let Some(amount) = value.as_str().and_then(|text| Quantity::parse(text).ok())
            && known
        {
            add(&mut total, name.clone(), &amount);
        }
    }
    total
}

fn service(service: &Value, amounts: &mut Amounts) {
    let ports = i64::try_from(service.list_at(&["spec", "ports"]).len()).unwrap_or(i64::MAX);
    let ports = Quantity::from_units(ports, Format::DecimalSi);
    let zero = Quantity::from_units(0, Format::DecimalSi);
    match service.str_at(&["spec", "type"]) {
        "NodePort" => {
            add(amounts, "services.nodeports", &ports);
            add(amounts, "services.loadbalancers", &zero);
        }
        "LoadBalancer" => {
            let allocates =
                service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]).unwrap_or(true);
            add(amounts, "services.nodeports", if allocates { &ports } else { &zero });
            add(amounts, "services.loadbalancers", &one());
        }
        _ => {
            add(amounts, "services.nodeports", &zero);
            add(amounts, "services.loadbalancers", &zero);
        }
    }
}

fn claim(claim: &Value, amounts: &mut Amounts) {
    let class = match claim.str_at(&["spec", "storageClassName"]) {
        "" => claim
            .annotations()
            .and_then(|map| map.get("volume.beta.kubernetes.io/storage-class")?.as_str())
            .unwrap_or_default(),
        class => class,
    };
    let prefix = format!("{class}.storageclass.storage.k8s.io/");
    if !class.is_empty() {
        add(amounts, format!("{prefix}persistentvolumeclaims"), &one());
    }
    let asked = claim.str_at(&["spec", "resources", "requests", "storage"]);
    if let Ok(asked) = Quantity::parse(asked) {
        add(amounts, "requests.storage", &asked);
        if !class.is_empty() {
            add(amounts, format!("{prefix}requests.storage"), &asked);
        }
    }
}

/// Whether a quota with these scopes is for an object. Quotas without scopes are for all.
pub fn is_in_scope(quota: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let scopes = quota.list_at(&["spec", "scopes"]);
    let expressions = quota.list_at(&["spec", "scopeSelector", "matchExpressions"]);
    if scopes.is_empty() && expressions.is_empty() {
        return true;
    }
    let kind = (group, plural);
    scopes.iter().filter_map(Value::as_str).all(|scope| has_scope(kind, object, scope, None))
        && expressions.iter().all(|expression| {
            has_scope(kind, object, expression.str_at(&["scopeName"]), Some(expression))
        })
}

fn has_scope(
    (group, plural): (&str, &str),
    object: &Value,
    scope: &str,
    expression: Option<&Value>,
) -> bool {
    let is_pod = group.is_empty() && plural == "pods";
    let is_claim = group.is_empty() && plural == "persistentvolumeclaims";
    match scope {
        "Terminating" => is_pod && object.i64_at(&["spec", "activeDeadlineSeconds"]).is_some(),
        "NotTerminating" => is_pod && object.i64_at(&["spec", "activeDeadlineSeconds"]).is_none(),
        "BestEffort" => is_pod && is_best_effort(object),
        "NotBestEffort" => is_pod && !is_best_effort(object),
        "CrossNamespacePodAffinity" => is_pod && reaches_other_namespaces(object),
        "PriorityClass" => {
            is_pod && selects(object.str_at(&["spec", "priorityClassName"]), expression)
        }
        "VolumeAttributesClass" => {
            is_claim && selects(object.str_at(&["spec", "volumeAttributesClassName"]), expression)
        }
        _ => false,
    }
}

fn selects(name: &str, expression: Option<&Value>) -> bool {
    let Some(expression) = expression else { return !name.is_empty() };
    let named = expression.list_at(&["values"]).iter().any(|value| value == name);
    match expression.str_at(&["operator"]) {
        "In" => named,
        "NotIn" => !named,
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let names_none = |owner: &Value| {
        ["requests", "limits"].iter().all(|kind| {
            let amounts = resources(owner, kind);
            ["cpu", "memory"].iter().all(|name| amounts.get(*name).is_none_or(Quantity::is_zero))
        })
    };
    pod.at(&["spec"]).is_none_or(names_none)
        && ["containers", "initContainers"]
            .iter()
            .all(|list| pod.list_at(&["spec", list]).iter().all(names_none))
}

fn reaches_other_namespaces(pod: &Value) -> bool {
    let reaches = |term: &Value| {
        !term.list_at(&["namespaces"]).is_empty() || term.at(&["namespaceSelector"]).is_some()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let required = pod.list_at(&[
            "spec",
            "affinity",
            kind,
            "requiredDuringSchedulingIgnoredDuringExecution",
        ]);
        let preferred = pod.list_at(&[
            "spec",
            "affinity",
            kind,
            "preferredDuringSchedulingIgnoredDuringExecution",
        ]);
        required.iter().any(reaches)
            || preferred.iter().any(|one| one.at(&["podAffinityTerm"]).is_some_and(reaches))
    })
}

/// What the containers of a pod leave unsaid although a quota limits it: `must specify cpu for: c`.
pub fn unsaid<'a>(limited: impl IntoIterator<Item = &'a str>, pod: &Value) -> Option<String> {
    let mut texts = Vec::new();
    for resource in limited.into_iter().filter(|name| NAMED_BY_CONTAINERS.contains(name)) {
        let (kind, name) = match resource.split_once('.') {
            Some((kind, name)) => (kind, name),
            None => ("requests", resource),
        };
        let whole = pod.at(&["spec"]).map(|spec| resources(spec, kind)).unwrap_or_default();
        if whole.contains_key(name) {
            continue;
        }
        let lists = ["containers", "initContainers"];
        let containers = lists.iter().flat_map(|list| pod.list_at(&["spec", list]));
        let without = containers.filter(|one| !resources(one, kind).contains_key(name));
        let names: Vec<&str> = without.map(|one| one.str_at(&["name"])).collect();
        if !names.is_empty() {
            texts.push(format!("{resource} for: {}", names.join(",")));
        }
    }
    (!texts.is_empty()).then(|| format!("must specify {}", texts.join("; ")))
}

/// Amounts of a JSON map such as `spec.hard`.
pub fn amounts(map: Option<&serde_json::Map<String, Value>>) -> Amounts {
    let entries = map.into_iter().flatten();
    entries
        .filter_map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((name.clone(), Quantity::parse(&text).ok()?))
        })
        .collect()
}

/// `a=1,b=2`, as messages print amounts.
pub fn print(amounts: &Amounts) -> String {
    let parts: Vec<String> =
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(group: &str, plural: &str, object: &Value) -> String {
        print(&usage(group, plural, object))
    }

    #[test]
    fn pods_count_what_they_ask_for_as_a_whole() {
        let pod = json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}},
                {"name": "b", "resources": {"requests": {"cpu": "500m", "example.com/gpu": "1"}}},
            ],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}},
            ],
            "overhead": {"cpu": "10m"},
        }});
        assert_eq!(
            shown("", "pods", &pod),
            "count/pods=1,cpu=2110m,limits.cpu=2010m,pods=1,requests.cpu=2110m,\
             requests.example.com/gpu=1"
        );
        let done = json!({"status": {"phase": "Succeeded"}, "spec": pod["spec"]});
        assert_eq!(shown("", "pods", &done), "count/pods=1");
    }

    #[test]
    fn services_claims_and_others() {
        let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{}, {}]}});
        assert_eq!(
            shown("", "services", &service("LoadBalancer")),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"
        );
        assert_eq!(
            shown("", "services", &service("ClusterIP")),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0"
        );
        let claim = json!({"spec": {"storageClassName": "gold",
            "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            shown("", "persistentvolumeclaims", &claim),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,\
             requests.storage=1Gi"
        );
        assert_eq!(shown("apps", "deployments", &json!({})), "count/deployments.apps=1");
        assert_eq!(shown("", "secrets", &json!({})), "count/secrets=1,secrets=1");
    }

    #[test]
    fn scopes_choose_pods() {
        let quota = |scope: &str| json!({"spec": {"scopes": [scope]}});
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        let full = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{"resources": {"limits": {"cpu": "1"}}}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"namespaces": ["b"]}]}}}});
        for (scope, of_plain, of_full) in [
            ("Terminating", false, true),
            ("NotTerminating", true, false),
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("PriorityClass", false, true),
            ("CrossNamespacePodAffinity", false, true),
        ] {
            let quota = quota(scope);
            assert_eq!(is_in_scope(&quota, "", "pods", &plain), of_plain, "{scope}");
            assert_eq!(is_in_scope(&quota, "", "pods", &full), of_full, "{scope}");
            assert!(!is_in_scope(&quota, "", "secrets", &plain), "{scope} is of pods alone");
        }
        let selector = |operator: &str| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass",
                "operator": operator, "values": ["high"]}]}}})
        };
        assert!(is_in_scope(&selector("In"), "", "pods", &full));
        assert!(!is_in_scope(&selector("NotIn"), "", "pods", &full));
        assert!(is_in_scope(&selector("DoesNotExist"), "", "pods", &plain));
    }

    #[test]
    fn containers_have_to_name_what_is_limited() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b"}]}});
        let said = unsaid(["limits.memory", "pods", "requests.cpu"], &pod);
        assert_eq!(
            said.as_deref(),
            Some("must specify limits.memory for: a,b; requests.cpu for: b")
        );
        assert_eq!(unsaid(["pods"], &pod), None);
    }
}
