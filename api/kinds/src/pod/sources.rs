//! Validation of references to fields and keys, in environment variables and volumes.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::check;
use crate::read::{Read, quantity};

/// Fields of a pod that an environment variable can show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that can be named at all.
const KNOWN_FIELDS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];
/// Resources of a container that can be shown.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Divisors of amounts of bytes.
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Checks a container's `env`.
pub(crate) fn check_env(variables: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    for (index, variable) in variables.iter().enumerate() {
        let here = path.index(index);
        if check::required(errors, variable, &here, "name") {
            let name = variable.text("name");
            check::faults(errors, &here.child("name"), name, names::env_var_name(name));
        }
        if let Some(source) = variable.field("valueFrom") {
            check_env_source(variable, source, &here.child("valueFrom"), errors);
        }
    }
}

fn check_env_source(variable: &Value, source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut count = 0;
    if let Some(field) = source.field("fieldRef") {
        count += 1;
        check_field_ref(field, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = source.field("resourceFieldRef") {
        count += 1;
        check_resource_field_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = source.field(kind) {
            count += 1;
            check_key_ref(key, &path.child(kind), errors);
        }
    }
    if let Some(file) = source.field("fileKeyRef") {
        count += 1;
        check_file_ref(file, &path.child("fileKeyRef"), errors);
    }
    let detail = if count == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` \
         or `fileKeyRef`"
    } else if !variable.text("value").is_empty() {
        "may not be specified when `value` is not empty"
    } else if count > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.invalid_str(path, "", detail);
}

/// Splits `metadata.annotations['a/b']`.
fn subscript(field: &str) -> Option<(&str, &str)> {
    let rest = field.strip_suffix("']")?;
    rest.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// Checks a `fieldRef` that may name only some fields.
pub(crate) fn check_field_ref(
    reference: &Value,
    supported: &[&str],
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if !check::required(errors, reference, path, "apiVersion")
        || !check::required(errors, reference, path, "fieldPath")
    {
        return;
    }
    let here = path.child("fieldPath");
    let (version, field) = (reference.text("apiVersion"), reference.text("fieldPath"));
    let split = subscript(field);
    let fault = match split {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some((path, _)) if !matches!(path, "metadata.annotations" | "metadata.labels") => {
            Some(format!("field label does not support subscript: {field}"))
        }
        None if !KNOWN_FIELDS.contains(&field) => {
            Some(format!("field label not supported: {field}"))
        }
        _ => None,
    };
    if let Some(fault) = fault {
        errors.invalid_str(&here, field, &format!("error converting fieldPath: {fault}"));
        return;
    }
    match split {
        Some(("metadata.annotations", key)) => {
            check::qualified_name(errors, path, &key.to_lowercase());
        }
        Some((_, key)) => check::qualified_name(errors, path, key),
        None if !supported.contains(&field) => {
            errors.not_supported(&here, &json!(field), supported)
        }
        None => {}
    }
}

/// Checks a `resourceFieldRef`; in a volume it has to name the container.
pub(crate) fn check_resource_field_ref(
    reference: &Value,
    in_volume: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let resource = reference.text("resource");
    let huge_pages =
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && reference.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge_pages {
        errors.not_supported(&path.child("resource"), &json!(resource), &RESOURCES);
    }
    let divisor = reference.field("divisor").and_then(quantity).filter(|value| !value.is_zero());
    let Some(divisor) = divisor.map(|value| value.to_string()) else { return };
    let what = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => {
            if divisor != "1" && divisor != "1m" {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid_str(&path.child("divisor"), resource, detail);
            }
            return;
        }
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        Some(_) if huge_pages => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&divisor.as_str()) {
        let list = BYTE_DIVISORS.join(", ");
        let detail = format!("only divisor's values {list} are supported with the {what} resource");
        errors.invalid_str(&path.child("divisor"), resource, &detail);
    }
}

fn check_key_ref(reference: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::subdomain(errors, &path.child("name"), reference.text("name"));
    if check::required(errors, reference, path, "key") {
        check::config_key(errors, &path.child("key"), reference.text("key"));
    }
}

fn check_file_ref(reference: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if check::required(errors, reference, path, "key") {
        let key = reference.text("key");
        check::faults(errors, &path.child("key"), key, names::env_var_name(key));
    }
    if check::required(errors, reference, path, "volumeName") {
        check::label(errors, &path.child("volumeName"), reference.text("volumeName"));
    }
    if check::required(errors, reference, path, "path") {
        check::no_backsteps(errors, &path.child("path"), reference.text("path"));
    }
}

/// Checks a container's `envFrom`.
pub(crate) fn check_env_from(sources: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    for (index, source) in sources.iter().enumerate() {
        let here = path.index(index);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            check::faults(errors, &here.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            if let Some(reference) = source.field(kind) {
                count += 1;
                let here = here.child(kind);
                if check::required(errors, reference, &here, "name") {
                    let name = reference.text("name");
                    let faults = names::name_is_dns_subdomain(name, true);
                    check::faults(errors, &here.child("name"), name, faults);
                }
            }
        }
        if count == 0 {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            errors.invalid_str(path, "", detail);
        } else if count > 1 {
            let detail = "may not have more than one field specified at a time";
            errors.invalid_str(path, "", detail);
        }
    }
}
