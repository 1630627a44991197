//! Mutating and validating webhooks.
//!
//! Source of behaviour: k8s.io/apiserver `pkg/admission/plugin/webhook`, v1.36. `matching.rs` says
//! whom a request concerns, `review.rs` what is sent and what an answer means; here they are called.
//!
//! Different: an object is sent in the version of the request also when a rule names another
//! version of it, and `matchConditions` are not evaluated: the webhook is called.

mod matching;
mod review;

use std::time::Duration;

use futures::future::join_all;
use objects::{ApiError, ObjectExt as _};
use serde_json::Value;

use super::Admission;
use crate::call::Call;
use crate::codec;
use crate::encode;
use crate::server::Server;
use crate::verbs::list;
use crate::webhook::Target;

use matching::{Asked, Form, rules_match, selects};
use review::Verdict;

pub(crate) use matching::Operation;

/// Kinds that decide about admission themselves, about which no webhook is asked.
const EXEMPT: [&str; 6] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];
const GROUP: &str = "admissionregistration.k8s.io";

/// A request as webhooks are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) operation: Operation,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

/// Lets mutating webhooks change the new object.
pub(super) async fn mutate(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let webhooks = configured(admission, "mutatingwebhookconfigurations");
    if webhooks.is_empty() {
        return Ok(());
    }
    // In a box of its own: most writes have no webhooks, and their futures stay small.
    Box::pin(mutate_by(&webhooks, admission, new, old)).await
}

async fn mutate_by(
    webhooks: &[Value],
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    // The object after each webhook that was called, to see which have to be called again.
    let mut called: Vec<(usize, Value)> = Vec::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let subject = Subject { operation, object: Some(new), old };
        if let Some(verdict) = ask(admission, webhook, subject).await? {
            take(admission, webhook, verdict, new)?;
            called.push((index, new.clone()));
        }
    }
    for (index, after) in called {
        let webhook = &webhooks[index];
        if webhook.str_at(&["reinvocationPolicy"]) == "IfNeeded" && after != *new {
            let subject = Subject { operation, object: Some(new), old };
            if let Some(verdict) = ask(admission, webhook, subject).await? {
                take(admission, webhook, verdict, new)?;
            }
        }
    }
    Ok(())
}

/// Asks validating webhooks, all at once.
pub(crate) async fn validate(
    admission: &mut Admission<'_>,
    subject: Subject<'_>,
) -> Result<(), ApiError> {
    let webhooks = configured(admission, "validatingwebhookconfigurations");
    if webhooks.is_empty() {
        return Ok(());
    }
    let asked: &Admission<'_> = admission;
    let answers = join_all(webhooks.iter().map(|webhook| Box::pin(ask(asked, webhook, subject))));
    let answers = answers.await;
    for verdict in answers {
        if let Some(verdict) = verdict? {
            note(admission, &verdict);
            if let Some(refusal) = verdict.refusal {
                return Err(refusal);
            }
        }
    }
    Ok(())
}

/// Asks about a connection to an object.
pub(crate) async fn connect(
    server: &Server,
    call: &Call,
    options: &Value,
) -> Result<Vec<String>, ApiError> {
    let mut admission = Admission::new(server, call, false);
    let subject = Subject { operation: Operation::Connect, object: Some(options), old: None };
    for webhook in configured(&admission, "mutatingwebhookconfigurations") {
        if let Some(verdict) = Box::pin(ask(&admission, &webhook, subject)).await?
            && let Some(refusal) = verdict.refusal
        {
            return Err(refusal);
        }
    }
    validate(&mut admission, subject).await?;
    Ok(admission.warnings)
}

/// The webhooks of a kind of configuration, in the order in which they are called.
fn configured(admission: &Admission<'_>, plural: &str) -> Vec<Value> {
    let names = &admission.call.kind.names;
    if names.group == GROUP && EXEMPT.contains(&names.plural.as_str()) {
        return Vec::new();
    }
    let Some(kind) = admission.call.registry.resource(GROUP, "v1", plural) else {
        return Vec::new();
    };
    let configurations = list::every(admission.server, kind, "");
    let mut webhooks = Vec::new();
    for record in configurations {
        webhooks.extend(encode::parse(&record).list_at(&["webhooks"]).iter().cloned());
    }
    webhooks
}

/// What a webhook says; `None` if it is not concerned, or cannot be reached and need not be.
async fn ask(
    admission: &Admission<'_>,
    webhook: &Value,
    subject: Subject<'_>,
) -> Result<Option<Verdict>, ApiError> {
    if !concerns(admission, webhook, subject) {
        return Ok(None);
    }
    let name = webhook.str_at(&["name"]);
    let secs = webhook.i64_at(&["timeoutSeconds"]).unwrap_or(10);
    let timeout = Duration::from_secs(u64::try_from(secs).unwrap_or(10));
    let uid = crate::metadata::fresh_uid();
    let call = admission.call;
    let Subject { operation, object, old } = subject;
    let review = review::review(call, &uid, operation, object, old, admission.dry_run);
    let none = Value::Null;
    let client = webhook.at(&["clientConfig"]).unwrap_or(&none);
    let read = post(admission.server, client, &review, timeout)
        .await
        .and_then(|answer| review::verdict(name, &uid, &answer));
    match read {
        Ok(verdict) => Ok(Some(verdict)),
        Err(why) if webhook.str_at(&["failurePolicy"]) == "Ignore" => {
            tracing::warn!(webhook = name, why, "admission webhook failed; its policy is Ignore");
            Ok(None)
        }
        Err(why) => Err(ApiError::internal(format!("failed calling webhook {name:?}: {why}"))),
    }
}

async fn post(
    server: &Server,
    client: &Value,
    review: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let target = Target::from_client_config(client).map_err(|error| error.to_string())?;
    let answer = server.webhooks.post(&server.store, &target, review, timeout).await;
    answer.map_err(|error| format!("failed to call webhook: {error}"))
}

fn concerns(admission: &Admission<'_>, webhook: &Value, subject: Subject<'_>) -> bool {
    let call = admission.call;
    let names = &call.kind.names;
    let form = |kind: &kinds::Kind| Form {
        group: kind.names.group.clone(),
        version: kind.names.version.clone(),
        resource: kind.names.plural.clone(),
    };
    let place = |kind: &kinds::Kind| {
        kind.storage.as_ref().map(|storage| (storage.group.clone(), storage.plural.clone()))
    };
    let own_place = place(&call.kind);
    let equivalents = call.registry.iter().filter(|kind| place(kind) == own_place);
    let asked = Asked {
        operation: subject.operation,
        form: form(&call.kind),
        equivalents: equivalents.map(|kind| form(kind)).collect(),
        subresource: &call.path.subresource,
        namespaced: call.kind.namespaced(),
    };
    if !rules_match(webhook, &asked) {
        return false;
    }
    let of_namespace = webhook.at(&["namespaceSelector"]);
    let is_namespace = names.group.is_empty() && names.plural == "namespaces";
    if is_namespace && !selects(of_namespace, &[subject.object, subject.old]) {
        return false;
    }
    if call.kind.namespaced() {
        let record = admission.server.store.get(&format!("/namespaces//{}", call.namespace()));
        let namespace = record.map(|record| encode::parse(&record)).unwrap_or_default();
        if !selects(of_namespace, &[Some(&namespace)]) {
            return false;
        }
    }
    selects(webhook.at(&["objectSelector"]), &[subject.object, subject.old])
}

fn note(admission: &mut Admission<'_>, verdict: &Verdict) {
    admission.warnings.extend(verdict.warnings.iter().cloned());
    for (key, value) in &verdict.annotations {
        admission.call.notes.annotate(key.clone(), value.clone());
    }
}

/// Takes in what a mutating webhook decided.
fn take(
    admission: &mut Admission<'_>,
    webhook: &Value,
    verdict: Verdict,
    new: &mut Value,
) -> Result<(), ApiError> {
    note(admission, &verdict);
    if let Some(refusal) = verdict.refusal {
        return Err(refusal);
    }
    let Some(bytes) = verdict.patch else { return Ok(()) };
    let call = admission.call;
    let wrong = |why: String| {
        ApiError::internal(format!(
            "failed calling webhook {:?}: failed to apply patch: {why}",
            webhook.str_at(&["name"])
        ))
    };
    let (operations, _) =
        patch::json_patch::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut patched = patch::json_patch::apply(new.clone(), &operations)
        .map_err(|error| wrong(error.to_string()))?;
    if let Some(schema) = admission.server.schemas.of(&call.kind) {
        let decoded = patch::decode::value(patched, &schema, &codec::LEAVES)
            .map_err(|error| wrong(error.to_string()))?;
        patched = decoded.value;
        patched["apiVersion"] = call.kind.api_version().into();
        patched["kind"] = call.kind.names.kind.clone().into();
    }
    codec::default(admission.server, call, &mut patched);
    *new = patched;
    Ok(())
}
