//! Objects of one version become objects of another: by their `apiVersion` alone, or by a webhook.
//!
//! Who shows records is not asynchronous, so records are converted before they are shown, a page or a batch of
//! events in one review, and wait in the call's view.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apiserver/conversion`, v1.36.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use objects::{ApiError, GroupVersion, ObjectExt};
use parking_lot::Mutex;
use patch::decode;
use serde_json::{Value, json};
use store::Record;

use crate::call::Call;
use crate::codec::LEAVES;
use crate::encode;
use crate::server::Server;
use crate::webhook::Target;

/// How long a conversion may take, as upstream has it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook that converts a definition's objects.
pub(super) struct Webhook {
    client_config: Value,
    review_versions: Vec<String>,
}

impl Webhook {
    /// The webhook of a definition, if it has one.
    pub(super) fn of(definition: &Value) -> Option<Arc<Self>> {
        let conversion = definition.at(&["spec", "conversion"])?;
        if conversion.str_at(&["strategy"]) != "Webhook" {
            return None;
        }
        let versions = conversion.list_at(&["webhook", "conversionReviewVersions"]);
        Some(Arc::new(Self {
            client_config: conversion.at(&["webhook", "clientConfig"]).cloned().unwrap_or_default(),
            review_versions: versions.iter().filter_map(Value::as_str).map(Into::into).collect(),
        }))
    }

    /// Converts objects, all in one review.
    async fn convert(
        &self,
        server: &Server,
        kind: &str,
        to: &GroupVersion,
        objects: &[Value],
    ) -> Result<Vec<Value>, String> {
        let known = |version: &&String| matches!(version.as_str(), "v1" | "v1beta1");
        let version = self.review_versions.iter().find(known);
        let version = version.ok_or("does not support any recognized conversion review version")?;
        let target = Target::from_client_config(&self.client_config).map_err(|e| e.to_string())?;
        let uid = crate::metadata::fresh_uid();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": to.to_string(), "objects": objects},
        });
        let answer = server.webhooks.post(&server.store, &target, &review, TIMEOUT).await;
        let answer = answer.map_err(|error| format!("failed: {error}"))?;
        let response = answer.get("response").filter(|response| !response.is_null());
        let response = response.ok_or("failed: no response provided")?;
        if response.str_at(&["uid"]) != uid {
            let found = response.str_at(&["uid"]);
            return Err(format!("failed: expected response.uid={uid:?}, got {found:?}"));
        }
        if response.str_at(&["result", "status"]) != "Success" {
            let found = response.str_at(&["result", "status"]);
            return Err(match response.str_at(&["result", "message"]) {
                "" => format!("failed: response.result.status was '{found}', not 'Success'"),
                message => format!("failed: {message}"),
            });
        }
        let converted = response.list_at(&["convertedObjects"]);
        if converted.len() != objects.len() {
            let (found, wanted) = (converted.len(), objects.len());
            return Err(format!("returned {found} objects, expected {wanted}"));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs
            .map(|(index, (before, after))| {
                restore(before, after.clone(), kind, to).map_err(|why| {
                    format!("returned invalid converted object at index {index}: {why}")
                })
            })
            .collect()
    }
}

/// Checks that a conversion has changed only what it may, and puts back metadata that is not its
/// business. PURE.
fn restore(
    before: &Value,
    mut after: Value,
    kind: &str,
    to: &GroupVersion,
) -> Result<Value, String> {
    let (wanted, found) = (to.to_string(), after.api_version().to_string());
    if wanted != found {
        return Err(format!("invalid groupVersion (expected {wanted}, received {found})"));
    }
    if after.kind() != kind {
        let found = after.kind();
        return Err(format!("invalid kind (expected {kind}, received {found})"));
    }
    let same = [
        ("name", before.name(), after.name()),
        ("namespace", before.namespace(), after.namespace()),
        ("UID", before.uid(), after.uid()),
    ];
    if let Some((what, before, after)) = same.into_iter().find(|(_, before, after)| before != after)
    {
        return Err(format!("must have the same {what}: {before} != {after}"));
    }
    let mut metadata = before.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for field in ["labels", "annotations"] {
        match after.at(&["metadata", field]).filter(|value| !value.is_null()) {
            Some(value) => {
                let texts = value.as_object().is_some_and(|map| map.values().all(Value::is_string));
                if !texts {
                    return Err(format!("invalid metadata.{field} in converted object"));
                }
                metadata[field] = value.clone();
            }
            None => {
                metadata.remove_at(&[field]);
            }
        }
    }
    after["metadata"] = metadata;
    Ok(after)
}

/// Objects that have been converted for a call, by their revision.
#[derive(Debug, Default)]
pub(crate) struct Converted(Mutex<HashMap<u64, Value>>);

impl Converted {
    /// The object of a record.
    pub(crate) fn get(&self, record: &Record) -> Option<Value> {
        self.0.lock().get(&record.revision).cloned()
    }

    /// Forgets everything: the batch has been shown.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

fn failure(call: &Call, why: &str) -> ApiError {
    let names = &call.kind.names;
    let stored = call.kind.storage.as_ref();
    let version = stored.map_or(names.version.as_str(), |stored| stored.version.as_str());
    let gvk = format!("{}/{version}, Kind={}", names.group, names.kind);
    ApiError::internal(format!("conversion webhook for {gvk} {why}"))
}

/// Converts the records that the call is going to show, where a webhook has to.
///
/// # Errors
/// 500 if the webhook does not convert them.
pub(crate) async fn prepare<'a>(
    server: &Server,
    call: &Call,
    records: impl IntoIterator<Item = &'a Arc<Record>>,
) -> Result<(), ApiError> {
    let Some(converted) = &call.view.converted else { return Ok(()) };
    let Some(known) = server.schemas.definitions.get(&call.kind) else { return Ok(()) };
    let Some(webhook) = &known.webhook else { return Ok(()) };
    let names = &call.kind.names;
    let to = GroupVersion::new(&names.group, &names.version);
    let (mut revisions, mut objects) = (Vec::new(), Vec::new());
    for record in records {
        let mut object = encode::parse(record);
        if object.api_version() == to.to_string() || converted.get(record).is_some() {
            continue;
        }
        let stored = GroupVersion::parse(object.api_version()).unwrap_or_else(|| to.clone());
        known.renew(&mut object, &stored.version);
        revisions.push(record.revision);
        objects.push(object);
    }
    if objects.is_empty() {
        return Ok(());
    }
    // Boxed: few calls need it, and all would carry its size.
    let done = Box::pin(webhook.convert(server, &names.kind, &to, &objects)).await;
    let done = done.map_err(|why| failure(call, &why))?;
    let mut map = converted.0.lock();
    for (revision, mut object) in revisions.into_iter().zip(done) {
        known.prune(&mut object, &names.version);
        map.insert(revision, object);
    }
    Ok(())
}

/// Turns an object of the call's version into the form that is stored.
///
/// # Errors
/// 500 if a webhook has to convert it and does not.
pub(crate) async fn to_storage(
    server: &Server,
    call: &Call,
    object: &mut Value,
) -> Result<(), ApiError> {
    call.kind.to_storage(object);
    let names = &call.kind.names;
    let Some(storage) = call.kind.storage.as_ref().filter(|to| to.version != names.version) else {
        return Ok(());
    };
    let Some(known) = server.schemas.definitions.get(&call.kind) else { return Ok(()) };
    if let Some(webhook) = &known.webhook {
        object["apiVersion"] = call.kind.api_version().into();
        let to = GroupVersion::new(&storage.group, &storage.version);
        let one = std::slice::from_ref(object);
        let done = Box::pin(webhook.convert(server, &names.kind, &to, one)).await;
        let mut done = done.map_err(|why| failure(call, &why))?;
        *object = done.pop().unwrap_or_default();
    }
    known.renew(object, &storage.version);
    Ok(())
}

impl super::definitions::Known {
    /// Drops what a version's schema does not know.
    fn prune(&self, object: &mut Value, version: &str) {
        let Some(version) = self.versions.get(version) else { return };
        if let Ok(decoded) = decode::value(object.clone(), &version.compiled().schema, &LEAVES) {
            *object = decoded.value;
        }
    }

    /// Prunes an object and fills in the defaults of its version.
    fn renew(&self, object: &mut Value, version: &str) {
        self.prune(object, version);
        if let Some(version) = self.versions.get(version) {
            decode::defaults(object, &version.compiled().schema);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_changes_no_more_than_it_may() {
        let to = GroupVersion::new("x.com", "v2");
        let before = json!({"apiVersion": "x.com/v1", "kind": "W",
            "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}, "resourceVersion": "7"}});
        let mut after = json!({"apiVersion": "x.com/v2", "kind": "W", "spec": {},
            "metadata": {"name": "a", "uid": "u", "labels": {"l": "2"}, "generation": 9}});
        let done = restore(&before, after.clone(), "W", &to).expect("it is right");
        assert_eq!(
            done["metadata"],
            json!({"name": "a", "uid": "u", "labels": {"l": "2"}, "resourceVersion": "7"})
        );
        after["metadata"]["name"] = json!("b");
        let why = restore(&before, after.clone(), "W", &to).expect_err("another name");
        assert_eq!(why, "must have the same name: a != b");
        after["apiVersion"] = json!("x.com/v3");
        assert!(restore(&before, after, "W", &to).is_err());
    }
}
