//! What to do for one namespace that is being deleted. PURE.
//!
//! Source: kubernetes pkg/controller/namespace/deletion, v1.36: pods go first, so that they can
//! still use what else is there while they end; then everything else. Whether the namespace is
//! empty is asked of the server itself before its finalizer is removed, for the views may lag.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use informer::{Action, Object, ServedResource, Verb};
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use objects::ObjectKey;

use crate::controller::{Context, Plan};
use crate::everything::{Found, action};

/// The finalizer in `spec.finalizers` that this controller stands behind.
const FINALIZER: &str = "kubernetes";
/// Wait for views that are not complete.
const NOT_SYNCED_WAIT: Duration = Duration::from_millis(100);
/// A namespace whose contents do not go is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Most deletes of one plan; the next plan does more.
const DELETES_MAX: usize = 1000;

pub(super) struct Seen {
    /// What is in the namespace, as far as it is watched.
    pub(super) contents: Vec<Found>,
    /// Every resource that could be in it.
    pub(super) resources: Vec<Arc<ServedResource>>,
    /// Whether the views are complete.
    pub(super) synced: bool,
}

pub(super) fn plan(namespace: &Namespace, seen: &Seen, context: &Context) -> Plan {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone());
    let mut finalizers = finalizers.unwrap_or_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    if !seen.synced {
        plan.again_after(NOT_SYNCED_WAIT);
        return plan;
    }
    let (pods, others): (Vec<&Found>, Vec<&Found>) =
        seen.contents.iter().partition(|(resource, _)| is_pods(resource));
    let next = if pods.is_empty() { &others } else { &pods };
    let deletes = next.iter().filter(|(_, object)| !object.is_terminating()).take(DELETES_MAX);
    plan.steps.extend(deletes.map(|(resource, object)| delete(resource, object).into()));
    if !plan.steps.is_empty() {
        return plan;
    }
    if !next.is_empty() {
        // All of it is on its way out. What leaves wakes this namespace; what does not is told.
        plan.steps.extend(tell(namespace, next, context).map(Into::into));
        plan.again_after(LOOK_AGAIN);
        return plan;
    }
    let name = namespace.key().name;
    let everything_in = |verb: Verb| {
        move |resource: &Arc<ServedResource>| {
            action(resource, ObjectKey::new(&name, ""), verb.clone())
        }
    };
    // What is not watched (Events) goes in one sweep.
    let unwatched = seen.resources.iter().filter(|resource| is_unwatched(resource));
    let sweeps = unwatched.map(everything_in.clone()(Verb::DeleteCollection));
    let checks = seen.resources.iter().map(everything_in(Verb::RequireEmpty));
    plan.steps.extend(sweeps.chain(checks).map(Into::into));
    finalizers.retain(|name| name != FINALIZER);
    let mut finalized = namespace.clone();
    finalized.spec.get_or_insert_default().finalizers = Some(finalizers);
    let mut finalize = Action::update(&finalized);
    if let Verb::Update(object) = finalize.verb {
        finalize.verb = Verb::UpdateSubresource("finalize", object);
    }
    plan.steps.push(finalize.into());
    plan
}

fn is_pods(resource: &ServedResource) -> bool {
    resource.path.group.is_empty() && resource.path.plural == Pod::URL_PATH_SEGMENT
}

fn is_unwatched(resource: &ServedResource) -> bool {
    resource.path.plural == "events" && resource.can(&["deletecollection"])
}

fn delete(resource: &ServedResource, object: &informer::Partial) -> Action {
    let verb = Verb::Delete {
        uid: Some(object.uid().to_string()),
        revision: None,
        grace_secs: None,
        // What an object owns is in the namespace too, or is cleaned up after it.
        propagation: Some(informer::Propagation::Background),
    };
    action(resource, object.key(), verb)
}

/// Writes into the namespace's conditions what keeps it.
fn tell(namespace: &Namespace, remaining: &[&Found], context: &Context) -> Option<Action> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (resource, object) in remaining {
        *counts.entry(resource.path.to_string()).or_insert(0) += 1;
        for name in object.metadata.finalizers.iter().flatten() {
            *finalizers.entry(name).or_insert(0) += 1;
        }
    }
    let join = |texts: Vec<String>| texts.join(", ");
    let counts = counts.iter().map(|(name, n)| format!("{name} has {n} resource instances"));
    let content = format!("Some resources are remaining: {}", join(counts.collect()));
    let finalizers: Vec<String> =
        finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let mut changed = namespace.clone();
    let status = changed.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    set(conditions, "NamespaceContentRemaining", "SomeResourcesRemain", content, context);
    if !finalizers.is_empty() {
        let text =
            format!("Some content in the namespace has finalizers remaining: {}", join(finalizers));
        set(conditions, "NamespaceFinalizersRemaining", "SomeFinalizersRemain", text, context);
    }
    let same = changed.status == namespace.status;
    (!same).then(|| Action::update_status(&changed))
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    reason: &str,
    message: String,
    context: &Context,
) {
    let known = conditions.iter().find(|known| known.type_ == kind && known.status == "True");
    let since = known.and_then(|known| known.last_transition_time.clone());
    let fresh = NamespaceCondition {
        type_: kind.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(context.now))),
    };
    match conditions.iter_mut().find(|known| known.type_ == kind) {
        Some(known) => *known = fresh,
        None => conditions.push(fresh),
    }
}

#[cfg(test)]
mod tests {
    use informer::{Partial, ResourcePath};
    use serde_json::json;

    use super::*;

    fn resource(plural: &str) -> Arc<ServedResource> {
        Arc::new(ServedResource {
            path: ResourcePath::new("", "v1", plural),
            kind: plural.into(),
            namespaced: true,
            verbs: ["list", "delete", "deletecollection"].map(Into::into).into(),
        })
    }

    fn object(name: &str, going: bool) -> Arc<Partial> {
        let mut meta = json!({"name": name, "namespace": "a", "uid": name});
        if going {
            meta["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            meta["finalizers"] = json!(["example.com/hold"]);
        }
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    }

    fn namespace() -> Namespace {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "resourceVersion": "9",
                "deletionTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes", "other"]},
            "status": {"phase": "Terminating"},
        }))
        .unwrap()
    }

    fn planned(contents: Vec<Found>) -> Plan {
        let resources = vec![resource("pods"), resource("secrets"), resource("events")];
        let context = Context::at(jiff::Timestamp::UNIX_EPOCH);
        plan(&namespace(), &Seen { contents, resources, synced: true }, &context)
    }

    fn summary(plan: &Plan) -> Vec<String> {
        let text = |step: &crate::controller::Step| {
            let action = &step.action;
            format!("{} {} {}", action.verb_name(), action.resource, action.key)
        };
        plan.steps.iter().map(text).collect()
    }

    #[test]
    fn pods_go_first_then_the_rest_then_the_namespace() {
        let (pods, secrets) = (resource("pods"), resource("secrets"));
        let both = vec![(pods.clone(), object("p", false)), (secrets.clone(), object("s", false))];
        assert_eq!(summary(&planned(both)), ["delete pods a/p"]);
        let going = vec![(pods, object("p", true)), (secrets.clone(), object("s", false))];
        assert_eq!(summary(&planned(going)), ["update namespaces a"], "only tells what remains");
        let rest = vec![(secrets, object("s", false))];
        assert_eq!(summary(&planned(rest)), ["delete secrets a/s"]);
        let last = planned(Vec::new());
        assert_eq!(
            summary(&last),
            [
                "delete events a/",
                "check pods a/",
                "check secrets a/",
                "check events a/",
                "update namespaces a",
            ]
        );
        let Verb::UpdateSubresource("finalize", object) = &last.steps[4].action.verb else {
            panic!("not finalized")
        };
        assert_eq!(object["spec"]["finalizers"], json!(["other"]));
    }

    #[test]
    fn what_remains_is_told_once() {
        let contents = vec![(resource("secrets"), object("s", true))];
        let plan = planned(contents.clone());
        let Verb::UpdateSubresource(_, object) = &plan.steps[0].action.verb else {
            panic!("no status")
        };
        let conditions = &object["status"]["conditions"];
        assert_eq!(
            conditions[0]["message"],
            "Some resources are remaining: secrets has 1 resource instances"
        );
        assert_eq!(
            conditions[1]["message"],
            "Some content in the namespace has finalizers remaining: \
             example.com/hold in 1 resource instances"
        );
        let told: Namespace = serde_json::from_value(object.clone()).unwrap();
        let seen = Seen { contents, resources: Vec::new(), synced: true };
        let again = super::plan(&told, &seen, &Context::at(jiff::Timestamp::UNIX_EPOCH));
        assert!(again.steps.is_empty() && again.again_after.is_some());
    }

    #[test]
    fn an_incomplete_view_decides_nothing() {
        let seen = Seen { contents: Vec::new(), resources: Vec::new(), synced: false };
        let plan = plan(&namespace(), &seen, &Context::at(jiff::Timestamp::UNIX_EPOCH));
        assert!(plan.steps.is_empty() && plan.again_after.is_some());
    }
}
