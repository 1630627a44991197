//! CertificateSigningRequests: who asks is written by the server, who decides by subresource.
//!
//! Source of behaviour: kubernetes `pkg/registry/certificates/certificates/strategy.go` and
//! `pkg/apis/certificates/validation`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::edit::restore;
use crate::kind::{Behaviour, Cell, WriteContext};

/// The behaviour.
pub(crate) struct CertificateSigningRequest;

/// Conditions that only the approval subresource may add or change.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

impl Behaviour for CertificateSigningRequest {
    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        object.set_at(&["spec", "username"], json!(context.user));
        object.set_at(&["spec", "groups"], json!(context.groups));
        for (field, absent) in [("uid", true), ("extra", context.extra.is_empty())] {
            if absent {
                object.remove_at(&["spec", field]);
            }
        }
        if !context.extra.is_empty() {
            object.set_at(&["spec", "extra"], json!(context.extra));
        }
        object["status"] = json!({});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        restore(new, old, &["spec"]);
        match context.subresource {
            "approval" => {
                let decided = conditions(new, |kind| DECISIONS.contains(&kind));
                let kept = conditions(old, |kind| !DECISIONS.contains(&kind));
                restore(new, old, &["status"]);
                set_conditions(new, [decided, kept].concat());
            }
            "status" => {
                let decided = conditions(old, |kind| DECISIONS.contains(&kind));
                let kept = conditions(new, |kind| !DECISIONS.contains(&kind));
                set_conditions(new, [decided, kept].concat());
            }
            _ => restore(new, old, &["status"]),
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = FieldPath::new("spec");
        if object.str_at(&["spec", "request"]).is_empty() {
            errors.required(&spec.child("request"), "");
        } else if let Some(fault) = request_fault(object) {
            let shown = object.str_at(&["spec", "request"]);
            errors.invalid_str(&spec.child("request"), shown, fault);
        }
        let signer = object.str_at(&["spec", "signerName"]);
        crate::signer::check_name(signer, &spec.child("signerName"), errors);
        if object.list_at(&["spec", "usages"]).is_empty() {
            errors.required(&spec.child("usages"), "");
        }
        let seconds = object.i64_at(&["spec", "expirationSeconds"]);
        if let Some(seconds) = seconds.filter(|seconds| *seconds < 600) {
            let path = spec.child("expirationSeconds");
            errors.invalid(
                &path,
                &json!(seconds),
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
        let has = |kind: &str| !conditions(object, |found| found == kind).is_empty();
        if has("Approved") && has("Denied") {
            let path = FieldPath::new("status").child("conditions");
            errors.invalid_str(
                &path,
                "Denied",
                "Approved and Denied conditions are mutually exclusive",
            );
        }
    }

    /// The name is only a part of a path.
    fn name_check(&self) -> objects::names::NameCheck {
        objects::names::name_is_path_segment
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        match subresource {
            "" => &["spec", "status"],
            "status" => &["spec", "status.conditions"],
            _ => &["spec"],
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.str_at(&["spec", "signerName"]).to_string())]
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Cell> {
        let duration = object.i64_at(&["spec", "expirationSeconds"]);
        let duration = duration.map_or(String::from("<none>"), objects::time::human_duration);
        vec![
            object.name().into(),
            object.str_at(&["metadata", "creationTimestamp"]).into(),
            object.str_at(&["spec", "signerName"]).into(),
            object.str_at(&["spec", "username"]).into(),
            duration.into(),
            state(object).into(),
        ]
    }
}

/// What is wrong with the request as a text; what is in it is the signer's business.
fn request_fault(object: &Value) -> Option<&'static str> {
    use base64::Engine as _;
    let text = object.str_at(&["spec", "request"]);
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let begun = text.contains("-----BEGIN CERTIFICATE REQUEST-----")
        || text.contains("-----BEGIN NEW CERTIFICATE REQUEST-----");
    (!begun).then_some("PEM block type must be CERTIFICATE REQUEST")
}

fn conditions(object: &Value, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let all = object.list_at(&["status", "conditions"]);
    all.iter().filter(|one| wanted(one.str_at(&["type"]))).cloned().collect()
}

fn set_conditions(object: &mut Value, list: Vec<Value>) {
    if list.is_empty() {
        object.remove_at(&["status", "conditions"]);
    } else {
        object.set_at(&["status", "conditions"], Value::Array(list));
    }
}

/// `Pending`, or what was decided, with `,Issued` once there is a certificate.
fn state(object: &Value) -> String {
    let has = |kind: &str| !conditions(object, |found| found == kind).is_empty();
    let mut out = match (has("Denied"), has("Approved")) {
        (true, _) => String::from("Denied"),
        (false, true) => String::from("Approved"),
        (false, false) => String::from("Pending"),
    };
    if has("Failed") {
        out.push_str(",Failed");
    }
    if !object.str_at(&["status", "certificate"]).is_empty() {
        out.push_str(",Issued");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_requester_is_written_by_the_server() {
        let mut object = json!({"spec": {"username": "admin", "groups": ["system:masters"]}});
        let (groups, extra) = (["g".to_string()], BTreeMap::new());
        let context = WriteContext {
            now: Timestamp::UNIX_EPOCH,
            user: "somebody",
            groups: &groups,
            extra: &extra,
            subresource: "",
            fresh_uid: "",
        };
        CertificateSigningRequest.prepare_create(&mut object, &context);
        assert_eq!(object["spec"]["username"], "somebody");
        assert_eq!(object["spec"]["groups"], json!(["g"]));

        let mut decided = object.clone();
        decided["status"] = json!({"conditions": [{"type": "Approved"}], "certificate": "x"});
        let mut by_status = decided.clone();
        let status = WriteContext { subresource: "status", ..context.clone() };
        CertificateSigningRequest.prepare_update(&mut by_status, &object, &status);
        assert_eq!(state(&by_status), "Pending,Issued", "status may not approve");
        let approval = WriteContext { subresource: "approval", ..context };
        CertificateSigningRequest.prepare_update(&mut decided, &object, &approval);
        assert_eq!(state(&decided), "Approved", "approval may not issue");
    }
}
