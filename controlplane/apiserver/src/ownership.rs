//! Who owns which field: `managedFields`, and server-side apply.

use http::HeaderMap;
use kinds::Kind;
use objects::{ApiError, GroupVersion, ObjectExt};
use patch::apply::{self, FieldSet, Writer};
use patch::{Schema, decode};
use serde_json::Value;

use crate::call::Call;
use crate::codec::{self, LEAVES};
use crate::options::{FieldValidation, WriteOptions};
use crate::pipeline::{Change, Ownership, Produced, Stored};
use crate::server::Server;
use crate::verbs::{create, patch as patches};

/// The longest field manager taken from a user agent, in bytes.
const MANAGER_MAX: usize = 128;

/// The field manager of a request: the one it names, else its user agent up to the first slash.
pub(crate) fn manager(headers: &HeaderMap, options: &WriteOptions) -> String {
    if !options.field_manager.is_empty() {
        return options.field_manager.clone();
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".to_string() } else { name }
}

fn reset_fields(kind: &Kind, subresource: &str) -> FieldSet {
    let paths: Vec<Vec<&str>> = kind
        .behaviour
        .reset_fields(subresource)
        .iter()
        .map(|path| path.split('.').collect())
        .collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    FieldSet::of_fields(&paths)
}

/// Gives changed fields to the request's manager.
pub(crate) fn track(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    ownership: Ownership,
    new: &mut Value,
    old: Option<&Value>,
) {
    let Some(schema) = server.schemas.of(&call.kind) else { return };
    if ownership != Ownership::Update {
        return;
    }
    let empty;
    let live = match old {
        Some(old) => old,
        None => {
            empty = apply::empty(&schema, &LEAVES);
            &empty
        }
    };
    let writer = Writer {
        manager: &manager(&call.headers, options),
        api_version: &call.kind.api_version(),
        subresource: &call.path.subresource,
        now: &objects::time::format_time(call.now),
        reset_fields: &reset_fields(&call.kind, &call.path.subresource),
    };
    apply::track(live, new, &schema, &writer);
}

/// Gives the fields of a request object of its own type, such as a TokenRequest, to the request's
/// manager.
pub(crate) fn track_request(
    call: &Call,
    options: &WriteOptions,
    object: &mut Value,
    schema: &Schema,
) {
    let api_version = object.api_version().to_string();
    let writer = Writer {
        manager: &manager(&call.headers, options),
        api_version: &api_version,
        subresource: &call.path.subresource,
        now: &objects::time::format_time(call.now),
        reset_fields: &FieldSet::default(),
    };
    apply::track(&apply::empty(schema, &LEAVES), object, schema, &writer);
}

/// Server-side apply of one configuration.
pub(crate) struct Apply {
    config: Value,
    issues: Vec<String>,
    schema: Schema,
    manager: String,
    force: bool,
    validation: FieldValidation,
}

impl Apply {
    /// Prepares a configuration as the client sent it.
    ///
    /// # Errors
    /// 400 for what is no object.
    pub(crate) fn new(
        call: &Call,
        config: Value,
        issues: Vec<String>,
        schema: Option<Schema>,
        options: &WriteOptions,
    ) -> Result<Self, ApiError> {
        let Some(schema) = schema else {
            return Err(ApiError::bad_request("the kind has no schema to apply by"));
        };
        if !config.is_object() {
            return Err(ApiError::bad_request("error decoding YAML: not an object"));
        }
        Ok(Self {
            config,
            issues,
            schema,
            manager: manager(&call.headers, options),
            force: options.force,
            validation: options.field_validation,
        })
    }
}

impl Change for Apply {
    fn produce(&self, call: &Call, old: Option<&Stored>) -> Result<Produced, ApiError> {
        if old.is_none() && !call.path.subresource.is_empty() {
            return Err(call.not_found());
        }
        let names = &call.kind.names;
        let api_version = GroupVersion::new(&names.group, &names.version).to_string();
        let writer = Writer {
            manager: &self.manager,
            api_version: &api_version,
            subresource: &call.path.subresource,
            now: &objects::time::format_time(call.now),
            reset_fields: &reset_fields(&call.kind, &call.path.subresource),
        };
        let empty = apply::empty(&self.schema, &LEAVES);
        let live = old.map_or(&empty, |old| &old.object);
        let applied = apply::apply(live, &self.config, &self.schema, &writer, self.force)
            .map_err(|error| patches::failure(call, &error))?;
        let decoded = decode::value(applied, &self.schema, &LEAVES)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let mut object = decoded.value;
        let expected = (names.group.as_str(), names.version.as_str(), names.kind.as_str());
        create::check_type(expected, &mut object)?;
        let mut issues = self.issues.clone();
        issues.extend(decoded.issues);
        issues.sort();
        let subject = || codec::subject(&call.kind);
        let warnings = codec::judge(&issues, self.validation, subject)?;
        patches::check_identity(call, &object)?;
        Ok(Produced { object, ownership: Ownership::Done, warnings })
    }
}
