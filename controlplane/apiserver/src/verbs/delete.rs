//! Deletes one object: at once, after a grace period, or once its finalizers are done.
//!
//! Source of behaviour: kubernetes apiserver `registry/rest/delete.go` and
//! `registry/generic/registry/store.go`, v1.36.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use objects::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use objects::{ApiError, ObjectExt, time};
use serde_json::{Value, json};
use store::{Record, Write, WriteError};

use crate::admission::{self, Admission};
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::codec;
use crate::crd;
use crate::encode;
use crate::negotiate::Form;
use crate::options::{DeleteOptions, Propagation};
use crate::pipeline::{self, Stored};
use crate::server::Server;
use crate::verbs::get;

/// How often a delete that others overtook is tried again.
const ATTEMPTS: usize = 100;

/// What a delete did.
#[derive(Debug)]
pub(crate) enum Removed {
    /// The object is gone; this is how it last was.
    Gone(Value),
    /// The object stays for now, marked as being deleted.
    Marked(Value),
}

/// Answers a `delete`.
pub(crate) async fn delete(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = options(call, body)?;
    let mut warnings = Vec::new();
    let options = admission::deletion_defaults(call, options, &mut warnings);
    let mut answer = match remove(server, call, &options).await? {
        Removed::Marked(object) => get::show(call, form, 200, object)?,
        Removed::Gone(object) if admission::shows_deleted(call) => {
            get::show(call, form, 200, object)?
        }
        Removed::Gone(object) => success(call, form, &object),
    };
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

/// Reads the options of a delete from its body or query.
pub(crate) fn options(call: &Call, body: &[u8]) -> Result<DeleteOptions, ApiError> {
    if body.is_empty() {
        return DeleteOptions::from_query(&call.query);
    }
    let object = codec::decode_delete_options(&call.headers, body)?;
    DeleteOptions::from_object(&object)
}

fn success(call: &Call, form: Form, object: &Value) -> Answer {
    let mut details = json!({"name": object.name(), "kind": call.kind.names.plural});
    if !call.kind.names.group.is_empty() {
        details["group"] = json!(call.kind.names.group);
    }
    if !object.uid().is_empty() {
        details["uid"] = json!(object.uid());
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    answer::value(200, form, &status)
}

/// Deletes the object in the call's path.
pub(crate) async fn remove(
    server: &Server,
    call: &Call,
    options: &DeleteOptions,
) -> Result<Removed, ApiError> {
    for _ in 0..ATTEMPTS {
        let record = server.store.get(&call.key(call.name())).ok_or_else(|| call.not_found())?;
        crd::convert::prepare(server, call, [&record]).await?;
        let stored = Stored { object: call.object(&record), record };
        check_preconditions(call, &stored, options)?;
        let mut admitted = Admission::new(server, call, options.dry_run);
        admitted.delete_options = Some(options.to_object());
        admission::admit_delete(&mut admitted, &stored.object).await?;
        let done = match plan(call, &stored.object, options, call.now) {
            Step::Nothing => return Ok(Removed::Marked(stored.object)),
            Step::Mark(object) => {
                let update = commit(server, call, &object, &stored.record, options, false);
                update.await?.map(|record| Removed::Marked(shown(call, record, object)))
            }
            Step::Remove(object) => {
                let delete = commit(server, call, &object, &stored.record, options, true);
                delete.await?.map(|record| Removed::Gone(shown(call, record, object)))
            }
        };
        if let Some(done) = done {
            if !options.dry_run && matches!(done, Removed::Gone(_)) {
                admission::released(server, call, &stored.object);
            }
            admitted.committed();
            return Ok(done);
        }
    }
    Err(ApiError::modified(&call.resource(), call.name()))
}

fn shown(call: &Call, record: Option<Arc<Record>>, object: Value) -> Value {
    record.map_or(object, |record| call.object(&record))
}

fn check_preconditions(
    call: &Call,
    stored: &Stored,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let conflict = |what: &str, wanted: &str, found: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Err(ApiError::conflict(&call.resource(), call.name(), &why))
    };
    if let Some(uid) = &options.uid
        && uid != stored.object.uid()
    {
        return conflict("UID", uid, stored.object.uid());
    }
    if let Some(version) = &options.resource_version
        && version != stored.object.resource_version()
    {
        return conflict("ResourceVersion", version, stored.object.resource_version());
    }
    Ok(())
}

enum Step {
    /// It is being deleted already, and nothing is hastened.
    Nothing,
    /// The object with its deletion written into it.
    Mark(Value),
    /// The object as its watchers last see it.
    Remove(Value),
}

/// Decides what a delete does to an object. Pure.
fn plan(call: &Call, object: &Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let mut new = object.clone();
    if admission::mark_deletion(call, &mut new) {
        return if new == *object { Step::Nothing } else { Step::Mark(new) };
    }
    let graceful = call.kind.behaviour.delete_grace_secs(object, options.grace_secs);
    let deleting = !object.deletion_timestamp().is_empty();
    set_finalizers(&mut new, options.propagation);
    let mut changed = new != *object;
    let pending = !new.finalizers().is_empty();
    let grace = graceful.unwrap_or(0).max(0);
    if deleting {
        let current = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
        let shorter = graceful.is_some() && grace < current;
        if shorter {
            // The end moves forward from the original request, not from now.
            mark(&mut new, moved(object, current, grace), grace);
            changed = true;
        }
        let left = if shorter { grace } else { current };
        return match (pending, left) {
            (false, 0) => Step::Remove(new),
            _ if changed => Step::Mark(new),
            _ => Step::Nothing,
        };
    }
    if graceful.is_none() && !pending {
        return Step::Remove(new);
    }
    let until = now + SignedDuration::from_secs(grace);
    mark(&mut new, time::format_time(until), grace);
    // An object with a generation gets a new one: being deleted is a wish like those in the spec.
    if new.generation() > 0 {
        let next = new.generation() + 1;
        new.set_at(&["metadata", "generation"], json!(next));
    }
    if grace == 0 && !pending { Step::Remove(new) } else { Step::Mark(new) }
}

fn mark(object: &mut Value, until: String, grace: i64) {
    object.set_at(&["metadata", "deletionTimestamp"], json!(until));
    object.set_at(&["metadata", "deletionGracePeriodSeconds"], json!(grace));
}

fn moved(object: &Value, was: i64, grace: i64) -> String {
    let text = object.deletion_timestamp();
    match time::parse_time(text) {
        Ok(end) => time::format_time(end - SignedDuration::from_secs(was - grace)),
        Err(_) => text.to_string(),
    }
}

/// Adds and removes the garbage collector's finalizers as the propagation asks.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let own = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
    let mut list: Vec<String> = object
        .finalizers()
        .into_iter()
        .filter(|finalizer| !own.contains(finalizer))
        .map(str::to_string)
        .collect();
    match propagation {
        Propagation::Orphan => list.push(FINALIZER_ORPHAN.into()),
        Propagation::Foreground => list.push(FINALIZER_FOREGROUND.into()),
        Propagation::Background => {}
    }
    if list.is_empty() {
        object.remove_at(&["metadata", "finalizers"]);
    } else {
        object.set_at(&["metadata", "finalizers"], json!(list));
    }
}

/// Writes the step; `None` if somebody was faster.
async fn commit(
    server: &Server,
    call: &Call,
    object: &Value,
    old: &Record,
    options: &DeleteOptions,
    remove: bool,
) -> Result<Option<Option<Arc<Record>>>, ApiError> {
    if options.dry_run {
        return Ok(Some(None));
    }
    let mut stored = object.clone();
    crd::convert::to_storage(server, call, &mut stored).await?;
    let payload = encode::payload(&stored);
    let write = match remove {
        true => Write::Delete(payload, old.revision),
        false => Write::Update(payload, old.revision),
    };
    match server.store.commit(call.key(call.name()), write).await {
        Ok(record) => {
            crd::convert::prepare(server, call, [&record]).await?;
            Ok(Some(Some(record)))
        }
        Err(WriteError::Conflict(_) | WriteError::Exists(_)) => Ok(None),
        Err(WriteError::NotFound) => Err(call.not_found()),
        Err(error) => Err(pipeline::unavailable(&error)),
    }
}
