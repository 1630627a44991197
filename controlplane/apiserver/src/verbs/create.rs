//! Creates an object.

use objects::{ApiError, GroupVersion, ObjectExt};
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::codec::{self, Decoded};
use crate::options::WriteOptions;
use crate::pipeline::{self, Change, Ownership, Produced, Stored, Written};
use crate::server::Server;
use crate::verbs::get;

/// Answers a `create` on a collection.
pub(crate) async fn create(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions", false)?;
    let decoded = codec::decode_body(server, call, body, &options)?;
    check_namespace(call, &decoded.object)?;
    // A dry run does not come as far as where this is noticed, upstream.
    let version = decoded.object.resource_version();
    if !version.is_empty() && version != "0" && !options.dry_run {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::new(500, "", why));
    }
    let written = pipeline::write(server, call, &options, &Create(decoded)).await?;
    answer(call, form, written)
}

/// Answers with what was written.
pub(crate) fn answer(
    call: &Call,
    form: crate::negotiate::Form,
    written: Written,
) -> Result<Answer, ApiError> {
    let status = if written.created { 201 } else { 200 };
    let mut answer = get::show(call, form, status, written.object)?;
    answer::warn(&mut answer, &written.warnings);
    Ok(answer)
}

/// A new object is what was sent.
pub(crate) struct Create(pub Decoded);

impl Change for Create {
    fn produce(&self, _call: &Call, _old: Option<&Stored>) -> Result<Produced, ApiError> {
        Ok(Produced {
            object: self.0.object.clone(),
            ownership: Ownership::Update,
            warnings: self.0.warnings.clone(),
        })
    }
}

/// The body's namespace must be the path's, or absent.
pub(crate) fn check_namespace(call: &Call, object: &Value) -> Result<(), ApiError> {
    let namespace = object.namespace();
    if !namespace.is_empty() && call.kind.namespaced() && namespace != call.namespace() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The body's `apiVersion` and `kind` must be the resource's, or absent.
pub(crate) fn check_type(expected: (&str, &str, &str), object: &mut Value) -> Result<(), ApiError> {
    let (group, version, kind) = expected;
    let api_version = GroupVersion::new(group, version).to_string();
    let (sent_version, sent_kind) = (object.api_version().to_string(), object.kind().to_string());
    let registered = |version: &str, kind: &str| patch::schema::for_kind(version, kind).is_some();
    // A custom resource has no kind of its own code that an absent type could stand for.
    let built_in = registered(&api_version, kind);
    if built_in {
        let or = |sent: &str, expected: &str| {
            if sent.is_empty() { expected.to_owned() } else { sent.to_owned() }
        };
        let (found, named) = (or(&sent_version, &api_version), or(&sent_kind, kind));
        if !registered(&found, &named) {
            let short = found.rsplit('/').next().unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "{named} in version {short:?} cannot be handled as a {kind}: no kind {named:?} is \
                 registered for version {found:?} in scheme \
                 \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
    }
    if (!built_in || !sent_version.is_empty()) && sent_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({sent_version}) does not match the expected API version \
             ({api_version})"
        )));
    }
    if !sent_kind.is_empty() && sent_kind != kind {
        return Err(ApiError::bad_request(format!(
            "{sent_kind} in version {version:?} cannot be handled as a {kind}: converting \
             ({version}.{sent_kind}) to ({}.{kind}): unknown conversion",
            if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) }
        )));
    }
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Ok(())
}
