//! Changes to the API as data, and the carrying out of them.
//!
//! A plan is a list of [`Action`]s; [`carry_out`] does them in order. Neighbours that are creates
//! (or deletes) of one resource do not depend on each other and run side by side, in batches that
//! double from one: if the first create is refused (a quota, say), the other 999 are not tried.
//! Every action carries its preconditions, so that a plan made from an old view does no harm.

use futures::future::join_all;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use kube::Client;
use objects::{ObjectExt, ObjectKey, Revision};
use serde_json::{Value, json};

use crate::ResourcePath;
use crate::resource::encode;

/// Most requests under way for one plan.
const BATCH_MAX: usize = 64;

/// What a delete does to the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay, without the owner.
    Orphan,
}

impl Propagation {
    /// As in `DeleteOptions.propagationPolicy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// The form of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge patch; built-in kinds only.
    Strategic,
    /// RFC 6902.
    Json,
    /// Server-side apply by this field manager.
    Apply {
        /// Field manager.
        manager: String,
        /// Take fields over from other managers.
        force: bool,
    },
}

impl PatchType {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }
}

/// What is done to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Fails if the name is taken.
    Create(Value),
    /// Replaces the object. Its `metadata.resourceVersion` is the precondition.
    Update(Value),
    /// Replaces the status (or another subresource) of the object; same precondition.
    UpdateSubresource(&'static str, Value),
    /// Creates through a subresource, such as `binding` or `eviction`.
    CreateSubresource(&'static str, Value),
    /// Patches the object, or a subresource of it.
    Patch {
        /// Form of `body`.
        form: PatchType,
        /// Subresource, such as `status`; `None` for the object itself.
        subresource: Option<&'static str>,
        /// The patch. A `metadata.uid` or `metadata.resourceVersion` in it is a precondition.
        body: Value,
    },
    /// Deletes the object. That it is gone already is success.
    Delete {
        /// Only the object with this uid.
        uid: Option<String>,
        /// Only this version of it.
        revision: Option<Revision>,
        /// Grace period; the kind's default if `None`.
        grace_secs: Option<u32>,
        /// What happens to what it owns; the kind's default if `None`.
        propagation: Option<Propagation>,
    },
    /// Deletes every object of the key's namespace (of all, if that is empty).
    DeleteCollection,
    /// Changes nothing; fails with 409 if the server has an object of this uid under the key. A
    /// guard for actions that must not be taken from an old view.
    RequireAbsent {
        /// Uid of the object that must not be there.
        uid: String,
    },
    /// Changes nothing; fails with 409 if the server has any object in the key's namespace.
    RequireEmpty,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Resource of the object.
    pub resource: ResourcePath,
    /// The object. Its name may be empty for a create with `generateName`.
    pub key: ObjectKey,
    /// What is done.
    pub verb: Verb,
}

impl Action {
    /// Creates an object of a built-in type.
    pub fn create<K: k8s_openapi::Resource + serde::Serialize>(object: &K) -> Self {
        Self::of::<K>(object, Verb::Create)
    }

    /// Replaces an object of a built-in type, if it still has its resource version.
    pub fn update<K: k8s_openapi::Resource + serde::Serialize>(object: &K) -> Self {
        Self::of::<K>(object, Verb::Update)
    }

    /// Replaces the status of an object of a built-in type, if it still has its resource version.
    pub fn update_status<K: k8s_openapi::Resource + serde::Serialize>(object: &K) -> Self {
        Self::of::<K>(object, |value| Verb::UpdateSubresource("status", value))
    }

    /// Merge-patches an object of a built-in type.
    pub fn merge<K: k8s_openapi::Resource>(key: ObjectKey, body: Value) -> Self {
        Self::patch::<K>(key, PatchType::Merge, None, body)
    }

    /// Merge-patches the status of an object of a built-in type; `status` is its content.
    pub fn merge_status<K: k8s_openapi::Resource>(key: ObjectKey, status: Value) -> Self {
        Self::patch::<K>(key, PatchType::Merge, Some("status"), json!({"status": status}))
    }

    /// Patches an object of a built-in type.
    pub fn patch<K: k8s_openapi::Resource>(
        key: ObjectKey,
        form: PatchType,
        subresource: Option<&'static str>,
        body: Value,
    ) -> Self {
        let verb = Verb::Patch { form, subresource, body };
        Self { resource: ResourcePath::of::<K>(), key, verb }
    }

    /// Deletes an object of a built-in type, if it is still the one with this uid.
    pub fn delete<K: k8s_openapi::Resource>(key: ObjectKey, uid: &str) -> Self {
        let verb = Verb::Delete {
            uid: (!uid.is_empty()).then(|| uid.to_string()),
            revision: None,
            grace_secs: None,
            propagation: None,
        };
        Self { resource: ResourcePath::of::<K>(), key, verb }
    }

    fn of<K: k8s_openapi::Resource + serde::Serialize>(
        object: &K,
        verb: impl FnOnce(Value) -> Verb,
    ) -> Self {
        let mut value = serde_json::to_value(object).expect("API types serialise to JSON");
        value.set_at(&["apiVersion"], json!(K::API_VERSION));
        value.set_at(&["kind"], json!(K::KIND));
        let key = ObjectKey::new(value.namespace(), value.name());
        Self { resource: ResourcePath::of::<K>(), key, verb: verb(value) }
    }

    /// A word for logs.
    pub fn verb_name(&self) -> &'static str {
        match &self.verb {
            Verb::Create(_) | Verb::CreateSubresource(..) => "create",
            Verb::Update(_) | Verb::UpdateSubresource(..) => "update",
            Verb::Patch { .. } => "patch",
            Verb::Delete { .. } | Verb::DeleteCollection => "delete",
            Verb::RequireAbsent { .. } | Verb::RequireEmpty => "check",
        }
    }

    /// Whether `other` may run beside this one.
    fn is_independent_of(&self, other: &Self) -> bool {
        let same_verb = matches!(
            (&self.verb, &other.verb),
            (Verb::Create(_), Verb::Create(_)) | (Verb::Delete { .. }, Verb::Delete { .. })
        );
        let is_check =
            |verb: &Verb| matches!(verb, Verb::RequireAbsent { .. } | Verb::RequireEmpty);
        if is_check(&self.verb) && is_check(&other.verb) {
            return true;
        }
        // Two creates of one name (or deletes of one key) depend on each other; a generated name
        // never clashes.
        let same_key = self.key == other.key && !self.key.name.is_empty();
        same_verb && self.resource == other.resource && !same_key
    }

    fn request(&self) -> Request<Vec<u8>> {
        let object = self.resource.object(&self.key);
        let collection = || self.resource.collection(&self.key.namespace);
        let (method, url, content_type, body) = match &self.verb {
            Verb::Create(value) => (Method::POST, collection(), JSON, value.to_string()),
            Verb::Update(value) => (Method::PUT, object, JSON, value.to_string()),
            Verb::UpdateSubresource(name, value) => {
                (Method::PUT, format!("{object}/{name}"), JSON, value.to_string())
            }
            Verb::CreateSubresource(name, value) => {
                (Method::POST, format!("{object}/{name}"), JSON, value.to_string())
            }
            Verb::Patch { form, subresource, body } => {
                let mut url = object;
                if let Some(name) = subresource {
                    url = format!("{url}/{name}");
                }
                if let PatchType::Apply { manager, force } = form {
                    url = format!("{url}?fieldManager={}&force={force}", encode(manager));
                }
                (Method::PATCH, url, form.content_type(), body.to_string())
            }
            Verb::Delete { uid, revision, grace_secs, propagation } => {
                let options = delete_options(uid.as_deref(), *revision, *grace_secs, *propagation);
                (Method::DELETE, object, JSON, options.to_string())
            }
            Verb::DeleteCollection => (
                Method::DELETE,
                collection(),
                JSON,
                delete_options(None, None, None, None).to_string(),
            ),
            Verb::RequireAbsent { .. } => (Method::GET, object, JSON, String::new()),
            Verb::RequireEmpty => {
                (Method::GET, format!("{}?limit=1", collection()), JSON, String::new())
            }
        };
        let mut request = Request::new(body.into_bytes());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().expect("the path was percent-encoded");
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        request
    }
}

const JSON: &str = "application/json";

fn delete_options(
    uid: Option<&str>,
    revision: Option<Revision>,
    grace_secs: Option<u32>,
    propagation: Option<Propagation>,
) -> Value {
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(uid) = uid {
        options.set_at(&["preconditions", "uid"], json!(uid));
    }
    if let Some(revision) = revision {
        options.set_at(&["preconditions", "resourceVersion"], json!(revision.to_string()));
    }
    if let Some(secs) = grace_secs {
        options.set_at(&["gracePeriodSeconds"], json!(secs));
    }
    if let Some(propagation) = propagation {
        options.set_at(&["propagationPolicy"], json!(propagation.as_str()));
    }
    options
}

/// What an action led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Resource of the object.
    pub resource: ResourcePath,
    /// The object, with the name the server chose if it was to generate one.
    pub key: ObjectKey,
    /// The revision of the write; `None` if the answer did not hold one (a delete answered by a
    /// `Status`), or if nothing was written because the object was gone.
    pub revision: Option<Revision>,
    /// For a delete that did not name a revision: the uid of what is going away.
    pub deleted_uid: Option<String>,
    /// The answer: the object as written, or a `Status`.
    pub answer: Value,
}

/// An action that failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {resource} {key}")]
pub struct ActionError {
    /// What was tried.
    pub verb: &'static str,
    /// Resource of the object.
    pub resource: ResourcePath,
    /// The object.
    pub key: ObjectKey,
    /// Why it failed.
    #[source]
    pub source: kube::Error,
}

impl ActionError {
    /// The server's HTTP status, 0 if there was no answer.
    pub fn code(&self) -> u16 {
        match &self.source {
            kube::Error::Api(status) => status.code,
            _ => 0,
        }
    }

    /// The server's message, else the client's.
    pub fn message(&self) -> String {
        match &self.source {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the plan was made from an old view, so that planning again is all that is needed:
    /// the object had changed (409), was there already (409) or was gone (404).
    pub fn is_stale(&self) -> bool {
        matches!(self.code(), 404 | 409)
    }
}

/// What a list of actions led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was done, in order.
    pub written: Vec<Written>,
    /// What failed. Actions after the first failure (and its batch) were not tried.
    pub failed: Vec<ActionError>,
}

impl Outcome {
    /// The highest revision written for `resource`.
    pub fn highest_revision(&self, resource: &ResourcePath) -> Option<Revision> {
        let written = self.written.iter().filter(|written| written.resource == *resource);
        written.filter_map(|written| written.revision).max()
    }
}

/// Carries out actions in order, independent neighbours side by side (see the module's text), and
/// stops at the first failure.
pub async fn carry_out(client: &Client, actions: Vec<Action>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = actions.as_slice();
    let mut batch_max = 1;
    while let Some(first) = rest.first() {
        let group = rest
            .iter()
            .take_while(|action| std::ptr::eq(*action, first) || first.is_independent_of(action));
        let (batch, later) = rest.split_at(group.count().min(batch_max));
        let more_of_the_group = later.first().is_some_and(|next| first.is_independent_of(next));
        batch_max = if more_of_the_group { (batch_max * 2).min(BATCH_MAX) } else { 1 };
        for result in join_all(batch.iter().map(|action| carry_out_one(client, action))).await {
            match result {
                Ok(written) => outcome.written.push(written),
                Err(error) => outcome.failed.push(error),
            }
        }
        if !outcome.failed.is_empty() {
            return outcome;
        }
        rest = later;
    }
    outcome
}

/// Carries out one action.
///
/// # Errors
/// If the server refuses it or cannot be reached. A delete of what is gone is not an error.
pub async fn carry_out_one(client: &Client, action: &Action) -> Result<Written, ActionError> {
    let result = client.request::<Value>(action.request()).await;
    let absence_is_fine = matches!(
        action.verb,
        Verb::Delete { .. }
            | Verb::DeleteCollection
            | Verb::RequireAbsent { .. }
            | Verb::RequireEmpty
    );
    let result = match result {
        Err(kube::Error::Api(status)) if absence_is_fine && status.code == 404 => Ok(Value::Null),
        Ok(answer) => held(action, answer),
        Err(error) => Err(error),
    };
    let answer = match result {
        Ok(answer) => answer,
        Err(source) => {
            let resource = action.resource.clone();
            let (verb, key) = (action.verb_name(), action.key.clone());
            return Err(ActionError { verb, resource, key, source });
        }
    };
    Ok(written(action, answer))
}

/// Fails if the answer shows that what the action requires does not hold.
fn held(action: &Action, answer: Value) -> Result<Value, kube::Error> {
    let refusal = match &action.verb {
        Verb::RequireAbsent { uid } if answer.uid() == uid => "the object is still there",
        Verb::RequireEmpty if !answer.list_at(&["items"]).is_empty() => "there are still objects",
        Verb::RequireAbsent { .. } | Verb::RequireEmpty => return Ok(Value::Null),
        _ => return Ok(answer),
    };
    let status = kube::core::Status::failure(refusal, "Conflict").with_code(409);
    Err(kube::Error::Api(status.boxed()))
}

fn written(action: &Action, answer: Value) -> Written {
    let is_object = !answer.name().is_empty() && answer.kind() != "Status";
    let revision = answer.resource_version().parse().ok().map(Revision).filter(|_| is_object);
    let mut key = action.key.clone();
    if is_object && key.name.is_empty() {
        key.name = answer.name().to_string();
    }
    let deleted_uid = match &action.verb {
        Verb::Delete { uid, .. } if !answer.is_null() && revision.is_none() => uid.clone(),
        _ => None,
    };
    Written { resource: action.resource.clone(), key, revision, deleted_uid, answer }
}

#[cfg(test)]
mod tests;
