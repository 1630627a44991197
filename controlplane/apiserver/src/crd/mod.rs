//! CustomResourceDefinitions as entries of the registry: `version` keeps the schemas, `custom` is
//! the behaviour of what is defined, `install` puts it into the registry, `conditions` gives
//! definitions their status and clears up after them.

mod conditions;
pub(crate) mod convert;
mod custom;
mod definitions;
mod install;
mod version;

use kinds::crd::schema::{Place, check, check_embedded, check_lists, check_update};
use objects::conditions::{self as condition, Condition};
use objects::field::FieldErrorKind;
use objects::{ApiError, FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::call::Call;
use crate::route::Verb;
use crate::server::Server;

pub(crate) use conditions::run;
pub(crate) use definitions::Definitions;
pub(crate) use install::apply;

/// Where definitions are in the store.
const SCOPE: &str = "apiextensions.k8s.io/customresourcedefinitions/";

/// Reports where a custom resource does not fit its schema.
///
/// Source of behaviour: apiextensions-apiserver `pkg/registry/customresource`, v1.36.
pub(crate) fn validate(
    server: &Server,
    call: &Call,
    new: &Value,
    old: Option<&Value>,
    errors: &mut FieldErrors,
) {
    let Some(version) = server.schemas.definitions.version(&call.kind) else { return };
    let compiled = version.compiled();
    let node = &compiled.node;
    let root = FieldPath::root();
    let in_status = call.path.subresource == "status";
    match (old, in_status) {
        (None, _) => check(node, new, &Place::root(), errors),
        (Some(old), false) => check_update(node, new, Some(old), &Place::root(), errors),
        (Some(old), true) => {
            if let (Some(status), Some(node)) = (new.get("status"), node.property("status")) {
                let place = Place::at(FieldPath::new("status"));
                check_update(node, status, old.get("status"), &place, errors);
            }
        }
    }
    if let Some(scale) = call.kind.behaviour.scale() {
        check_scale(new, &scale, in_status, errors);
    }
    if !in_status {
        check_embedded(node, new, &root, errors);
    }
    let mut lists = FieldErrors::default();
    check_lists(node, new, &root, &mut lists);
    let mut before = FieldErrors::default();
    if let Some(old) = old.filter(|_| !lists.is_empty()) {
        check_lists(node, old, &root, &mut before);
    }
    if before.is_empty() {
        errors.extend(lists);
    }
    if compiled.has_rules && blocks_rules(errors) {
        errors.invalid_printed(
            &root,
            "null".into(),
            "some validation rules were not checked because the object was invalid; correct the \
             existing errors to complete validation",
        );
    }
}

/// Whether the object is too broken for rules to be tried on it.
fn blocks_rules(errors: &FieldErrors) -> bool {
    errors.0.iter().any(|error| {
        matches!(
            error.kind,
            FieldErrorKind::NotSupported
                | FieldErrorKind::Required
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooMany
                | FieldErrorKind::TypeInvalid
        )
    })
}

/// The fields that a scale shows must be numbers, and its selector a text.
fn check_scale(
    object: &Value,
    scale: &kinds::ScalePaths,
    in_status: bool,
    errors: &mut FieldErrors,
) {
    if !in_status {
        check_replicas(object, &scale.spec_replicas, errors);
    }
    check_replicas(object, &scale.status_replicas, errors);
    if let kinds::ScaleSelector::Text(path) = &scale.selector
        && let Err(why) = nested(object, path, "string", Value::is_string)
    {
        errors.invalid_str(&dotted(path), "", &why);
    }
}

fn dotted(path: &[String]) -> FieldPath {
    FieldPath::new(&format!(".{}", path.join(".")))
}

fn check_replicas(object: &Value, path: &[String], errors: &mut FieldErrors) {
    let found = nested(object, path, "int64", |value| value.is_i64());
    match found.map(|value| value.and_then(Value::as_i64).unwrap_or(0)) {
        Err(why) => errors.invalid(&dotted(path), &json!(0), &why),
        Ok(count) if count < 0 => {
            errors.invalid(&dotted(path), &json!(count), "should be a non-negative integer");
        }
        Ok(count) if count > i64::from(i32::MAX) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            errors.invalid(&dotted(path), &json!(count), &why);
        }
        Ok(_) => {}
    }
}

/// The value at a path, if it has the right type; else what upstream's accessor says.
fn nested<'a>(
    object: &'a Value,
    path: &[String],
    wanted: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Option<&'a Value>, String> {
    let mut value = object;
    for (depth, name) in path.iter().enumerate() {
        let place = || format!(".{}", path[..=depth].join("."));
        let full = || format!(".{}", path.join("."));
        let Some(map) = value.as_object() else {
            let (printed, kind) = (patch::error::go_print(value), go_type(value));
            return Err(format!(
                "{} accessor error: {printed} is of the type {kind}, expected map[string]interface{{}}",
                place()
            ));
        };
        let Some(next) = map.get(name) else { return Ok(None) };
        if depth + 1 == path.len() && !fits(next) {
            let (printed, kind) = (patch::error::go_print(next), go_type(next));
            return Err(format!(
                "{} accessor error: {printed} is of the type {kind}, expected {wanted}",
                full()
            ));
        }
        value = next;
    }
    Ok(Some(value))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn is_definition(call: &Call) -> bool {
    let names = &call.kind.names;
    names.group == "apiextensions.k8s.io" && names.plural == "customresourcedefinitions"
}

/// Why a verb that custom resources have is not served now: their definition is being deleted.
pub(crate) fn refusal(call: &Call) -> Option<ApiError> {
    if call.kind.definition.is_none() || call.verb != Verb::Create || !call.name().is_empty() {
        return None;
    }
    let why = "create not allowed while custom resource definition is terminating";
    let mut error = ApiError::new(405, "MethodNotAllowed", why);
    let names = &call.kind.names;
    error.details = Some(json!({"group": names.group, "kind": names.plural}));
    Some(error)
}

/// The first deletion of a definition only marks it: its instances go before it.
pub(crate) fn mark_deletion(call: &Call, object: &mut Value) -> bool {
    if !is_definition(call) || !object.deletion_timestamp().is_empty() {
        return false;
    }
    object.set_at(&["metadata", "deletionTimestamp"], json!(objects::time::format_time(call.now)));
    let mut finalizers: Vec<String> = object.finalizers().into_iter().map(str::to_string).collect();
    if finalizers.iter().all(|finalizer| finalizer != kinds::crd::FINALIZER) {
        finalizers.push(kinds::crd::FINALIZER.into());
    }
    object.set_at(&["metadata", "finalizers"], json!(finalizers));
    let mut list = object.list_at(&["status", "conditions"]).to_vec();
    let terminating = Condition {
        kind: "Terminating",
        status: "True",
        reason: "InstanceDeletionPending",
        message: "CustomResourceDefinition marked for deletion; CustomResource deletion will \
                  begin soon",
        observed_generation: 0,
    };
    condition::set(&mut list, &terminating, call.now);
    object.set_at(&["status", "conditions"], Value::Array(list));
    true
}
