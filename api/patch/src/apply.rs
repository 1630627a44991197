//! Server-side apply, and the ownership of fields that every other write leaves behind.
//!
//! Objects are in normal form (see [`crate::decode`]); the live object of a create is
//! [`empty`]'s. Managers that wrote through another version of the kind are compared as if they had
//! written through this one.
//!
//! Source of behaviour: kubernetes-sigs structured-merge-diff v6 (`merge`) and kubernetes
//! apimachinery `util/managedfields`, v1.36.

mod compare;
mod fieldset;
mod managed;
mod merge;
mod typed;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::decode::{self, Leaves};
use crate::error::{Conflict, PatchError};
use crate::schema::Schema;
use compare::{Comparison, compare};
use managed::{Id, Managed, Operation, Owned};

pub use fieldset::FieldSet;

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// `apiVersion` written through.
    pub api_version: &'a str,
    /// Subresource written through, empty for the main resource.
    pub subresource: &'a str,
    /// Time of the write, RFC 3339 with seconds.
    pub now: &'a str,
    /// Fields that a write through this (sub)resource cannot change, such as `status` through the
    /// main resource: nobody becomes their owner by it.
    pub reset_fields: &'a FieldSet,
}

/// The manager of what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The annotation in which client-side apply keeps its last configuration.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Larger annotations are dropped instead of written.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Fields nobody owns.
static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// The object that a create changes: a type's normal form with nothing in it.
pub fn empty(schema: &Schema, leaves: &Leaves) -> Value {
    let empty = Value::Object(Map::new());
    decode::value(empty.clone(), schema, leaves).map_or(empty, |decoded| decoded.value)
}

/// Records in the new object's `metadata.managedFields` what a plain write (create, update, patch)
/// changed. What the new object says there is taken as the client's wish, as upstream does: none
/// keeps the live object's, `[{}]` clears it.
pub fn track(live: &Value, new: &mut Value, schema: &Schema, writer: &Writer<'_>) {
    let Some(mut managed) = wished(live, new, writer) else {
        return;
    };
    remove_managed_fields(new);
    // An object without owners stays so until it is applied, but a new one gets some.
    let created = live["metadata"]["uid"].as_str().unwrap_or_default().is_empty();
    if managed.0.is_empty() && !created {
        return;
    }
    if update(&mut managed, live, new, schema, writer) {
        managed.cap();
    }
    managed.write(new);
}

/// The owners to start from; `None` if the live object's are unreadable and nothing is to change.
fn wished(live: &Value, new: &Value, writer: &Writer<'_>) -> Option<Managed> {
    let of_live = || Some(Managed::read(live).unwrap_or_default());
    if !writer.subresource.is_empty() {
        return of_live();
    }
    if new["metadata"]["managedFields"] == json!([{}]) {
        return Some(Managed::default());
    }
    match Managed::read(new) {
        Some(managed) if !managed.0.is_empty() => Some(managed),
        _ => of_live(),
    }
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    remove_managed_fields(&mut object);
    object
}

/// Gives the writer what a plain write changed, and takes it from all others. Nothing happens (and
/// `false` is given) if either object cannot be divided.
fn update(
    managed: &mut Managed,
    live: &Value,
    new: &Value,
    schema: &Schema,
    writer: &Writer<'_>,
) -> bool {
    let live = &without_managed_fields(live);
    if !typed::check(live, schema, true).is_empty() || !typed::check(new, schema, true).is_empty() {
        return false;
    }
    let changes = compare(live, new, schema);
    let visible = changes.clone().exclude(writer.reset_fields);
    settle(managed, &visible, None);
    let id = Id::new(writer.manager, Operation::Update, writer.api_version, writer.subresource);
    let gained = changes
        .modified
        .union(&changes.added)
        .recursive_difference(writer.reset_fields)
        .difference(&STRIPPED);
    if gained.is_empty() {
        return true;
    }
    let owned = managed.0.entry(id).or_insert_with(|| Owned {
        fields: FieldSet::default(),
        api_version: writer.api_version.to_string(),
        time: None,
    });
    owned.fields = owned.fields.union(&gained);
    owned.time = Some(writer.now.to_string());
    true
}

/// Takes what changed from every manager but one.
fn settle(managed: &mut Managed, changes: &Comparison, except: Option<&Id>) {
    let changed = changes.modified.union(&changes.added).union(&changes.removed);
    managed.0.retain(|id, owned| {
        if Some(id) != except {
            owned.fields = owned.fields.difference(&changed);
        }
        !owned.fields.is_empty()
    });
}

/// Applies a configuration (as the client sent it, not in normal form) to the live object, or to
/// [`empty`] if there is none. The result is to be decoded and defaulted like any other write.
pub fn apply(
    live: &Value,
    config: &Value,
    schema: &Schema,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, PatchError> {
    check_config(config, writer)?;
    let Some(managed) = Managed::read(live) else {
        return Err(PatchError::Internal("failed to decode managed fields".to_string()));
    };
    let applied = match attempt(live, config, managed.clone(), schema, writer, force) {
        Err(PatchError::Conflict(conflicts)) if writer.manager == "kubectl" => {
            // What client-side apply set, and nobody changed since, kubectl may take over.
            let allowed = last_applied_fields(live, schema);
            let allowed = allowed.paths();
            let left: Vec<Conflict> = conflicts
                .into_iter()
                .filter(|conflict| !allowed.contains(&conflict.field))
                .collect();
            if !left.is_empty() {
                return Err(PatchError::Conflict(left));
            }
            attempt(live, config, managed, schema, writer, true)
        }
        other => other,
    };
    let mut object = applied?;
    if writer.manager == "kubectl" {
        refresh_last_applied(&mut object, config);
    }
    Ok(object)
}

fn check_config(config: &Value, writer: &Writer<'_>) -> Result<(), PatchError> {
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.is_empty() || kind.is_empty() {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let text = format!("invalid object type: {group}/{version}, Kind={kind}");
        return Err(PatchError::BadRequest(text));
    }
    if version != writer.api_version {
        return Err(PatchError::BadRequest(format!(
            "incorrect version specified in apply patch. Specified patch version: {version}, \
             expected: {}",
            writer.api_version
        )));
    }
    if !config["metadata"]["managedFields"].is_null() {
        let text = "metadata.managedFields must be nil";
        return Err(PatchError::BadRequest(text.to_string()));
    }
    Ok(())
}

/// `NAMESPACE/NAME; GROUP/VERSION, Kind=KIND`, as messages name an object.
fn object_name(object: &Value) -> String {
    let meta = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let version = if version.contains('/') { version.to_string() } else { format!("/{version}") };
    let kind = object["kind"].as_str().unwrap_or_default();
    format!("{}/{}; {version}, Kind={kind}", meta("namespace"), meta("name"))
}

fn attempt(
    live: &Value,
    config: &Value,
    mut managed: Managed,
    schema: &Schema,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, PatchError> {
    let bare = without_managed_fields(live);
    if managed.0.is_empty() {
        let before = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        let nothing = skeleton(&bare, schema);
        update(&mut managed, &nothing, &bare, schema, &before);
    }
    let refused = |which: &str, object: &Value, errors: &[String]| {
        let text = typed::join(errors);
        PatchError::Internal(format!(
            "failed to create typed {which} object ({}): {text}",
            object_name(object)
        ))
    };
    let errors = typed::check(config, schema, false);
    if !errors.is_empty() {
        return Err(refused("patch", config, &errors));
    }
    let errors = typed::check(&bare, schema, true);
    if !errors.is_empty() {
        return Err(refused("live", &bare, &errors));
    }
    let id = Id::new(writer.manager, Operation::Apply, writer.api_version, writer.subresource);
    let merged = merge::merge(&bare, config, schema);
    let last = managed.0.remove(&id);
    let fields = typed::field_set(config, schema).recursive_difference(writer.reset_fields);
    let owned = Owned {
        fields,
        api_version: writer.api_version.to_string(),
        time: last.as_ref().and_then(|last| last.time.clone()),
    };
    managed.0.insert(id.clone(), owned);
    let mut object = match &last {
        Some(last) if !last.fields.is_empty() => prune(&merged, &managed, &last.fields, schema),
        _ => merged,
    };
    let changes = compare(&bare, &object, schema).exclude(writer.reset_fields);
    if !force {
        refuse_conflicts(&managed, &changes, &id)?;
    }
    settle(&mut managed, &changes, Some(&id));
    if let Some(owned) = managed.0.get_mut(&id) {
        owned.fields = owned.fields.difference(&STRIPPED);
        // An apply that changes nothing leaves no time, even the first of its manager.
        if object != bare {
            owned.time = Some(writer.now.to_string());
        }
        if owned.fields.is_empty() {
            managed.0.remove(&id);
        }
    }
    managed.write(&mut object);
    Ok(object)
}

/// The parts of an object that are there even in an empty one of its type.
fn skeleton(object: &Value, schema: &Schema) -> Value {
    let no_leaves =
        Leaves { quantity: |t| Ok(t.into()), time: |t| Ok(t.into()), micro_time: |t| Ok(t.into()) };
    let mut out = empty(schema, &no_leaves);
    for name in ["apiVersion", "kind"] {
        out[name] = object[name].clone();
    }
    out
}

/// Fails if what changes is owned by another manager.
fn refuse_conflicts(
    managed: &Managed,
    changes: &Comparison,
    writer: &Id,
) -> Result<(), PatchError> {
    let changed = changes.modified.union(&changes.added);
    let others = managed.0.iter().filter(|(id, _)| *id != writer);
    let conflicts: Vec<Conflict> = others
        .flat_map(|(id, owned)| {
            let message = format!("conflict with {}", id.printed());
            let fields = owned.fields.intersection(&changed).paths();
            fields.into_iter().map(move |field| Conflict { message: message.clone(), field })
        })
        .collect();
    if conflicts.is_empty() { Ok(()) } else { Err(PatchError::Conflict(conflicts)) }
}

/// Removes what the applier owned before and does not apply any more, unless somebody else owns it.
fn prune(merged: &Value, managed: &Managed, last: &FieldSet, schema: &Schema) -> Value {
    let ensured = |set: &FieldSet| merge::ensure_fields(set, schema);
    let of = |value: &Value| ensured(&typed::field_set(value, schema));
    let last = ensured(last);
    let without = merge::remove(merged, &last, schema);
    // Back comes what anybody owns, the applier's new configuration included …
    let owners = managed.0.values().fold(FieldSet::default(), |all, one| all.union(&one.fields));
    let in_merged = of(merged);
    let unowned = in_merged.difference(&of(&without).union(&ensured(&owners)));
    let with_owned = merge::remove(merged, &unowned, schema);
    // … and what the applier did not own: it only stood within something removed.
    let dangling = in_merged.difference(&of(&with_owned)).intersection(&last);
    merge::remove(merged, &dangling, schema)
}

/// What client-side apply's annotation lists and is still as it says.
fn last_applied_fields(live: &Value, schema: &Schema) -> FieldSet {
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let Ok(last) = serde_json::from_str::<Value>(annotation) else {
        return FieldSet::default();
    };
    if !typed::check(&last, schema, true).is_empty() {
        return FieldSet::default();
    }
    let changes = compare(&last, live, schema);
    typed::field_set(&last, schema)
        .difference(&changes.modified)
        .difference(&changes.added)
        .difference(&changes.removed)
}

/// Keeps client-side apply's annotation, where there is one, in step with kubectl's server-side
/// applies, so that a user can go back.
fn refresh_last_applied(object: &mut Value, config: &Value) {
    let annotations = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    let Some(annotations) = annotations.filter(|all| all.contains_key(LAST_APPLIED)) else {
        return;
    };
    let mut last = without_managed_fields(config);
    if let Some(own) = last["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        own.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_string(), Value::String(format!("{last}\n")));
    let value_len = |value: &Value| value.as_str().map_or(0, str::len);
    let total: usize = annotations.iter().map(|(key, value)| key.len() + value_len(value)).sum();
    if total > ANNOTATIONS_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

/// Whether two objects are the same but for the times in `managedFields` (and resourceVersion): a
/// write that changes nothing else is not worth storing, and the old object stands.
pub fn same_but_for_times(old: &Value, new: &Value) -> bool {
    same_except(old, new, &["metadata"])
        && same_except(&old["metadata"], &new["metadata"], &["resourceVersion", "managedFields"])
        && {
            let (old, new) = (managed_list(old), managed_list(new));
            old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| same_except(old, new, &["time"]))
        }
}

fn managed_list(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether two maps have the same entries, some keys aside.
fn same_except(old: &Value, new: &Value, except: &[&str]) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return old == new;
    };
    let counted = |key: &&String| !except.contains(&key.as_str());
    old.keys().filter(counted).all(|key| old.get(key) == new.get(key))
        && new.keys().filter(counted).all(|key| old.contains_key(key))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
