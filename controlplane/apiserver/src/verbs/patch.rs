//! Changes an object by a patch: JSON patch, merge patch, strategic merge patch, or apply.

use objects::{ApiError, ObjectExt};
use patch::decode;
use patch::{PatchError, Schema, json_patch, merge_patch, strategic};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::codec::{self, LEAVES};
use crate::negotiate;
use crate::options::{FieldValidation, WriteOptions};
use crate::ownership::Apply;
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::server::Server;
use crate::verbs::{create, get};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const APPLY_CBOR: &str = "application/apply-patch+cbor";

/// Whether a call is server-side apply.
pub(crate) fn is_apply(call: &Call) -> bool {
    negotiate::content_type(&call.headers) == APPLY
}

/// Answers a `patch` of an object or of the part that a subresource shows.
pub(crate) async fn patch(server: &Server, call: &Call, body: &[u8]) -> Result<Answer, ApiError> {
    let form = get::form(call)?;
    let patch = Patch::parse(call, body)?;
    let apply = matches!(patch, Patch::Apply(..));
    let options = WriteOptions::parse(&call.query, "PatchOptions", apply)?;
    let schema = server.schemas.of(&call.kind);
    let written = if let Patch::Apply(applied, issues) = patch {
        let change = Apply::new(call, applied, issues, schema, &options)?;
        pipeline::write(server, call, &options, &change).await?
    } else {
        let validation = options.field_validation;
        let change = Patched { patch, schema, validation };
        pipeline::write(server, call, &options, &change).await?
    };
    create::answer(call, form, written)
}

/// A parsed patch, with the issues found in it.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Vec<json_patch::Operation>, Vec<String>),
    /// RFC 7386.
    Merge(Value, Vec<String>),
    /// Kubernetes' own.
    Strategic(Value, Vec<String>),
    /// The applied configuration.
    Apply(Value, Vec<String>),
}

impl Patch {
    /// Reads the patch of a request.
    pub(crate) fn parse(call: &Call, body: &[u8]) -> Result<Self, ApiError> {
        let built_in = call.kind.definition.is_none();
        let failed = |error| failure(call, &error);
        match negotiate::content_type(&call.headers).as_str() {
            JSON => json_patch::parse(body)
                .map(|(patch, issues)| Self::Json(patch, issues))
                .map_err(failed),
            MERGE => merge_patch::parse(body)
                .map(|(patch, issues)| Self::Merge(patch, issues))
                .map_err(failed),
            STRATEGIC if built_in => strategic::parse(body)
                .map(|(patch, issues)| Self::Strategic(patch, issues))
                .map_err(failed),
            APPLY => {
                let (value, issues) = match decode::untyped(body) {
                    Ok(read) => read,
                    Err(_) => {
                        let why = |text: String| {
                            ApiError::bad_request(format!("error decoding YAML: {text}"))
                        };
                        (codec::yaml(body).map_err(why)?, Vec::new())
                    }
                };
                Ok(Self::Apply(value, issues))
            }
            _ if built_in => Err(negotiate::unknown_patch_type()),
            _ => Err(negotiate::unsupported_media_type(&[JSON, MERGE, APPLY, APPLY_CBOR])),
        }
    }

    fn issues(&self) -> &[String] {
        match self {
            Self::Json(_, issues)
            | Self::Merge(_, issues)
            | Self::Strategic(_, issues)
            | Self::Apply(_, issues) => issues,
        }
    }

    /// The patched object, not decoded yet.
    pub(crate) fn apply_to(
        &self,
        object: &Value,
        schema: Option<&Schema>,
    ) -> Result<Value, ApiError> {
        let mut object = object.clone();
        let result = match self {
            Self::Json(operations, _) => json_patch::apply(object, operations),
            Self::Merge(patch, _) => {
                merge_patch::apply(&mut object, patch);
                Ok(object)
            }
            Self::Strategic(patch, _) => match schema {
                Some(schema) => strategic::apply(object, patch, schema),
                None => Err(PatchError::BadRequest("the kind has no schema".into())),
            },
            Self::Apply(applied, _) => {
                merge_patch::apply(&mut object, applied);
                Ok(object)
            }
        };
        result.map_err(|error| plain_failure(&error))
    }
}

/// The object becomes what the patch makes of it.
struct Patched {
    patch: Patch,
    schema: Option<Schema>,
    validation: FieldValidation,
}

impl Change for Patched {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        let Some(old) = old else { return Err(call.not_found()) };
        let patched = self
            .patch
            .apply_to(&old.object, self.schema.as_ref())
            .map_err(|error| named(call, error))?;
        let shown = match &self.patch {
            Patch::Strategic(patch, _) => go_print(patch),
            Patch::Json(..) | Patch::Merge(..) | Patch::Apply(..) => patched.to_string(),
        };
        let wrong = |error: ApiError| rejected(&shown, &error.message);
        let (object, mut issues) =
            decode_patched(call, patched, self.schema.as_ref()).map_err(wrong)?;
        issues.extend(self.patch.issues().iter().cloned());
        issues.sort();
        let subject = || codec::subject(&call.kind);
        let warnings = codec::judge(&issues, self.validation, subject).map_err(wrong)?;
        check_identity(call, &object)?;
        Ok(Produced { object, ownership: Ownership::Update, warnings })
    }
}

/// Puts a patched object into the form of its type.
fn decode_patched(
    call: &Call,
    mut patched: Value,
    schema: Option<&Schema>,
) -> Result<(Value, Vec<String>), ApiError> {
    let names = &call.kind.names;
    let expected = (names.group.as_str(), names.version.as_str(), names.kind.as_str());
    create::check_type(expected, &mut patched)?;
    let Some(schema) = schema else { return Ok((patched, Vec::new())) };
    let decoded = decode::value(patched, schema, &LEAVES)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut object = decoded.value;
    object["apiVersion"] = call.kind.api_version().into();
    object["kind"] = names.kind.clone().into();
    Ok((object, decoded.issues))
}

/// 422 for a patch that makes no object of the type. `shown` is what upstream prints: the patched
/// object, or a strategic patch as Go prints it.
fn rejected(shown: &str, why: &str) -> ApiError {
    // What was wrong, without the beginning that names the type.
    let why = match why.split_once(" cannot be handled as a ") {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, why)| why),
        None => why,
    };
    let mut errors = objects::FieldErrors::default();
    errors.invalid_str(&objects::FieldPath::new("patch"), shown, why);
    let nothing = objects::GroupKind { group: String::new(), kind: String::new() };
    ApiError::invalid(&nothing, "", &errors)
}

/// A value as Go prints maps and slices.
fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", go_print(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// A patch cannot give the object another name or namespace.
pub(crate) fn check_identity(call: &Call, object: &Value) -> Result<(), ApiError> {
    if object.name() != call.name() {
        let sent = object.name();
        let wanted = call.name();
        return Err(ApiError::bad_request(if sent.is_empty() {
            format!(
                "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
            )
        } else {
            format!("the name of the object ({sent}) does not match the name on the URL ({wanted})")
        }));
    }
    create::check_namespace(call, object)
}

fn plain_failure(error: &PatchError) -> ApiError {
    match error {
        PatchError::BadRequest(text) => ApiError::bad_request(text.clone()),
        PatchError::TooLarge(text) => ApiError::new(413, "RequestEntityTooLarge", text.clone()),
        PatchError::Rejected(_) => {
            let mut answer = ApiError::new(422, "Invalid", error.to_string());
            answer.details = Some(json!({}));
            answer
        }
        PatchError::Internal(text) => ApiError::new(500, "", text.clone()),
        PatchError::Conflict(conflicts) => {
            let mut answer = ApiError::new(409, "Conflict", error.to_string());
            let causes: Vec<Value> = conflicts
                .iter()
                .map(|conflict| {
                    json!({
                        "reason": "FieldManagerConflict",
                        "message": conflict.message,
                        "field": conflict.field,
                    })
                })
                .collect();
            answer.details = Some(json!({"causes": causes}));
            answer
        }
    }
}

/// A failure to change this object.
pub(crate) fn failure(call: &Call, error: &PatchError) -> ApiError {
    named(call, plain_failure(error))
}

fn named(_call: &Call, error: ApiError) -> ApiError {
    error
}
