//! APIServices: which server answers a group and version.

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::kind::{Behaviour, Cell, WriteContext};

/// The behaviour.
pub(crate) struct ApiService;

impl Behaviour for ApiService {
    fn default(&self, object: &mut Value) {
        if let Some(service) = object.at_mut(&["spec", "service"])
            && service.i64_at(&["port"]).is_none()
        {
            service["port"] = json!(443);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
        // One that this server answers itself is available: there is nothing to reach.
        if object.at(&["spec", "service"]).is_none() {
            object["status"] = json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": object.str_at(&["metadata", "creationTimestamp"]),
            }]});
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        let part = if context.subresource == "status" { "spec" } else { "status" };
        match old.get(part) {
            Some(kept) => new[part] = kept.clone(),
            None => {
                new.remove_at(&[part]);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = FieldPath::new("spec");
        let version = object.str_at(&["spec", "version"]);
        let wanted = format!("{version}.{}", object.str_at(&["spec", "group"]));
        if object.name() != wanted {
            errors.invalid_str(
                &FieldPath::new("metadata").child("name"),
                object.name(),
                &format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"),
            );
        }
        if version.is_empty() {
            errors.required(&spec.child("version"), "");
        }
        check_server(object, &spec, errors);
        let priority = |name: &str| object.i64_at(&["spec", name]).unwrap_or(0);
        let group_priority = priority("groupPriorityMinimum");
        if group_priority <= 0 || group_priority > 20_000 {
            let path = spec.child("groupPriorityMinimum");
            errors.invalid(&path, &json!(group_priority), "must be positive and less than 20000");
        }
        let version_priority = priority("versionPriority");
        if version_priority <= 0 || version_priority > 1000 {
            let path = spec.child("versionPriority");
            errors.invalid(&path, &json!(version_priority), "must be positive and less than 1000");
        }
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_path_segment
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        let service = match object.at(&["spec", "service"]) {
            Some(service) => {
                format!("{}/{}", service.str_at(&["namespace"]), service.str_at(&["name"]))
            }
            None => "Local".into(),
        };
        let conditions = object.list_at(&["status", "conditions"]);
        let available = objects::conditions::get(conditions, "Available");
        let available = available.map_or(String::from("Unknown"), |condition| {
            match (condition.str_at(&["status"]), condition.str_at(&["reason"])) {
                ("True", _) | (_, "") => condition.str_at(&["status"]).to_string(),
                (status, reason) => format!("{status} ({reason})"),
            }
        });
        vec![
            object.name().into(),
            service.into(),
            available.into(),
            object.str_at(&["metadata", "creationTimestamp"]).into(),
        ]
    }
}

/// How another server is reached, or that nothing says so for this one.
fn check_server(object: &Value, spec: &FieldPath, errors: &mut FieldErrors) {
    let bundle = object.str_at(&["spec", "caBundle"]);
    let insecure = object.bool_at(&["spec", "insecureSkipTLSVerify"]).unwrap_or(false);
    let skip = spec.child("insecureSkipTLSVerify");
    let Some(service) = object.at(&["spec", "service"]) else {
        if !bundle.is_empty() {
            let path = spec.child("caBundle");
            errors.invalid_str(&path, "", "local APIServices may not have a caBundle");
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&skip, &json!(true), detail);
        }
        return;
    };
    for field in ["namespace", "name"] {
        if service.str_at(&[field]).is_empty() {
            errors.required(&spec.child("service").child(field), "");
        }
    }
    let port = service.i64_at(&["port"]);
    if let Some(port) = port.filter(|port| !(1..=65535).contains(port)) {
        let path = spec.child("service").child("port");
        errors.invalid(&path, &json!(port), "must be between 1 and 65535, inclusive");
    }
    if insecure && !bundle.is_empty() {
        errors.invalid(&skip, &json!(true), "may not be true if caBundle is present");
    }
}
