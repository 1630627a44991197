//! AdmissionReviews, and what their answers say. PURE.
//!
//! Source of behaviour: k8s.io/apiserver `pkg/admission/plugin/webhook/{request,errors}`, v1.36.

use base64::Engine as _;
use objects::{ApiError, ObjectExt as _};
use serde_json::{Value, json};

use super::matching::Operation;
use crate::call::Call;

/// The review that a webhook gets.
pub(super) fn review(
    call: &Call,
    uid: &str,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
    dry_run: bool,
) -> Value {
    let names = &call.kind.names;
    let kind = json!({"group": names.group, "version": names.version, "kind": names.kind});
    let resource =
        json!({"group": names.group, "version": names.version, "resource": names.plural});
    let name = match call.name() {
        "" => object.or(old).map_or("", |object| object.name()),
        name => name,
    };
    let mut request = json!({
        "uid": uid,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "operation": operation.as_str(),
        "userInfo": call.user.to_user_info(),
        "object": object,
        "oldObject": old,
        "dryRun": dry_run,
        "options": options(call, operation),
    });
    if !name.is_empty() {
        request["name"] = name.into();
    }
    if !call.path.namespace.is_empty() {
        request["namespace"] = call.path.namespace.as_str().into();
    }
    if !call.path.subresource.is_empty() {
        request["subResource"] = call.path.subresource.as_str().into();
        request["requestSubResource"] = call.path.subresource.as_str().into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

fn options(call: &Call, operation: Operation) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update if call.verb == crate::route::Verb::Patch => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    for field in ["fieldManager", "fieldValidation"] {
        let text = call.query.text(field);
        if !text.is_empty() {
            options[field] = text.into();
        }
    }
    if !call.query.text("dryRun").is_empty() {
        options["dryRun"] = json!([call.query.text("dryRun")]);
    }
    options
}

/// What a webhook decided.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The refusal, if it refused.
    pub(super) refusal: Option<ApiError>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    /// Texts for `Warning` headers.
    pub(super) warnings: Vec<String>,
    /// Audit annotations.
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads an answer; the error is why it cannot be used.
pub(super) fn verdict(webhook: &str, uid: &str, answer: &Value) -> Result<Verdict, String> {
    let version = answer.api_version();
    if version != "admission.k8s.io/v1" || answer.kind() != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, \
             Kind={}",
            answer.kind()
        ));
    }
    let Some(response) = answer.at(&["response"]).filter(|response| response.is_object()) else {
        return Err("webhook response was absent".into());
    };
    let found = response.str_at(&["uid"]);
    if found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let patch = match (response.str_at(&["patchType"]), response.str_at(&["patch"])) {
        (_, "") => None,
        ("JSONPatch", text) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            Some(bytes.map_err(|error| format!("the patch is not base64: {error}"))?)
        }
        (kind, _) => {
            return Err(format!(
                "webhook returned response.patch but not a known patchType: {kind:?}"
            ));
        }
    };
    let warnings = response.list_at(&["warnings"]).iter().filter_map(Value::as_str);
    let annotations = response.map_at(&["auditAnnotations"]).into_iter().flatten();
    Ok(Verdict {
        refusal: (response.bool_at(&["allowed"]) != Some(true))
            .then(|| refusal(webhook, response.at(&["status"]))),
        patch,
        warnings: warnings.map(str::to_owned).collect(),
        annotations: annotations
            .filter_map(|(key, value)| {
                Some((format!("{webhook}/{key}"), value.as_str()?.to_owned()))
            })
            .collect(),
    })
}

/// A refusal in the webhook's words.
fn refusal(webhook: &str, status: Option<&Value>) -> ApiError {
    let none = json!({});
    let status = status.unwrap_or(&none);
    let (message, reason) = (status.str_at(&["message"]), status.str_at(&["reason"]));
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    // A refusal is never a success.
    let code = status.i64_at(&["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let mut error = ApiError::new(code.max(400), reason.to_owned(), message);
    error.details = status.at(&["details"]).cloned();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn refusals_are_told_in_the_webhooks_words() {
        for (status, code, message) in [
            (
                json!({"code": 403, "message": "no"}),
                403,
                "admission webhook \"w\" denied the request: no",
            ),
            (
                json!({"reason": "Because"}),
                400,
                "admission webhook \"w\" denied the request: Because",
            ),
            (
                json!({"code": 200}),
                400,
                "admission webhook \"w\" denied the request without explanation",
            ),
        ] {
            let read = verdict("w", "u", &answer(json!({"uid": "u", "status": status}))).unwrap();
            let refusal = read.refusal.unwrap();
            assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
        }
    }

    #[test]
    fn answers_must_be_whole() {
        let good = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": "W10=",
            "warnings": ["careful"], "auditAnnotations": {"k": "v"}});
        let read = verdict("w", "u", &answer(good.clone())).unwrap();
        assert_eq!(read.patch.as_deref(), Some(&b"[]"[..]));
        assert_eq!(read.annotations, [("w/k".to_owned(), "v".to_owned())]);
        assert!(read.refusal.is_none() && read.warnings == ["careful"]);
        assert!(verdict("w", "other", &answer(good)).is_err());
        assert!(verdict("w", "u", &json!({"kind": "AdmissionReview"})).is_err());
        let odd = json!({"uid": "u", "allowed": true, "patchType": "Odd", "patch": "W10="});
        assert!(verdict("w", "u", &answer(odd)).is_err());
    }
}
