//! Mutating and validating webhooks.
//!
//! `hook.rs` reads configurations, `matching.rs` says whom a request concerns, `face.rs` what is
//! shown of a subresource, `review.rs` what is sent and what an answer means; here they are called.
//!
//! Source of behaviour: k8s.io/apiserver `pkg/admission/plugin/webhook`, v1.36. Different: an object
//! whose versions a webhook converts is sent in the version of the request also when a rule names
//! another one.

mod conditions;
mod face;
mod hook;
mod matching;
mod review;

use std::sync::Arc;

use futures::future::join_all;
use kinds::Kind;
use objects::{ApiError, ObjectExt as _};
use serde_json::{Value, json};

use super::Admission;
use crate::call::Call;
use crate::codec;
use crate::encode;
use crate::server::Server;
use crate::verbs::list;

use face::Face;
use hook::{Hook, Way};
use matching::{Asked, Form, matching_form, selects};
use review::{Request, Verdict};

pub(crate) use hook::Configured;
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
/// Metadata that the server gives and no webhook changes.
const SYSTEM_METADATA: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A request as webhooks are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) operation: Operation,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

/// The first round of mutating webhooks: what each of them left.
pub(super) struct Round {
    hooks: Arc<Vec<Hook>>,
    /// The position of each webhook that was called, and the object after it.
    called: Vec<(usize, Value)>,
    changed: bool,
}

impl Round {
    /// Whether webhooks changed the object, so that all rules have to look at it again.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }
}

fn operation(old: Option<&Value>) -> Operation {
    if old.is_some() { Operation::Update } else { Operation::Create }
}

/// Lets mutating webhooks change the new object.
pub(super) async fn mutate(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<Round, ApiError> {
    let hooks = configured(admission, Way::Mutating);
    let mut round = Round { hooks, called: Vec::new(), changed: false };
    if round.hooks.is_empty() {
        return Ok(round);
    }
    let face = Face::of(admission.call);
    let mut shown = face.show(new);
    let before = shown.clone();
    let shown_old = old.filter(|_| !face.is_new()).map(|old| face.show(old));
    for (index, hook) in round.hooks.iter().enumerate() {
        let place = Place { way: Way::Mutating, round: 0, index };
        if change(admission, hook, place, &mut shown, shown_old.as_ref()).await? {
            round.called.push((index, shown.clone()));
        }
    }
    round.changed = shown != before;
    if round.changed {
        face.put(shown, new);
    }
    Ok(round)
}

/// The second round: those that want to see what others changed since.
pub(super) async fn mutate_again(
    admission: &mut Admission<'_>,
    new: &mut Value,
    old: Option<&Value>,
    round: Round,
) -> Result<(), ApiError> {
    let face = Face::of(admission.call);
    let mut shown = face.show(new);
    let shown_old = old.filter(|_| !face.is_new()).map(|old| face.show(old));
    let mut changed = false;
    for (index, after) in round.called {
        let hook = &round.hooks[index];
        if hook.reinvoked && after != shown {
            let place = Place { way: Way::Mutating, round: 1, index };
            changed |= change(admission, hook, place, &mut shown, shown_old.as_ref()).await?;
        }
    }
    if changed {
        face.put(shown, new);
    }
    Ok(())
}

/// Lets one webhook change an object; whether it was called.
async fn change(
    admission: &mut Admission<'_>,
    hook: &Hook,
    place: Place,
    shown: &mut Value,
    old: Option<&Value>,
) -> Result<bool, ApiError> {
    let subject = Subject { operation: operation(old), object: Some(shown), old };
    let Some(asked) = ask(admission, hook, place, subject).await? else { return Ok(false) };
    take(admission, hook, place, asked, shown)?;
    Ok(true)
}

/// Asks validating webhooks about a write.
pub(super) async fn validate(
    admission: &mut Admission<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let hooks = configured(admission, Way::Validating);
    if hooks.is_empty() {
        return Ok(());
    }
    let face = Face::of(admission.call);
    let shown = face.show(new);
    let old = old.filter(|_| !face.is_new()).map(|old| face.show(old));
    let subject =
        Subject { operation: operation(old.as_ref()), object: Some(&shown), old: old.as_ref() };
    judge(admission, &hooks, subject).await
}

/// Asks webhooks of both ways about a deletion.
pub(super) async fn delete(admission: &mut Admission<'_>, object: &Value) -> Result<(), ApiError> {
    let subject = Subject { operation: Operation::Delete, object: None, old: Some(object) };
    permit(admission, subject).await
}

/// Asks about an action on an object that writes nothing by itself: a connection, an eviction, a
/// token. The texts are warnings for the client.
pub(crate) async fn action(
    server: &Server,
    call: &Call,
    operation: Operation,
    object: &Value,
    dry_run: bool,
) -> Result<Vec<String>, ApiError> {
    let mut admission = Admission::new(server, call, dry_run);
    permit(&mut admission, Subject { operation, object: Some(object), old: None }).await?;
    Ok(admission.warnings)
}

/// Asks webhooks of both ways; what the mutating ones would change is left.
async fn permit(admission: &mut Admission<'_>, subject: Subject<'_>) -> Result<(), ApiError> {
    let hooks = configured(admission, Way::Mutating);
    for (index, hook) in hooks.iter().enumerate() {
        let place = Place { way: Way::Mutating, round: 0, index };
        if let Some(asked) = ask(admission, hook, place, subject).await? {
            note(admission, &asked.verdict);
            if let Some(refusal) = asked.verdict.refusal {
                return Err(refusal);
            }
        }
    }
    let hooks = configured(admission, Way::Validating);
    judge(admission, &hooks, subject).await
}

/// Asks validating webhooks, all at once; the first refusal in their order counts.
async fn judge(
    admission: &mut Admission<'_>,
    hooks: &[Hook],
    subject: Subject<'_>,
) -> Result<(), ApiError> {
    let shared: &Admission<'_> = admission;
    let answers = join_all(hooks.iter().enumerate().map(|(index, hook)| {
        ask(shared, hook, Place { way: Way::Validating, round: 0, index }, subject)
    }));
    for asked in answers.await {
        if let Some(Answered { verdict, .. }) = asked? {
            note(admission, &verdict);
            if let Some(refusal) = verdict.refusal {
                return Err(refusal);
            }
        }
    }
    Ok(())
}

/// The webhooks of a kind of configuration, in the order in which they are called.
fn configured(admission: &Admission<'_>, way: Way) -> Arc<Vec<Hook>> {
    let names = &admission.call.kind.names;
    if names.group == GROUP && EXEMPT.contains(&names.plural.as_str()) {
        return Arc::default();
    }
    let Some(kind) = admission.call.registry.resource(GROUP, "v1", way.plural()) else {
        return Arc::default();
    };
    let records = list::every(admission.server, kind, "");
    admission.server.admission_webhooks.of(way, &records)
}

/// Which call of a webhook this is, for the audit log.
#[derive(Clone, Copy)]
struct Place {
    way: Way,
    round: usize,
    index: usize,
}

/// What a webhook said, and in which version it was asked.
struct Answered {
    verdict: Verdict,
    /// `None` for the version of the request.
    version: Option<Arc<Kind>>,
}

/// What a webhook says; `None` if it is not concerned, or cannot be reached and need not be.
async fn ask(
    admission: &Admission<'_>,
    hook: &Hook,
    place: Place,
    subject: Subject<'_>,
) -> Result<Option<Answered>, ApiError> {
    let Some(version) = concerns(admission, hook, subject)? else { return Ok(None) };
    match conditions::hold(hook, subject) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(_) if hook.fails_open => return Ok(None),
        Err(why) => {
            return Err(ApiError::forbidden(&admission.call.resource(), "", &why));
        }
    }
    let call = admission.call;
    let uid = crate::metadata::fresh_uid();
    let converted = version.as_ref().map(|to| {
        let convert = |object: &Value| converted(&call.kind, to, object);
        (subject.object.map(convert), subject.old.map(convert))
    });
    let (object, old) = match &converted {
        Some((object, old)) => (object.as_ref(), old.as_ref()),
        None => (subject.object, subject.old),
    };
    let request = Request {
        call,
        uid: &uid,
        operation: subject.operation,
        object,
        old,
        version: version.as_deref(),
        dry_run: admission.dry_run,
        delete_options: admission.delete_options.as_ref(),
    };
    let document = request.review(hook.review_version);
    let read = post(admission.server, hook, &document)
        .await
        .and_then(|answer| review::verdict(&hook.name, &uid, hook.review_version, &answer));
    match read {
        Ok(verdict) => Ok(Some(Answered { verdict, version })),
        Err(why) if hook.fails_open => {
            let Place { way, round, index } = place;
            let key = format!(
                "failed-open.{}.webhook.admission.k8s.io/round_{round}_index_{index}",
                way.as_str()
            );
            call.notes.annotate(key, hook.name.clone());
            tracing::warn!(
                webhook = hook.name,
                why,
                "admission webhook failed; its policy is Ignore"
            );
            Ok(None)
        }
        Err(why) => {
            Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)))
        }
    }
}

async fn post(server: &Server, hook: &Hook, document: &Value) -> Result<Value, String> {
    let target = hook.target.as_ref().map_err(Clone::clone)?;
    let answer = server.webhooks.post(&server.store, target, document, hook.timeout).await;
    answer.map_err(|error| format!("failed to call webhook: {error}"))
}

fn converted(from: &Kind, to: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    from.to_storage(&mut object);
    to.from_storage(&mut object);
    object
}

/// Whether a webhook is asked: `Some(None)` in the version of the request, `Some(Some(_))` in
/// another one that its rules name.
fn concerns(
    admission: &Admission<'_>,
    hook: &Hook,
    subject: Subject<'_>,
) -> Result<Option<Option<Arc<Kind>>>, ApiError> {
    let call = admission.call;
    let kinds = equivalents(call);
    let form = |kind: &Kind| Form {
        group: kind.names.group.clone(),
        version: kind.names.version.clone(),
        resource: kind.names.plural.clone(),
    };
    let asked = Asked {
        operation: subject.operation,
        form: form(&call.kind),
        equivalents: kinds.iter().map(|kind| form(kind)).collect(),
        subresource: &call.path.subresource,
        namespaced: call.kind.namespaced(),
    };
    let Some(found) = matching_form(&hook.spec, &asked) else { return Ok(None) };
    if !hook.namespaces.is_everything() && !selects_namespace(admission, hook, subject)? {
        return Ok(None);
    }
    if !selects(&hook.objects, &[subject.object, subject.old]) {
        return Ok(None);
    }
    let other = found.and_then(|index| kinds.get(index)).cloned();
    Ok(Some(other.filter(|_| is_converted_here(admission.server, call))))
}

/// The other versions and groups in which the resource is served.
fn equivalents(call: &Call) -> Vec<Arc<Kind>> {
    let place = |kind: &Kind| {
        kind.storage.as_ref().map(|storage| (storage.group.clone(), storage.plural.clone()))
    };
    let own = place(&call.kind);
    if own.is_none() {
        return Vec::new();
    }
    let others = call.registry.iter();
    others.filter(|kind| place(kind) == own && kind.names != call.kind.names).cloned().collect()
}

/// Whether the server converts between the versions of the resource by itself.
fn is_converted_here(server: &Server, call: &Call) -> bool {
    let Some(name) = &call.kind.definition else { return true };
    let key = format!("apiextensions.k8s.io/customresourcedefinitions//{name}");
    let definition = server.store.get(&key).map(|record| encode::parse(&record));
    definition.is_some_and(|one| one.str_at(&["spec", "conversion", "strategy"]) != "Webhook")
}

fn selects_namespace(
    admission: &Admission<'_>,
    hook: &Hook,
    subject: Subject<'_>,
) -> Result<bool, ApiError> {
    let call = admission.call;
    let names = &call.kind.names;
    if names.group.is_empty() && names.plural == "namespaces" {
        let namespace = subject.object.or(subject.old);
        return Ok(selects(&hook.namespaces, &[namespace]));
    }
    if !call.kind.namespaced() {
        return Ok(true);
    }
    let name = call.namespace();
    let record =
        admission.server.store.get(&format!("/namespaces//{name}")).ok_or_else(|| {
            ApiError::not_found(&objects::GroupResource::new("", "namespaces"), name)
        })?;
    Ok(selects(&hook.namespaces, &[Some(&encode::parse(&record))]))
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
    hook: &Hook,
    place: Place,
    answered: Answered,
    shown: &mut Value,
) -> Result<(), ApiError> {
    let Answered { verdict, version } = answered;
    note(admission, &verdict);
    if let Some(refusal) = verdict.refusal {
        return Err(refusal);
    }
    let before = shown.clone();
    if let Some(bytes) = &verdict.patch {
        let patched = patched(admission, version.as_deref(), bytes, shown);
        *shown = patched.map_err(ApiError::internal)?;
    }
    let Place { round, index, .. } = place;
    admission.call.notes.annotate(
        format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}"),
        json!({
            "configuration": hook.configuration,
            "webhook": hook.name,
            "mutated": *shown != before,
        })
        .to_string(),
    );
    Ok(())
}

/// The object as a patch leaves it, decoded and completed; the error is for the client.
fn patched(
    admission: &Admission<'_>,
    version: Option<&Kind>,
    bytes: &[u8],
    shown: &Value,
) -> Result<Value, String> {
    let call = admission.call;
    let (operations, _) = patch::json_patch::parse(bytes).map_err(|error| error.to_string())?;
    let start = version.map_or_else(|| shown.clone(), |to| converted(&call.kind, to, shown));
    let mut object =
        patch::json_patch::apply(start, &operations).map_err(|error| error.to_string())?;
    if let Some(from) = version {
        object = converted(from, &call.kind, &object);
    }
    let is_whole = shown.kind() == call.kind.names.kind;
    let schema = match is_whole {
        true => admission.server.schemas.of(&call.kind),
        false => patch::schema::for_kind(shown.api_version(), shown.kind()),
    };
    if let Some(schema) = &schema {
        let decoded = patch::decode::value(object, schema, &codec::LEAVES);
        object = decoded.map_err(|error| error.to_string())?.value;
    }
    object["apiVersion"] = shown["apiVersion"].clone();
    object["kind"] = shown["kind"].clone();
    for field in SYSTEM_METADATA {
        match shown.at(&["metadata", field]) {
            Some(value) => object.set_at(&["metadata", field], value.clone()),
            None => drop(object.remove_at(&["metadata", field])),
        }
    }
    if is_whole {
        codec::default(admission.server, call, &mut object);
    }
    Ok(object)
}
