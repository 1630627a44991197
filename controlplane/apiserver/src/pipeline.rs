//! The one way into the store: every write of every verb and subresource goes through [`write`].

use std::sync::Arc;

use kinds::WriteContext;
use objects::{ApiError, FieldErrors, ObjectExt};
use serde_json::{Value, json};
use store::{Record, Write, WriteError};

use crate::admission::{self, Admission};
use crate::call::Call;
use crate::codec;
use crate::crd;
use crate::encode;
use crate::metadata;
use crate::options::WriteOptions;
use crate::ownership;
use crate::route::Verb;
use crate::server::Server;

/// How often a write that others overtook is tried again before the client is told.
const ATTEMPTS: usize = 100;
/// How often another random name is tried, as upstream does.
const NAME_ATTEMPTS: usize = 8;

/// The stored object that a write starts from.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its record.
    pub record: Arc<Record>,
    /// Its parsed form in the call's version.
    pub object: Value,
}

/// What a write makes of the stored object. It may be asked again, with a newer one.
pub(crate) trait Change: Send + Sync {
    /// The new object, decoded; its system metadata need not be right. `None` for `old` means that
    /// there is no such object.
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError>;
}

/// A new object on its way into the store.
#[derive(Debug, Clone)]
pub(crate) struct Produced {
    /// The object.
    pub object: Value,
    /// How its fields get their manager.
    pub ownership: Ownership,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// What happens to `managedFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Changed fields go to the request's manager.
    Update,
    /// Already done (server-side apply).
    Done,
    /// Stays as it is (writes by the server itself).
    Keep,
}

/// What a write did.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The object as stored, in the call's version.
    pub object: Value,
    /// Whether it came into being.
    pub created: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Carries out one write. `options` say whether it is a dry run and who the field manager is.
pub(crate) async fn write(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    change: &dyn Change,
) -> Result<Written, ApiError> {
    let mut names_left = NAME_ATTEMPTS;
    for _ in 0..ATTEMPTS {
        let old = stored(server, call).await?;
        let Produced { object: mut new, ownership, mut warnings } =
            change.produce(call, old.as_ref())?;
        let old = if call.name().is_empty() { None } else { old };
        // The server's own writes are made from whatever is there, and tried again with newer.
        let pinned = check_version(call, &new, old.as_ref(), options.dry_run)?
            && ownership != Ownership::Keep;
        codec::default(server, call, &mut new);
        let live = old.as_ref().map(|old| &old.object);
        ownership::track(server, call, options, ownership, &mut new, live);
        let uid = metadata::fresh_uid();
        let context = context(call, &uid);
        let generated = system_metadata(call, &mut new, old.as_ref(), &uid);
        let mut admitted = Admission::new(server, call, options.dry_run);
        admission::mutate(&mut admitted, &mut new, old.as_ref()).await?;
        prepare(call, &mut new, old.as_ref(), &context);
        validate(server, call, &new, old.as_ref(), &context)?;
        warnings.extend(call.kind.behaviour.warnings(&new, old.as_ref().map(|old| &old.object)));
        admission::admit(&mut admitted, &mut new, old.as_ref()).await?;
        warnings.append(&mut admitted.warnings);
        if let Some(old) = &old
            && metadata::same(&new, &old.object)
            && !completes_deletion(call, &new)
        {
            let object = old.object.clone();
            return Ok(Written { object, created: false, warnings });
        }
        match commit(server, call, options.dry_run, &new, old.as_ref()).await? {
            Outcome::Done { record } => {
                admitted.committed();
                let object = match record {
                    Some(record) => {
                        crd::convert::prepare(server, call, [&record]).await?;
                        call.object(&record)
                    }
                    None => new,
                };
                return Ok(Written { object, created: old.is_none(), warnings });
            }
            Outcome::Taken if generated && names_left > 1 => names_left -= 1,
            Outcome::Taken => return Err(ApiError::already_exists(&call.resource(), new.name())),
            Outcome::Overtaken if pinned => {
                return Err(ApiError::modified(&call.resource(), new.name()));
            }
            Outcome::Overtaken => {}
        }
    }
    Err(ApiError::modified(&call.resource(), call.name()))
}

async fn stored(server: &Server, call: &Call) -> Result<Option<Stored>, ApiError> {
    if call.name().is_empty() {
        return Ok(None);
    }
    let Some(record) = server.store.get(&call.key(call.name())) else { return Ok(None) };
    crd::convert::prepare(server, call, [&record]).await?;
    let object = call.object(&record);
    Ok(Some(Stored { record, object }))
}

fn context<'a>(call: &'a Call, uid: &'a str) -> WriteContext<'a> {
    WriteContext {
        now: call.now,
        user: &call.user.name,
        groups: &call.user.groups,
        extra: &call.user.extra,
        subresource: &call.path.subresource,
        fresh_uid: uid,
    }
}

/// Checks the uid and resource version that the client sent. Returns whether the write is pinned
/// to one version, so that it must not be tried again.
fn check_version(
    call: &Call,
    new: &Value,
    old: Option<&Stored>,
    dry_run: bool,
) -> Result<bool, ApiError> {
    let version = new.resource_version();
    let Some(old) = old else {
        if !version.is_empty() && version != "0" && call.name().is_empty() && !dry_run {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(500, "", why));
        }
        return Ok(false);
    };
    let (uid, old_uid) = (new.uid(), old.object.uid());
    if !uid.is_empty() && uid != old_uid && call.verb == Verb::Patch {
        // A patch is no precondition. Upstream's two validations both say so.
        let mut errors = FieldErrors::default();
        let path = objects::FieldPath::new("metadata").child("uid");
        errors.invalid_str(&path, uid, "field is immutable");
        errors.invalid_str(&path, uid, "field is immutable");
        return Err(ApiError::invalid(&call.kind.group_kind(), call.name(), &errors));
    }
    if !uid.is_empty() && uid != old_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
        );
        return Err(ApiError::conflict(&call.resource(), call.name(), &why));
    }
    match version {
        "" | "0" => {
            if call.kind.behaviour.unconditional_update() {
                return Ok(false);
            }
            let mut errors = FieldErrors::default();
            errors.invalid_printed(
                &objects::FieldPath::new("metadata").child("resourceVersion"),
                "0".into(),
                "must be specified for an update",
            );
            // Upstream's storage says this, which knows the resource only.
            let names = &call.kind.names;
            let resource =
                objects::GroupKind { group: names.group.clone(), kind: names.plural.clone() };
            Err(ApiError::invalid(&resource, call.name(), &errors))
        }
        text => match text.parse::<u64>() {
            // A patched object has the version it was made from. If the patch itself named one, it
            // will not fit the newer object when the patch is tried again.
            Ok(revision) if revision == old.record.revision => Ok(call.verb != Verb::Patch),
            Ok(_) => Err(ApiError::modified(&call.resource(), call.name())),
            Err(_) => Err(crate::verbs::update::unreadable_version(text)),
        },
    }
}

fn system_metadata(call: &Call, new: &mut Value, old: Option<&Stored>, uid: &str) -> bool {
    match old {
        None => metadata::prepare_create(new, &call.kind, call.namespace(), uid, call.now),
        Some(old) => {
            metadata::prepare_update(new, &old.object);
            let revision = old.record.revision.to_string();
            new.set_at(&["metadata", "resourceVersion"], json!(revision));
            false
        }
    }
}

fn prepare(call: &Call, new: &mut Value, old: Option<&Stored>, context: &WriteContext<'_>) {
    match old {
        None => call.kind.behaviour.prepare_create(new, context),
        Some(old) => call.kind.behaviour.prepare_update(new, &old.object, context),
    }
}

fn validate(
    server: &Server,
    call: &Call,
    new: &Value,
    old: Option<&Stored>,
    context: &WriteContext<'_>,
) -> Result<(), ApiError> {
    let mut errors = FieldErrors::default();
    match old {
        None => {
            metadata::validate(new, &call.kind, &mut errors);
            codec::validate_schema(server, call, new, None, &mut errors);
            call.kind.behaviour.validate(new, &mut errors);
        }
        Some(old) => {
            metadata::validate_update(new, &old.object, &mut errors);
            codec::validate_schema(server, call, new, Some(&old.object), &mut errors);
            call.kind.behaviour.validate_update(new, &old.object, context, &mut errors);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&call.kind.group_kind(), new.name(), &errors))
}

/// Whether an update takes away the last thing that kept a deleted object.
fn completes_deletion(call: &Call, new: &Value) -> bool {
    !admission::holds_deletion(call, new)
        && !new.deletion_timestamp().is_empty()
        && new.finalizers().is_empty()
        && new.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
}

enum Outcome {
    Done {
        /// `None` for a dry run.
        record: Option<Arc<Record>>,
    },
    /// Somebody has this name already.
    Taken,
    /// Somebody changed the object in between.
    Overtaken,
}

async fn commit(
    server: &Server,
    call: &Call,
    dry_run: bool,
    new: &Value,
    old: Option<&Stored>,
) -> Result<Outcome, ApiError> {
    let deleted = old.is_some() && completes_deletion(call, new);
    let key = call.key(new.name());
    if dry_run {
        let taken = old.is_none() && server.store.get(&key).is_some();
        return Ok(if taken { Outcome::Taken } else { Outcome::Done { record: None } });
    }
    let mut stored = new.clone();
    crd::convert::to_storage(server, call, &mut stored).await?;
    let mut payload = encode::payload(&stored);
    if let Some(at_secs) = admission::expiry_secs(server, call) {
        payload = payload.expiring(at_secs);
    }
    let write = match old {
        None => Write::Create(payload),
        Some(old) if deleted => Write::Delete(payload, old.record.revision),
        Some(old) => Write::Update(payload, old.record.revision),
    };
    match server.store.commit(key, write).await {
        Ok(record) => Ok(Outcome::Done { record: Some(record) }),
        Err(WriteError::Exists(_)) => Ok(Outcome::Taken),
        Err(WriteError::Conflict(_)) => Ok(Outcome::Overtaken),
        // Deleted meanwhile: what was read is no longer there to be changed.
        Err(WriteError::NotFound) => Err(ApiError::not_found(&call.resource(), new.name())),
        Err(error) => Err(unavailable(&error)),
    }
}

/// A failure of the store itself: told to the log in full, to the client in short.
pub(crate) fn unavailable(error: &WriteError) -> ApiError {
    tracing::error!(error = error as &dyn std::error::Error, "write to the store failed");
    let mut answer = ApiError::new(503, "ServiceUnavailable", "the store cannot take writes now");
    answer.retry_after_secs = Some(1);
    answer
}
