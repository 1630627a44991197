//! Between bytes and objects: where `patch`'s schema table, the registry and requests meet.

use http::HeaderMap;
use kinds::Kind;
use objects::{ApiError, FieldErrors, ObjectExt};
use patch::Schema;
use patch::decode::{self, Leaves};
use serde_json::{Value, json};

use crate::call::Call;
use crate::negotiate::{self, Encoding};
use crate::options::{FieldValidation, WriteOptions};
use crate::server::Server;
use crate::verbs::create;

/// How leaves are read: `objects` knows, `patch` asks.
pub(crate) const LEAVES: Leaves = Leaves {
    quantity: objects::quantity::canonical,
    time: |text| {
        objects::time::parse_time(text)
            .map(objects::time::format_time)
            .map_err(|error| error.to_string())
    },
    micro_time: |text| {
        objects::time::parse_micro_time(text)
            .map(objects::time::format_micro_time)
            .map_err(|error| error.to_string())
    },
};

/// The schemas of what is served: built-in ones are in `patch`, others in their definitions.
#[derive(Default)]
pub struct Schemas {
    /// CustomResourceDefinitions.
    pub(crate) definitions: crate::crd::Definitions,
}

impl Schemas {
    /// No custom resources yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The schema of a kind. `None` for a kind without one, which takes any JSON.
    pub fn of(&self, kind: &Kind) -> Option<Schema> {
        if !kind.schema.is_empty() {
            return patch::schema::builtin(&kind.schema);
        }
        self.definitions.version(kind).map(|version| version.compiled().schema.clone())
    }
}

/// An object as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    /// The object, of the expected type.
    pub object: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Decodes the body of a create or update of the call's own kind.
pub(crate) fn decode_body(
    server: &Server,
    call: &Call,
    body: &[u8],
    options: &WriteOptions,
) -> Result<Decoded, ApiError> {
    let names = &call.kind.names;
    let expected = (names.group.as_str(), names.version.as_str(), names.kind.as_str());
    let schema = server.schemas.of(&call.kind);
    decode_as(&call.headers, body, expected, schema.as_ref(), options.field_validation)
}

/// Decodes a body as an object of a type.
pub(crate) fn decode_as(
    headers: &HeaderMap,
    body: &[u8],
    expected: (&str, &str, &str),
    schema: Option<&Schema>,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let (group, version, kind) = expected;
    let encoding = negotiate::body_encoding(headers, true)?;
    let shown = summary(body);
    let unrecognized = |why: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get \
             version/kind; json parse error: {why} ({shown})"
        ))
    };
    let cannot = |why: &str| {
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    let (mut object, mut issues) = read(encoding, body).map_err(|error| match error {
        ReadError::Syntax(why) => unrecognized(&why),
        ReadError::Protobuf(why) => ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
        )),
    })?;
    if object.is_null() {
        object = json!({});
    }
    if !object.is_object() {
        let found = go_kind(&object);
        return Err(unrecognized(&format!(
            "json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    create::check_type((group, version, kind), &mut object)?;
    if let Some(schema) = schema {
        let decoded =
            decode::value(object, schema, &LEAVES).map_err(|error| cannot(&error.to_string()))?;
        object = decoded.value;
        issues.extend(decoded.issues);
        // What is wrong with the text comes before what is wrong with the fields.
        issues.sort_by_key(|issue| (!issue.starts_with(YAML_ERRORS), issue.clone()));
    }
    object["apiVersion"] = objects::GroupVersion::new(group, version).to_string().into();
    object["kind"] = kind.into();
    let subject = || format!("{kind} in version {version:?} cannot be handled as a {kind}");
    let warnings = judge(&issues, validation, subject)?;
    Ok(Decoded { object, warnings })
}

/// The beginning of a body, for messages; in hexadecimal if it does not look like JSON.
fn summary(body: &[u8]) -> String {
    const MAX: usize = 30;
    let start = &body[..body.len().min(MAX)];
    let shown = match body.first() {
        None => return "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned(),
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > MAX { shown + " ..." } else { shown }
}

/// The beginning of the text of a failure to decode an object of a kind.
pub(crate) fn subject(kind: &Kind) -> String {
    let names = &kind.names;
    format!("{} in version {:?} cannot be handled as a {}", names.kind, names.version, names.kind)
}

/// What becomes of unknown and duplicate fields.
pub(crate) fn judge(
    issues: &[String],
    validation: FieldValidation,
    subject: impl Fn() -> String,
) -> Result<Vec<String>, ApiError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(issues
            .iter()
            .flat_map(|issue| match issue.strip_prefix(YAML_ERRORS) {
                Some(lines) => {
                    lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
                }
                None => vec![issue.as_str()],
            })
            .map(str::to_owned)
            .collect()),
        FieldValidation::Strict if issues.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => Err(ApiError::bad_request(format!(
            "{}: strict decoding error: {}",
            subject(),
            issues.join(", ")
        ))),
    }
}

enum ReadError {
    Syntax(String),
    Protobuf(String),
}

fn read(encoding: Encoding, body: &[u8]) -> Result<(Value, Vec<String>), ReadError> {
    match encoding {
        Encoding::Json => {
            decode::untyped(body).map_err(|error| ReadError::Syntax(error.to_string()))
        }
        Encoding::Yaml => yaml_with_issues(body).map_err(ReadError::Syntax),
        Encoding::Protobuf => protobuf(body).map_err(ReadError::Protobuf),
    }
}

/// Reads Kubernetes protobuf, whose envelope says what it holds.
pub(crate) fn protobuf(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let envelope = patch::protobuf::envelope(body).map_err(|error| error.to_string())?;
    let schema = patch::schema::for_kind(&envelope.api_version, &envelope.kind);
    let schema = schema.ok_or_else(|| {
        format!("no kind {:?} is registered for version {:?}", envelope.kind, envelope.api_version)
    })?;
    let decoded =
        patch::protobuf::decode(body, &schema, &LEAVES).map_err(|error| error.to_string())?;
    let mut object = decoded.value;
    // Options and the like have no place for their type in their own message.
    object["apiVersion"] = envelope.api_version.into();
    object["kind"] = envelope.kind.into();
    Ok((object, decoded.issues))
}

/// Begins the text about keys that appear twice in YAML.
const YAML_ERRORS: &str = "yaml: unmarshal errors:";

/// Reads YAML (of which JSON is a part).
pub(crate) fn yaml(body: &[u8]) -> Result<Value, String> {
    yaml_with_issues(body).map(|(value, _)| value)
}

/// The same; a key that appears twice is an issue, and the last one counts.
fn yaml_with_issues(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    use serde_saphyr::{DuplicateKeyPolicy, Error};
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_string())?;
    let failed = |error: Error| format!("error converting YAML to JSON: yaml: {error}");
    let error = match serde_saphyr::from_str(text) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let Error::DuplicateMappingKey { key, location } = error.without_snippet() else {
        return Err(failed(error));
    };
    let (line, key) = (location.line(), key.as_deref().unwrap_or_default());
    let issue = format!("{YAML_ERRORS}\n  line {line}: key {key:?} already set in map");
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let value = serde_saphyr::from_str_with_options(text, options).map_err(failed)?;
    Ok((value, vec![issue]))
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null | Value::Object(_) => "object",
    }
}

/// Decodes the body of a delete.
pub(crate) fn decode_delete_options(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let encoding = negotiate::body_encoding(headers, true)?;
    let (object, _) = read(encoding, body).map_err(|error| match error {
        ReadError::Syntax(why) => {
            ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
        }
        ReadError::Protobuf(why) => ApiError::bad_request(why),
    })?;
    let kind = object.kind();
    if !kind.is_empty() && kind != "DeleteOptions" {
        let version = object.api_version();
        return Err(ApiError::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    if object.is_object() { Ok(object) } else { Ok(json!({})) }
}

/// Fills in defaults: the schema's, then the kind's own.
pub(crate) fn default(server: &Server, call: &Call, object: &mut Value) {
    if let Some(schema) = server.schemas.of(&call.kind) {
        decode::defaults(object, &schema);
    }
    call.kind.behaviour.default(object);
}

/// Reports violations of a custom resource's schema. Built-in kinds validate in their behaviour.
pub(crate) fn validate_schema(
    server: &Server,
    call: &Call,
    object: &Value,
    old: Option<&Value>,
    errors: &mut FieldErrors,
) {
    if call.kind.definition.is_some() {
        crate::crd::validate(server, call, object, old, errors);
    }
}
